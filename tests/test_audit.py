"""The audit: each way to step a scheduler wrongly is caught, each honest run passes."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from trainers.calls.audit import AuditError, audit_run
from trainers.onecycle import OneCycle
from trainers.run import Outcome, Plan, Point, Run, RunResult
from trainers.sweeps.sweep import Sweep

CYCLE = OneCycle(max_lr=0.4, total_steps=30)
SWEEP = Sweep(start_lr=1e-4, end_lr=1.0, total_steps=30)
PLANS = pytest.mark.parametrize("plan", [CYCLE, SWEEP], ids=["cycle", "sweep"])


def ended(n_steps: int, outcome: Outcome = "completed") -> RunResult:
    score = 0.9 if outcome == "completed" else None
    return RunResult(score=score, outcome=outcome, n_steps=n_steps, n_images=0, seconds=1.0)


def trained(
    plan: Plan, *, n_steps: int = 30, advance: Callable[[int, LRScheduler], None]
) -> list[Point]:
    """The points of a loop that steps a real optimizer, its scheduler by `advance`."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler = plan.scheduler(optimizer)
    points = []
    for step in range(n_steps):
        optimizer.step()
        points.append(Point(step, float(optimizer.param_groups[0]["lr"]), 1.0))
        advance(step, scheduler)
    return points


def once(step: int, scheduler: LRScheduler) -> None:
    if step < 29:
        scheduler.step()


def twice(step: int, scheduler: LRScheduler) -> None:
    if step < 14:
        scheduler.step()
        scheduler.step()


def per_epoch(step: int, scheduler: LRScheduler) -> None:
    if step % 10 == 9:
        scheduler.step()


def skip_first(step: int, scheduler: LRScheduler) -> None:
    if 0 < step < 29:
        scheduler.step()


def skip_last(step: int, scheduler: LRScheduler) -> None:
    if step < 28:
        scheduler.step()


@PLANS
def test_a_run_that_followed_its_plan_passes(plan: Plan) -> None:
    audit_run(plan, trained(plan, advance=once), ended(30))


@PLANS
def test_a_run_that_broke_early_is_held_to_the_steps_it_took(plan: Plan) -> None:
    points = trained(plan, n_steps=12, advance=once)
    broken = [*points[:-1], Point(11, points[-1].lr, math.nan)]
    audit_run(plan, broken, ended(20, "diverged"))
    audit_run(plan, points, ended(12, "stopped"))
    audit_run(plan, broken, ended(30))  # it broke in the last steps, and its loop did not look
    with pytest.raises(AuditError, match="step 3 ran at lr"):
        audit_run(plan, [*points[:3], Point(3, 0.123, 1.0)], ended(20, "diverged"))


@PLANS
@pytest.mark.parametrize("n_steps", [29, 31])
def test_a_run_of_another_length_is_no_result(plan: Plan, n_steps: int) -> None:
    points = trained(plan, n_steps=n_steps, advance=once)
    with pytest.raises(AuditError, match=f"{n_steps} optimizer steps, the plan has 30"):
        audit_run(plan, points, ended(n_steps))


@PLANS
def test_a_broken_run_cannot_have_taken_more_steps_than_its_plan(plan: Plan) -> None:
    points = trained(plan, n_steps=31, advance=once)
    with pytest.raises(AuditError, match="31 steps were reported, the plan has 30"):
        audit_run(plan, points, ended(31, "diverged"))


@PLANS
@pytest.mark.parametrize(
    ("advance", "step"), [(twice, 1), (per_epoch, 1), (skip_first, 1), (skip_last, 29)]
)
def test_a_scheduler_stepped_wrongly_is_found_at_the_first_wrong_rate(
    plan: Plan, advance: Callable[[int, LRScheduler], None], step: int
) -> None:
    points = trained(plan, advance=advance)
    with pytest.raises(AuditError, match=f"step {step} ran at lr .* once per optimizer step"):
        audit_run(plan, points, ended(30))


@PLANS
def test_rates_read_after_the_scheduler_step_are_shifted_by_one(plan: Plan) -> None:
    points = trained(plan, advance=once)
    rates = [point.lr for point in points]
    shifted = [Point(p.step, lr, 1.0) for p, lr in zip(points, [*rates[1:], 0.0], strict=True)]
    with pytest.raises(AuditError, match="step 0 ran at lr"):
        audit_run(plan, shifted, ended(30))


