"""The lint: each pitfall that a call shows is built with real torch and caught."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict
from random import Random
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from trainers.calls.lint import Call, Finding, errors, lint
from trainers.calls.pitfalls import PITFALLS
from trainers.calls.schedule import Schedule, Steps, rate_at
from trainers.errors import ScheduleError


def trained(n_steps: int, *, momentum: float = 0.9, **arguments: Any) -> list[dict[str, Any]]:
    """The param group as each optimizer step of a real loop found it."""
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=momentum)
    scheduler = OneCycleLR(optimizer, **{"max_lr": 1.0, "total_steps": 100} | arguments)
    seen = []
    for _ in range(n_steps):
        weight.grad = torch.ones(1)
        seen.append(dict(optimizer.param_groups[0]))
        optimizer.step()
        scheduler.step()
    return seen


def lrs(n_steps: int = 100, **arguments: Any) -> list[float]:
    return [group["lr"] for group in trained(n_steps, **arguments)]


def raises(error: type[Exception], n_steps: int = 100, **arguments: Any) -> bool:
    with pytest.raises(error):
        trained(n_steps, **arguments)
    return True


Harm = Callable[[], bool]
# name, severity, arguments of the call, what surrounds it, the harm that torch does, the number
MISTAKES: list[tuple[str, str, dict[str, Any], dict[str, Any], Harm, str]] = [
    (
        "total-steps-too-big",
        "error",
        {"total_steps": 100},
        {"steps": Steps(total_steps=100, epochs=5, dataset_size=40, batch_size=4)},
        lambda: lrs(50)[-1] > 0.8,
        "50 of 100 are taken, the last at 0.812 (0.812 max_lr) instead of 4e-06",
    ),
    (
        "total-steps-too-big",
        "error",
        {"total_steps": 100},
        {
            "steps": Steps(
                epochs=10, steps_per_epoch=10, dataset_size=40, batch_size=4, accumulate=4
            )
        },
        lambda: max(lrs(30)) <= 1.0 and lrs(30)[-1] > 0.99,
        "30 of 100 are taken, the last at 1 (1 max_lr)",
    ),
    (
        "total-steps-too-small",
        "error",
        {"total_steps": 100},
        {"steps": Steps(epochs=10, steps_per_epoch=10, dataset_size=50, batch_size=4)},
        lambda: raises(ValueError, n_steps=130),
        "130 are taken of 100, and torch raises after step 101",
    ),
    (
        "warm-up-skipped",
        "error",
        {"pct_start": 0.005},
        {},
        lambda: lrs(pct_start=0.005)[0] > 0.99,
        "0.005 x 100 = 0.5 steps, so the first rate is 1 (1 max_lr) instead of max_lr/25",
    ),
    (
        "warm-up-skipped",
        "error",
        {"pct_start": 0.01},
        {},
        lambda: raises(ZeroDivisionError, pct_start=0.01),
        "0.01 x 100 = 1 step, and torch divides by zero",
    ),
    (
        "warm-up-skipped",
        "error",
        {"pct_start": 0},
        {},
        lambda: raises(ValueError, pct_start=0),
        "pct_start=0 is no float, and torch raises ValueError",
    ),
    (
        "no-anneal",
        "error",
        {"pct_start": 1.0},
        {},
        lambda: lrs(99, pct_start=1.0)[-1] > 0.99 and raises(ZeroDivisionError, pct_start=1.0),
        "leave 0, and the step before the last still gets 1 (1 max_lr)",
    ),
    (
        "peak-missed",
        "warning",
        {"total_steps": 5, "pct_start": 0.5},
        {},
        lambda: max(lrs(5, total_steps=5, pct_start=0.5)) < 0.99,
        "0.5 x 5 = 2.5 steps, and the highest rate is 0.905",
    ),
    (
        "third-phase-cut",
        "error",
        {"three_phase": True, "pct_start": 0.6},
        {},
        lambda: lrs(three_phase=True, pct_start=0.6)[-1] > 0.2,
        "two phases of 60 steps in 100 leave 0, and the last two rates are 0.287",
    ),
    (
        "third-phase-cut",
        "error",
        {"three_phase": True, "pct_start": 0.5},
        {},
        lambda: (
            lrs(three_phase=True, pct_start=0.5)[-1]
            < lrs(three_phase=True, pct_start=0.5)[-2] / 1000
        ),
        "leave 1, and the last two rates are 0.04",
    ),
    (
        "divisor-below-one",
        "error",
        {"div_factor": 0.5},
        {},
        lambda: lrs(div_factor=0.5)[0] == 2.0,
        "div_factor=0.5 starts at 2 (2 max_lr)",
    ),
    (
        "divisor-below-one",
        "error",
        {"div_factor": 0.0},
        {},
        lambda: raises(ZeroDivisionError, div_factor=0.0),
        "div_factor=0: torch divides by zero",
    ),
    (
        "divisor-below-one",
        "error",
        {"final_div_factor": 0.01},
        {},
        lambda: lrs(final_div_factor=0.01)[-1] > 3.9,
        "final_div_factor=0.01 ends at 4 (4 max_lr)",
    ),
    (
        "divisor-below-one",
        "warning",
        {"final_div_factor": 1.0},
        {},
        lambda: lrs(final_div_factor=1.0)[-1] == pytest.approx(lrs(final_div_factor=1.0)[0]),
        "final_div_factor=1 ends at 0.04 (0.04 max_lr), not below the first rate",
    ),
    (
        "last-rate-misread",
        "warning",
        {"div_factor": 2.0, "final_div_factor": 5.0},
        {},
        lambda: lrs(div_factor=2.0, final_div_factor=5.0)[-1] == pytest.approx(0.1),
        "the last rate is 0.1 (0.1 max_lr)",
    ),
    (
        "last-rate-misread",
        "note",
        {"final_div_factor": 1e5},
        {},
        lambda: lrs(final_div_factor=1e5)[-1] == pytest.approx(1 / 2.5e6),
        "the last rate is 4e-07 = max_lr / 2,500,000, not max_lr / 100,000",
    ),
    (
        "optimizer-lr-overwritten",
        "note",
        {},
        {"optimizer_lrs": (0.1,)},
        lambda: lrs()[0] == pytest.approx(0.04),
        "lr=0.1 becomes 0.04 (0.04 max_lr), and max_lr=1 is the peak",
    ),
    (
        "optimizer-lr-overwritten",
        "warning",
        {},
        {"optimizer_lrs": (0.1, 0.01)},
        lambda: flattened([0.1, 0.01]) == pytest.approx([0.04, 0.04]),
        "0.1 and 0.01 all become 0.04",
    ),
    (
        "momentum-overwritten",
        "warning",
        {},
        {"optimizer_momentum": 0.0},
        lambda: trained(1, momentum=0.0)[0]["momentum"] == 0.95,
        "0 becomes 0.95, and 0.85 at the peak",
    ),
    (
        "momentum-overwritten",
        "note",
        {},
        {"optimizer_momentum": 0.9},
        lambda: trained(1, momentum=0.9)[0]["momentum"] == 0.95,
        "0.9 becomes 0.95, and 0.85 at the peak",
    ),
    (
        "short-warm-up",
        "note",
        {"pct_start": 0.05},
        {},
        lambda: (
            max(
                b / a
                for a, b in zip(lrs(pct_start=0.05)[:4], lrs(pct_start=0.05)[1:], strict=False)
            )
            > 4
        ),
        "5 of 100 steps warm up, and the rate grows up to 4.5-fold in one",
    ),
    (
        "batch-size-as-steps",
        "note",
        {"total_steps": 12_800},
        {"steps": Steps(epochs=100, steps_per_epoch=128)},
        lambda: len(list(torch.utils.data.DataLoader(range(50_000), batch_size=128))) == 391,  # type: ignore[arg-type]
        "steps_per_epoch=128 looks like one",
    ),
]


def flattened(rates: list[float]) -> list[float]:
    """The rates of an optimizer's param groups after one max_lr was given for all."""
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in rates]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    OneCycleLR(optimizer, max_lr=1.0, total_steps=100)
    return [group["lr"] for group in optimizer.param_groups]


