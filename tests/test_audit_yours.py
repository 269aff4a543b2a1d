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
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from tests.conftest import ROOT
from trainers.calls.audit import Audit, audit
from trainers.calls.pitfalls import PITFALLS
from trainers.calls.schedule import Schedule, preview
from trainers.calls.verdict import Verdict
from trainers.errors import ScheduleError
from trainers.torch_objects import schedule_of

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
        f"  (step-after-the-end: get_last_lr() now says {seen.after:.4g}, which no step used)\n"
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
            begun = time.thread_time()  # of this thread alone: the machine may be busy
            optimizer.step()
            taken.append(time.thread_time() - begun)
        if watch is not None:
            watch.end()
        return median(taken)

    cost = min(seconds_a_step(True) - seconds_a_step(False) for _ in range(3))
    assert cost < 0.01 * 0.010


# rates in tensors


def of_two_groups(kind: type[Optimizer], lrs: list[torch.Tensor]) -> Optimizer:
    weights = [torch.ones(2, requires_grad=True) for _ in lrs]
    groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, lrs, strict=True)]
    return kind(groups, lr=0.1)  # type: ignore[call-arg]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_rate_that_is_a_tensor_is_held_to_the_plan_in_its_precision(
    kind: type[Optimizer], dtype: torch.dtype
) -> None:
    optimizer = of_two_groups(kind, [torch.tensor(0.1, dtype=dtype) for _ in range(2)])
    scheduler = OneCycleLR(optimizer, max_lr=[0.4, 0.04], total_steps=T)
    watch = audit(optimizer, scheduler)
    honest(optimizer, scheduler)
    verdict = watch.verdict()
    watch.end()
    assert verdict.passed, verdict.text()
    assert verdict.reasons == ()


def test_a_tensor_that_two_groups_share_is_told() -> None:
    optimizer = of_two_groups(SGD, [torch.tensor(0.1)] * 2)
    scheduler = OneCycleLR(optimizer, max_lr=[0.4, 0.04], total_steps=T)
    watch = audit(optimizer, scheduler)
    honest(optimizer, scheduler)
    verdict = watch.verdict()
    watch.end()
    assert not verdict.passed
    assert "one tensor is the rate of several param groups" in verdict.reasons[0]


def test_a_tensor_that_is_off_by_a_millionth_is_found() -> None:
    optimizer = SGD([torch.ones(2, requires_grad=True)], lr=torch.tensor(0.1), momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=0.4, total_steps=T)
    watch = audit(optimizer, scheduler)
    for number in range(T):
        if number == 7:
            optimizer.param_groups[0]["lr"].mul_(1 + 1e-6)
        step(optimizer)
        scheduler.step()
    verdict = watch.verdict()
    watch.end()
    assert not applied(verdict)["step 8"][2]


# steps that a GradScaler skips


def scaled(
    optimizer: Optimizer, scheduler: OneCycleLR, overflows: set[int], n: int, *, honestly: bool
) -> None:
    """A loop with a real GradScaler, whose gradients overflow in some of its `n` turns."""
    scaler = torch.amp.GradScaler("cpu")
    weight = optimizer.param_groups[0]["params"][0]
    for number in range(n):
        optimizer.zero_grad()
        loss = (weight * (float("inf") if number in overflows else 1.0)).sum()
        scaler.scale(loss).backward()
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if not honestly or scaler.get_scale() >= before:
            scheduler.step()


FUSED = pytest.mark.parametrize("fused", [False, True])


def fused_or_not(fused: bool) -> tuple[Optimizer, OneCycleLR]:
    optimizer = AdamW([torch.ones(2, requires_grad=True)], lr=0.1, fused=fused)
    return optimizer, OneCycleLR(optimizer, max_lr=0.4, total_steps=T)