def doubled(points: Sequence[Point]) -> list[Point]:
    return [*points[:5], points[4], *points[5:]]


def dropped(points: Sequence[Point]) -> list[Point]:
    return [*points[:5], *points[6:]]


def replaced(points: Sequence[Point]) -> list[Point]:
    return [*points[:5], points[4], *points[6:]]


def swapped(points: Sequence[Point]) -> list[Point]:
    return [*points[:4], points[5], points[4], *points[6:]]


@PLANS
@pytest.mark.parametrize("spoil", [doubled, dropped, replaced, swapped])
@pytest.mark.parametrize("outcome", ["completed", "diverged"])
def test_steps_reported_twice_never_or_out_of_order_are_found(
    plan: Plan, spoil: Callable[[Sequence[Point]], list[Point]], outcome: Outcome
) -> None:
    points = spoil(trained(plan, advance=once))
    with pytest.raises(AuditError, match="reported"):
        audit_run(plan, points, ended(30, outcome))


@PLANS
def test_nothing_reported_is_no_result(plan: Plan) -> None:
    with pytest.raises(AuditError, match="0 steps were reported, 30 taken"):
        audit_run(plan, [], ended(30))


def test_a_rate_that_is_off_by_a_millionth_is_found() -> None:
    points = trained(CYCLE, advance=once)
    points[7] = Point(7, points[7].lr * (1 + 1e-6), 1.0)
    with pytest.raises(AuditError, match="step 7"):
        audit_run(CYCLE, points, ended(30))


@PLANS
def test_a_momentum_that_is_not_the_plans_is_found_where_the_loop_says_it(plan: Plan) -> None:
    momenta = plan.momenta()
    points = [
        Point(p.step, p.lr, 1.0, momentum=momenta[p.step]) for p in trained(plan, advance=once)
    ]
    audit_run(plan, points, ended(30))
    points[7] = Point(7, points[7].lr, 1.0, momentum=0.9)
    with pytest.raises(AuditError, match=r"step 7 ran at momentum 0\.9, the plan says 0\.8"):
        audit_run(plan, points, ended(30))


def test_a_failed_audit_says_peak_last_and_mean_of_both() -> None:
    points = trained(CYCLE, advance=per_epoch)
    with pytest.raises(AuditError) as caught:
        audit_run(CYCLE, points, ended(30))
    used, due = [p.lr for p in points], CYCLE.lrs()
    assert f"(peak {max(used):.6g} of 0.4, last {used[-1]:.6g} of 1.6e-06, mean " in str(
        caught.value
    )
    assert f"mean {sum(used) / 30:.6g} of {sum(due) / 30:.6g})" in str(caught.value)


@pytest.mark.parametrize("lr", [math.nan, 0.0, -0.1])
def test_a_rate_that_is_no_rate_is_found(lr: float) -> None:
    with pytest.raises(AuditError, match="step 0"):
        audit_run(CYCLE, [Point(0, lr, 1.0)], ended(1, "diverged"))


@PLANS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_loop_whose_rates_are_tensors_is_held_to_the_plan_in_their_precision(
    plan: Plan, dtype: torch.dtype
) -> None:
    points = [
        Point(p.step, float(torch.tensor(p.lr, dtype=torch.float64).to(dtype)), 1.0)
        for p in trained(plan, advance=once)
    ]
    audit_run(plan, points, ended(30))
    points[7] = Point(7, points[7].lr * (1 + 1e-6), 1.0)
    with pytest.raises(AuditError, match="step 7 ran at lr"):
        audit_run(plan, points, ended(30))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_own_loop_whose_optimizer_has_a_tensor_for_its_rate_passes(dtype: torch.dtype) -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=torch.tensor(0.1, dtype=dtype), momentum=0.9)
    scheduler, run = CYCLE.scheduler(optimizer), Run(plan=CYCLE, seed=0)
    for step in range(30):
        run.report(step, 1.0, lrs=[group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        once(step, scheduler)
    run.look()
    audit_run(CYCLE, run.points, ended(30))