def found(arguments: dict[str, Any], around: dict[str, Any]) -> list[Finding]:
    return lint(
        Call(schedule=Schedule(**{"max_lr": 1.0, "total_steps": 100} | arguments), **around)
    )


@pytest.mark.parametrize(
    ("name", "severity", "arguments", "around", "harm", "number"),
    MISTAKES,
    ids=[f"{m[0]}-{i}" for i, m in enumerate(MISTAKES)],
)
def test_a_mistake_that_harms_a_real_loop_is_caught_with_the_number_that_shows_it(
    name: str,
    severity: str,
    arguments: dict[str, Any],
    around: dict[str, Any],
    harm: Harm,
    number: str,
) -> None:
    assert harm()
    findings = found(arguments, around)
    (finding,) = [f for f in findings if f.pitfall.name == name]
    assert finding.severity == severity
    assert number in finding.number
    line = finding.line()
    assert line.startswith(f"{severity}: {name}: ")
    assert finding.pitfall.why in line
    assert line.endswith(".")
    assert "\n" not in line
    assert {f.pitfall.name for f in findings} <= {name, "short-warm-up"}


def test_every_pitfall_that_a_plan_shows_is_among_the_mistakes() -> None:
    assert {m[0] for m in MISTAKES} == {p.name for p in PITFALLS if "plan" in p.seen}
    assert [p.number for p in PITFALLS] == list(range(1, len(PITFALLS) + 1))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m[0])