@pytest.mark.filterwarnings("ignore:Detected call of")
@FUSED
@pytest.mark.parametrize(
    ("overflows", "words"),
    [
        ({0, 1, 2}, "the first 3 steps were skipped, as a GradScaler does"),
        ({0}, "the first step was skipped, as a GradScaler does"),
        ({20, 21, 40}, "than once between 2 pairs of steps: a GradScaler that skips steps"),
        ({30}, "than once between 1 pair of steps"),
        ({58, 59}, "the scheduler moved 2 more times after the last step than once"),
    ],
)
def test_steps_that_a_scaler_skipped_while_the_scheduler_moved_are_told(
    fused: bool, overflows: set[int], words: str
) -> None:
    optimizer, scheduler = fused_or_not(fused)
    watch = audit(optimizer, scheduler)
    scaled(optimizer, scheduler, overflows, T, honestly=False)
    verdict = watch.verdict()
    watch.end()
    n = T - len(overflows)
    assert applied(verdict)["steps"] == (str(n), "60", False)
    assert len(verdict.reasons) == 1
    assert words in verdict.reasons[0]
    assert any("a GradScaler skipped the update of" in text for text in verdict.remarks) == fused


@pytest.mark.filterwarnings("ignore:Detected call of")
@FUSED
def test_a_scheduler_that_waits_for_skipped_steps_passes(fused: bool) -> None:
    optimizer, scheduler = fused_or_not(fused)
    watch = audit(optimizer, scheduler)
    scaled(optimizer, scheduler, {0, 1, 2, 30}, T + 4, honestly=True)
    verdict = watch.verdict()
    watch.end()
    assert verdict.passed, verdict.text()
    assert verdict.reasons == ()
    skipped = "a GradScaler skipped the update of 4 steps, not counted here"
    assert verdict.remarks == ((skipped,) if fused else ())


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize(("fused", "words"), [(True, "skipped every one"), (False, "GradScaler")])
def test_a_training_without_any_update_is_told(fused: bool, words: str) -> None:
    optimizer, scheduler = fused_or_not(fused)
    watch = audit(optimizer, scheduler)
    scaled(optimizer, scheduler, set(range(T)), T, honestly=False)
    verdict = watch.verdict()
    watch.end()
    assert not verdict.passed
    assert words in verdict.reasons[0]


# where the watch begins, and whose turn it is


@pytest.mark.parametrize("n_more", [0, 1, 5])
def test_a_finished_run_that_is_resumed_is_told_in_words(n_more: int) -> None:
    optimizer, scheduler = made()
    honest(optimizer, scheduler)
    kept = optimizer.state_dict(), scheduler.state_dict()
    optimizer, scheduler = made()
    optimizer.load_state_dict(kept[0])
    scheduler.load_state_dict(kept[1])
    watch = audit(optimizer, scheduler)
    for _ in range(n_more):
        step(optimizer)
    verdict = watch.verdict()
    watch.end()
    assert not verdict.passed
    assert applied(verdict)["steps"] == (str(n_more), "0", False)
    assert verdict.reasons == (
        "the plan was over: the scheduler had taken all 60 of its steps when the watch began",
    )


def loaded_after_the_audit() -> Audit:
    optimizer, scheduler = made()
    honest(optimizer, scheduler, 20)
    kept = optimizer.state_dict(), scheduler.state_dict()
    optimizer, scheduler = made()
    watch = audit(optimizer, scheduler)
    optimizer.load_state_dict(kept[0])
    scheduler.load_state_dict(kept[1])
    honest(optimizer, scheduler, 40)
    return watch


def attached_late() -> Audit:
    optimizer, scheduler = made()
    honest(optimizer, scheduler, 20)
    watch = audit(optimizer, scheduler)
    honest(optimizer, scheduler, 40)
    return watch


def attached_before_a_scheduler_step() -> Audit:
    optimizer, scheduler = made()
    honest(optimizer, scheduler, 19)
    step(optimizer)
    watch = audit(optimizer, scheduler)
    scheduler.step()
    honest(optimizer, scheduler, 40)
    return watch


@pytest.mark.parametrize(
    "begun", [loaded_after_the_audit, attached_late, attached_before_a_scheduler_step]
)
def test_a_watch_that_began_late_says_what_it_did_not_read(begun: Callable[[], Audit]) -> None:
    watch = begun()
    verdict = watch.verdict()
    watch.end()
    assert verdict.passed, verdict.text()
    assert applied(verdict)["steps"] == ("40", "40", True)
    assert verdict.remarks == ("the watch began after step 20 of 60: earlier ones were not read",)
    assert verdict.remarks[0] in verdict.text()


