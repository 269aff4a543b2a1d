"""The audit of anybody's loop: an honest one passes, each misuse is named, the cost is small."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from tests.conftest import ROOT
from trainers.calls.audit import Audit, audit
from trainers.calls.schedule import Schedule, preview
from trainers.calls.verdict import Verdict
from trainers.errors import ScheduleError

T = 60


def made(
    kind: type[Optimizer] = SGD, groups: int = 1, **arguments: Any
) -> tuple[Optimizer, OneCycleLR]:
    params = [{"params": [torch.ones(2, requires_grad=True)]} for _ in range(groups)]
    optimizer = kind(params, lr=0.1)  # type: ignore[call-arg]
    return optimizer, OneCycleLR(optimizer, **{"max_lr": 0.4, "total_steps": T} | arguments)


def step(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.ones_like(weight)
    optimizer.step()


def honest(optimizer: Optimizer, scheduler: OneCycleLR, n: int = T) -> None:
    for _ in range(n):
        step(optimizer)
        scheduler.step()


def applied(verdict: Verdict) -> dict[str, tuple[str, str, bool]]:
    return {check.name: (check.applied, check.planned, check.passed) for check in verdict.checks}


@pytest.mark.parametrize("kind", [SGD, AdamW])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"anneal_strategy": "linear", "pct_start": 0.5},
        {"three_phase": True},
        {"cycle_momentum": False},
        {"max_lr": [0.4, 0.04], "base_momentum": [0.8, 0.7]},
        {"pct_start": 1 / 7, "div_factor": 3.3, "final_div_factor": 17.0},
    ],
)
def test_a_loop_as_torch_documents_it_passes(kind: type[Optimizer], arguments: Any) -> None:
    optimizer, scheduler = made(kind, groups=2, **arguments)
    watch = audit(optimizer, scheduler)
    honest(optimizer, scheduler)
    verdict = watch.verdict()
    assert verdict.passed, verdict.text()
    assert verdict.reasons == ()
    watch.end()


def test_the_verdict_is_printed_at_the_end_of_the_block(
    capsys: pytest.CaptureFixture[str],
) -> None:
    optimizer, scheduler = made()
    with audit(optimizer, scheduler):
        honest(optimizer, scheduler)
        assert capsys.readouterr().out == ""
    seen = preview(Schedule(max_lr=0.4, total_steps=T))
    assert capsys.readouterr().out == (
        "audit of OneCycleLR(total_steps=60)\n"
        "                     applied         planned\n"
        "  steps                   60              60  ok\n"
        "  peak rate              0.4             0.4  ok\n"
        "  last rate          1.6e-06         1.6e-06  ok\n"
        f"  mean rate   {seen.mean_lr:>14.6g}  {seen.mean_lr:>14.6g}  ok\n"
        "  momentum      0.85 to 0.95    0.85 to 0.95  ok\n"
        "  every step got its rate\n"
        f"  (get_last_lr() now says {seen.after:.4g}, which no step used)\n"
    )
    honest(*made())  # the optimizer is let go
    assert capsys.readouterr().out == ""


def per_epoch(optimizer: Optimizer, scheduler: OneCycleLR) -> None:
    for _epoch in range(6):
        for _batch in range(10):
            step(optimizer)
        scheduler.step()


def twice(optimizer: Optimizer, scheduler: OneCycleLR) -> None:
    for _ in range(T):
        step(optimizer)
        scheduler.step()
        scheduler.step()


def every_batch_counted(optimizer: Optimizer, scheduler: OneCycleLR) -> None:
    for batch in range(T):
        if batch % 4 == 3:
            step(optimizer)
        scheduler.step()


def scheduler_first(optimizer: Optimizer, scheduler: OneCycleLR) -> None:
    for _ in range(T):
        scheduler.step()
        step(optimizer)


def cut_short(optimizer: Optimizer, scheduler: OneCycleLR) -> None:
    honest(optimizer, scheduler, 20)


def too_many(optimizer: Optimizer, scheduler: OneCycleLR) -> None:
    honest(optimizer, scheduler, 70)


def own_rate(optimizer: Optimizer, scheduler: OneCycleLR) -> None:
    for _ in range(T):
        optimizer.param_groups[0]["lr"] *= 0.5
        step(optimizer)
        scheduler.step()


def skipped(optimizer: Optimizer, scheduler: OneCycleLR) -> None:
    for number in range(T):
        if number not in (20, 30):  # as a GradScaler does where a gradient is not finite
            step(optimizer)
        scheduler.step()


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize(
    ("loop", "differs", "reason"),
    [
        (per_epoch, "peak rate", "stepped-per-epoch: the scheduler moved 5 times in 60 optimizer"),
        (twice, "steps", "stepped-twice: the scheduler moved twice a step"),
        (every_batch_counted, "steps", "the scheduler moved 4 times a step: batches were counted"),
        (scheduler_first, "step 1", "scheduler-before-optimizer: it had moved before the first"),
        (cut_short, "steps", "total-steps-too-big: 20 steps of 60 were taken"),
        (too_many, "steps", "total-steps-too-small: 61 steps were taken, 60 planned"),
        (own_rate, "step 1", "the scheduler moved as it should: something else sets the rate"),
        (skipped, "steps", "between 2 pairs of steps: a GradScaler that skips steps"),
    ],
)
def test_a_misuse_is_named_with_the_numbers_that_show_it(
    loop: Callable[[Optimizer, OneCycleLR], None], differs: str, reason: str
) -> None:
    optimizer, scheduler = made()
    watch = audit(optimizer, scheduler)
    with suppress(ValueError):  # torch: Tried to step too many times
        loop(optimizer, scheduler)
    verdict = watch.verdict()
    watch.end()
    assert not verdict.passed
    assert not applied(verdict)[differs][2]
    assert any(reason in said for said in verdict.reasons), verdict.text()
    assert "this is not the schedule of the call" in verdict.text()


def resumed(*, with_optimizer: bool) -> Audit:
    """A run stopped after 20 steps, gone on with in new objects."""
    optimizer, scheduler = made()
    honest(optimizer, scheduler, 20)
    kept = optimizer.state_dict(), scheduler.state_dict()
    optimizer, scheduler = made()
    if with_optimizer:
        optimizer.load_state_dict(kept[0])
    scheduler.load_state_dict(kept[1])
    watch = audit(optimizer, scheduler)
    honest(optimizer, scheduler, 40)
    return watch


def test_a_resumed_run_is_held_to_the_rest_of_the_plan() -> None:
    watch = resumed(with_optimizer=True)
    assert watch.verdict().passed
    assert applied(watch.verdict())["steps"] == ("40", "40", True)
    watch.end()


def test_a_run_resumed_without_the_optimizers_state_is_named() -> None:
    watch = resumed(with_optimizer=False)
    verdict = watch.verdict()
    watch.end()
    assert any(
        said.startswith("resumed-without-state: the first step ran at 0.016.")
        for said in verdict.reasons
    ), verdict.text()


def test_a_rate_of_the_second_group_and_a_momentum_are_audited_too() -> None:
    optimizer, scheduler = made(groups=2)
    watch = audit(optimizer, scheduler)
    for number in range(T):
        if number == 30:
            optimizer.param_groups[1]["lr"] *= 2
            optimizer.param_groups[0]["momentum"] = 0.5
        step(optimizer)
        scheduler.step()
    found = applied(watch.verdict())
    watch.end()
    assert not found["step 31, group 1"][2]
    assert not found["momentum"][2]


def test_nothing_trained_is_no_schedule() -> None:
    watch = audit(*made())
    verdict = watch.verdict()
    watch.end()
    assert not verdict.passed
    assert verdict.reasons == ("no optimizer step was seen",)


def test_another_scheduler_or_optimizer_is_refused() -> None:
    optimizer, scheduler = made()
    with pytest.raises(ScheduleError, match="audit reads OneCycleLR, got StepLR"):
        audit(optimizer, StepLR(optimizer, 3))
    with pytest.raises(ScheduleError, match="that of the optimizer given, got another one's"):
        audit(made()[0], scheduler)


def test_one_line_in_a_program_prints_at_its_end() -> None:
    source = """
import torch
from trainers.calls.audit import audit
optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=50)
audit(optimizer, scheduler)
for _ in range(50):
    optimizer.step()
    scheduler.step()
print("trained")
"""
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("trained\naudit of OneCycleLR(total_steps=50)\n")
    assert "\n  every step got its rate\n" in done.stdout


def test_the_audit_costs_less_than_1_percent_of_a_step_of_10_ms() -> None:
    def seconds_a_step(watched: bool) -> float:
        optimizer, scheduler = made(AdamW, groups=4, total_steps=10_000)
        watch = audit(optimizer, scheduler) if watched else None
        taken = []
        for _ in range(500):
            begun = time.perf_counter()
            optimizer.step()
            taken.append(time.perf_counter() - begun)
        if watch is not None:
            watch.end()
        return median(taken)

    cost = min(seconds_a_step(True) - seconds_a_step(False) for _ in range(3))
    assert cost < 0.01 * 0.010