def test_writing_what_the_lint_says_heals_the_call(mistake: tuple[Any, ...]) -> None:
    name, _, arguments, around, _, _ = mistake
    (finding,) = [f for f in found(arguments, around) if f.pitfall.name == name]
    advice = re.findall(r"(pct_start|div_factor|final_div_factor)=([\d.,]+\d)", finding.instead)
    if not advice:
        assert re.search(
            r"total_steps=|steps_per_epoch=|momentum|max_lr|pct_start|longer", finding.instead
        )
        return
    ((argument, value),) = advice
    healed = arguments | {argument: float(value.replace(",", ""))}
    assert name not in {f.pitfall.name for f in found(healed, around)}


def valid_schedules(n: int, seed: int) -> list[Schedule]:
    """Random sound calls, in closed form: at least 50 steps, 10 to warm up, 5 to anneal."""
    random, schedules = Random(seed), []
    while len(schedules) < n:
        total_steps = round(math.exp(random.uniform(math.log(50), math.log(100_000))))
        pct_start = random.uniform(0.02, 0.9)
        if pct_start * total_steps >= 10 and (1 - pct_start) * total_steps >= 5:
            schedules.append(
                Schedule(
                    max_lr=math.exp(random.uniform(math.log(1e-5), math.log(10))),
                    total_steps=total_steps,
                    pct_start=pct_start,
                    div_factor=math.exp(random.uniform(math.log(1.5), math.log(100))),
                )
            )
    return schedules


def test_200_random_valid_schedules_raise_nothing() -> None:
    for schedule in valid_schedules(200, seed=0):
        steps = Steps(
            total_steps=schedule.total_steps, epochs=1, steps_per_epoch=schedule.total_steps
        )
        around = {"steps": steps, "optimizer_lrs": (schedule.max_lr,), "optimizer_momentum": 0.95}
        assert lint(Call(schedule=schedule, **around)) == [], schedule  # type: ignore[arg-type]


def test_the_worst_comes_first() -> None:
    around: dict[str, Any] = {"optimizer_lrs": (0.1,), "optimizer_momentum": 0.0}
    around["steps"] = Steps(total_steps=100, epochs=1, steps_per_epoch=50)
    assert [f.severity for f in found({}, around)] == ["error", "warning", "note"]
    assert [
        f.pitfall.name
        for f in errors(Call(schedule=Schedule(max_lr=1.0, total_steps=100), **around))
    ] == ["total-steps-too-big"]


def test_a_very_long_cycle_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(
        "trainers.calls.lint.rate_at", lambda s, step: read.append(step) or rate_at(s, step)
    )
    assert lint(Call(schedule=Schedule(max_lr=1.0, total_steps=10**9))) == []
    assert len(read) < 10


# advice

Calls = list[tuple[dict[str, Any], dict[str, Any]]]


def calls_of_every_shape() -> Calls:
    """Calls without and with a flaw, and what surrounds them."""
    totals = [*range(1, 14), 20, 40, 50, 97, 100, 1000]
    shares: list[float] = [0, 1, 0.0, 0.001, 0.01, 0.1, 0.2, 0.25, 0.3, 0.37, 0.45, 0.499]
    shares += [0.5, 0.55, 0.6, 0.75, 0.9, 0.95, 0.99, 1.0]
    return [
        ({"total_steps": total, "pct_start": share, "three_phase": three_phase}, {})
        for total in totals
        for share in shares
        for three_phase in (False, True)
    ]