def test_a_rate_that_stays_wrong_in_a_resumed_run_is_not_blamed_on_its_state() -> None:
    optimizer, scheduler = made()
    honest(optimizer, scheduler, 20)
    watch = audit(optimizer, scheduler)
    for _ in range(40):
        optimizer.param_groups[0]["lr"] *= 0.5
        step(optimizer)
        scheduler.step()
    verdict = watch.verdict()
    watch.end()
    assert verdict.reasons == ("the scheduler moved as it should: something else sets the rate",)


@pytest.mark.parametrize("n_steps", [5, 70])
def test_a_scheduler_within_a_sequential_one_is_read_in_its_turn(n_steps: int) -> None:
    optimizer, scheduler = made()
    first = ConstantLR(optimizer, 0.1, 5)
    both = SequentialLR(optimizer, [first, scheduler], [10])
    watch = audit(optimizer, scheduler)
    for _ in range(n_steps):
        step(optimizer)
        both.step()
    verdict = watch.verdict()
    watch.end()
    assert verdict.passed == (n_steps == 70), verdict.text()
    before = min(n_steps, 10)
    assert verdict.remarks == (
        f"{before} steps came before the turn of this scheduler, not read here",
    )
    if n_steps == 5:
        assert "it waits in a SequentialLR" in verdict.reasons[0]


def test_a_chained_scheduler_that_changes_the_rate_is_found() -> None:
    optimizer, scheduler = made()
    both = ChainedScheduler([scheduler, ConstantLR(optimizer, 0.1, 5)])
    watch = audit(optimizer, scheduler)
    for _ in range(T):
        step(optimizer)
        both.step()
    verdict = watch.verdict()
    watch.end()
    assert verdict.reasons == ("the scheduler moved as it should: something else sets the rate",)


def test_an_optimizer_that_was_replaced_is_told() -> None:
    optimizer, scheduler = made()
    watch = audit(optimizer, scheduler)
    optimizer.step()  # or torch warns of the wrong order
    watch.end()
    watch = audit(optimizer, scheduler)
    honest(made()[0], scheduler)
    verdict = watch.verdict()
    watch.end()
    assert "while the scheduler moved 60 times: another optimizer" in verdict.reasons[0]


def test_a_step_that_takes_a_closure_is_read_once() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight])
    scheduler = OneCycleLR(optimizer, max_lr=0.4, total_steps=T, cycle_momentum=False)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    watch = audit(optimizer, scheduler)
    for _ in range(T):
        optimizer.step(closure)  # type: ignore[arg-type]
        scheduler.step()
    verdict = watch.verdict()
    watch.end()
    assert verdict.passed, verdict.text()


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_a_position_that_is_no_whole_number_does_not_break_the_training() -> None:
    optimizer, scheduler = made()
    watch = audit(optimizer, scheduler)
    for number in range(T):
        step(optimizer)
        scheduler.step(number + 0.5)  # type: ignore[arg-type]
    assert not watch.verdict().passed
    watch.end()


# objects that wrap others


class Holder:
    """A class of the user's own around a scheduler or an optimizer."""

    def __init__(self, inner: object) -> None:
        self.inner = inner


def test_a_wrapped_scheduler_is_named_as_code_that_works() -> None:
    optimizer, scheduler = made()
    chained = ChainedScheduler([ConstantLR(optimizer, 0.1, 5), scheduler])
    for wrapped, path in (
        (Holder(scheduler), "scheduler.inner"),
        (chained, "scheduler._schedulers[1]"),
        (Holder(chained), "scheduler.inner._schedulers[1]"),
    ):
        with pytest.raises(ScheduleError) as refused:
            audit(optimizer, wrapped)  # type: ignore[arg-type]
        code = f"audit(optimizer, {path})"
        assert str(refused.value).endswith(f"which wraps one: write {code}")
        eval(code, {"audit": audit, "optimizer": optimizer, "scheduler": wrapped}).end()


@pytest.mark.parametrize("made_on", ["optimizer", "wrapper"])
def test_what_accelerate_prepared_is_named_as_code_that_works(made_on: str) -> None:
    accelerator = pytest.importorskip("accelerate").Accelerator(cpu=True)
    optimizer, _ = made()
    optimizer = SGD(optimizer.param_groups[0]["params"], lr=0.1, momentum=0.9)
    wrapped = accelerator.prepare(optimizer)
    owner = optimizer if made_on == "optimizer" else wrapped
    scheduler = OneCycleLR(owner, max_lr=0.4, total_steps=T)
    with pytest.raises(ScheduleError, match=r"write audit\(optimizer\.optimizer, scheduler\)"):
        audit(wrapped, scheduler)
    prepared = accelerator.prepare(scheduler)
    with pytest.raises(ScheduleError) as refused:
        audit(wrapped, prepared)
    code = "audit(optimizer.optimizer, scheduler.scheduler)"
    assert str(refused.value) == (
        f"audit reads OneCycleLR, got AcceleratedScheduler, which wraps one: write {code}"
    )
    watch = eval(code, {"audit": audit, "optimizer": wrapped, "scheduler": prepared})
    for _ in range(T):
        step(wrapped)
        prepared.step()
    assert watch.verdict().passed, watch.verdict().text()
    watch.end()


# the call itself

# name -> arguments of a call whose loop is honest
UNSOUND: dict[str, dict[str, Any]] = {
    "warm-up-skipped": {"pct_start": 0.001},
    "no-anneal": {"pct_start": 0.99},
    "peak-missed": {"total_steps": 5, "pct_start": 0.5},
    "third-phase-cut": {"three_phase": True, "pct_start": 0.5},
    "divisor-below-one": {"div_factor": 0.5},
    "last-rate-misread": {"div_factor": 2.0, "final_div_factor": 5.0},
    "short-warm-up": {"pct_start": 0.05},
}


def judged(name: str, arguments: dict[str, Any]) -> Verdict:
    optimizer, scheduler = made(**arguments)
    watch = audit(optimizer, scheduler)
    with suppress(ZeroDivisionError):
        honest(optimizer, scheduler, scheduler.total_steps)
    watch.end()
    return watch.verdict()


@pytest.mark.parametrize("name", UNSOUND)
def test_an_honest_loop_over_an_unsound_call_is_told_what_is_wrong_with_it(name: str) -> None:
    verdict = judged(name, UNSOUND[name])
    assert verdict.passed
    assert any(f": {name}: " in reason for reason in verdict.reasons), verdict.text()
    assert "every step got its rate, but look at the call itself:\n" in verdict.text()


def test_an_error_of_the_call_is_logged_before_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    audit(*made(pct_start=0.001)).end()
    (record,) = caplog.records
    assert record.getMessage().startswith("error: warm-up-skipped: ")


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_the_call_behind_a_scheduler_is_the_one_that_made_it(
    anneal_strategy: Any, three_phase: bool
) -> None:
    call = Schedule(
        max_lr=0.3,
        total_steps=97,
        pct_start=0.37,
        anneal_strategy=anneal_strategy,
        div_factor=7.7,
        final_div_factor=33.0,
        three_phase=three_phase,
        base_momentum=0.7,
        max_momentum=0.9,
    )
    optimizer = SGD([torch.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    scheduler = call.scheduler(optimizer)
    assert schedule_of(scheduler, optimizer.param_groups[0]) == call


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_the_audit_names_exactly_the_pitfalls_that_the_table_says() -> None:
    texts = [judged(name, arguments).text() for name, arguments in UNSOUND.items()]
    loops = (honest, per_epoch, twice, every_batch_counted, scheduler_first, cut_short, too_many)
    for loop in loops:
        optimizer, scheduler = made()
        watch = audit(optimizer, scheduler)
        with suppress(ValueError):  # torch: Tried to step too many times
            loop(optimizer, scheduler)
        texts.append(watch.verdict().text())
        watch.end()
    watch = resumed(with_optimizer=False)
    texts.append(watch.verdict().text())
    watch.end()
    named = {p.name for p in PITFALLS if any(f"{p.name}: " in text for text in texts)}
    assert named == {p.name for p in PITFALLS if "audit" in p.seen}