def calls_of_every_end() -> Calls:
    divisors = [-2.0, 0.0, 1e-9, 0.5, 1.0, 1.001, 3.0, 6.0, 7.0, 25.0, 1e4, 1e5, 1e6, 3e6, 1e9]
    return [
        ({"div_factor": first, "final_div_factor": last}, {})
        for first in divisors
        for last in divisors
    ]


def calls_of_other_lengths() -> Calls:
    """The loop takes more or fewer steps than the call plans."""
    calls: Calls = []
    for taken in (1, 2, 3, 4, 5, 7, 10, 20, 100, 333):
        for planned in (1, 2, 5, 10, 100, 1000):
            for share in (0.001, 0.1, 0.3, 0.5, 0.9):
                given = Steps(total_steps=planned, epochs=1, steps_per_epoch=taken)
                counted = Steps(
                    epochs=1, steps_per_epoch=planned, dataset_size=taken * 4, batch_size=4
                )
                both = {"total_steps": planned, "pct_start": share}
                calls += [(both, {"steps": given}), (both, {"steps": counted})]
    return calls


def calls_of_other_momenta() -> Calls:
    return [
        ({"base_momentum": base}, {"optimizer_momentum": momentum})
        for momentum in (0.0, 1e-7, 0.05, 0.5, 0.85, 0.9, 0.1234567, 0.999)
        for base in (0.0, 0.85, 0.95)
    ]


def healed(
    finding: Finding, arguments: dict[str, Any], around: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The call with the values of the advice, read as Python reads them; None without any."""
    written = re.search(r"rite ((?:\w+=[\w.+-]+(?:, )?)+)(?: |$)", finding.instead + " ")
    if written is None or "len(" in finding.instead:
        return None
    values = eval(f"dict({written[1]})")
    steps = around.get("steps")
    if "steps_per_epoch" in values:
        count = values.pop("steps_per_epoch")
        around = {"steps": Steps(**asdict(steps) | {"steps_per_epoch": count})}
        values["total_steps"] = around["steps"].planned
    elif "total_steps" in values and steps is not None:
        around = {"steps": Steps(**asdict(steps) | {"total_steps": values["total_steps"]})}
    return arguments | values, around


def is_taken_by_torch(arguments: dict[str, Any]) -> bool:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    scheduler = OneCycleLR(optimizer, **{"max_lr": 1.0, "total_steps": 100} | arguments)
    optimizer.step()
    for _ in range(scheduler.total_steps - 1):
        scheduler.step()
    return True


@pytest.mark.parametrize(
    ("calls", "names"),
    [
        (
            calls_of_every_shape,
            {"warm-up-skipped", "no-anneal", "third-phase-cut", "peak-missed"},
        ),
        (calls_of_every_end, {"divisor-below-one", "last-rate-misread"}),
        (calls_of_other_lengths, {"total-steps-too-big", "total-steps-too-small"}),
        (calls_of_other_momenta, {"momentum-overwritten"}),
    ],
)
def test_whatever_is_advised_torch_takes_it_and_the_finding_is_gone(
    calls: Callable[[], Calls], names: set[str]
) -> None:
    applied = set()
    for arguments, around in calls():
        findings = found(arguments, around)
        for finding in findings:
            better = healed(finding, arguments, around)
            if better is None:
                continue
            assert is_taken_by_torch(better[0])
            left = found(*better)
            before = {f.pitfall.name for f in findings if f.severity == "error"}
            after = {f.pitfall.name for f in left if f.severity == "error"}
            assert finding.pitfall.name not in {f.pitfall.name for f in left}, (
                finding,
                arguments,
                better,
                left,
            )
            assert after <= before, (finding, arguments, better)
            applied.add(finding.pitfall.name)
    assert names <= applied


def test_one_step_is_told_to_train_longer() -> None:
    (finding,) = [f for f in found({"total_steps": 1}, {}) if f.pitfall.name == "warm-up-skipped"]
    assert finding.instead == "Write total_steps=10"


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_an_optimizer_that_torch_would_not_make_is_refused(value: float) -> None:
    call = Schedule(max_lr=1.0, total_steps=100)
    with pytest.raises(ScheduleError, match="the optimizer's lr must be a number from 0 up, got"):
        Call(schedule=call, optimizer_lrs=(value,))
    with pytest.raises(ScheduleError, match=r"the optimizer's momentum must lie in \[0, 1\), got"):
        Call(schedule=call, optimizer_momentum=value)
