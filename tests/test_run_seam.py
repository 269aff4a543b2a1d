"""The seam: a training loop of somebody else's, as short as the documentation shows it."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from trainers.audit import audit
from trainers.checkpoint import Checkpoint
from trainers.judgement import judge
from trainers.onecycle import OneCycle
from trainers.run import Outcome, Point, Run, RunResult
from trainers.sweep import LRCurve, Sweep


class Regression:
    """A user's own loop: a line through points; nothing of it comes from this package."""

    def fit(self, run: Run) -> RunResult:
        torch.manual_seed(run.seed)
        model, x = nn.Linear(8, 1), torch.randn(256, 8)
        y = x.sum(1, keepdim=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = run.plan.scheduler(optimizer)
        step = 0
        while step < run.plan.total_steps and not run.should_stop():
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            lrs = [group["lr"] for group in optimizer.param_groups]
            optimizer.step()
            run.report(step, loss, lrs=lrs)
            step += 1
            if step < run.plan.total_steps:
                scheduler.step()
        outcome: Outcome = "diverged" if run.diverged() else "completed"
        score = -loss.item()
        return RunResult(score=score, outcome=outcome, n_steps=step, n_images=0, seconds=0.0)


@pytest.fixture(autouse=True)
def _own_generator() -> object:
    with torch.random.fork_rng(devices=[]):
        yield


def test_a_loop_of_ones_own_trains_under_a_cycle() -> None:
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=100), seed=1)
    result = Regression().fit(run)
    run.look()
    audit(run.plan, run.points, result)
    assert len(run.points) == 100
    assert result.score is not None
    assert -result.score < 1e-3 < run.points[0].loss


def test_a_loop_of_ones_own_gets_the_range_test_for_nothing() -> None:
    plan = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=200)
    run = Run(plan=plan, seed=1, split=None)
    result = Regression().fit(run)
    run.look()
    audit(plan, run.points, result)
    said = judge(LRCurve.from_points(run.points))
    assert said.ending == "rebounded"
    assert said.rebound is not None
    # A quadratic of curvature h is stable under momentum m up to 2 * (1 + m) / h; here h is
    # about 2, and a sweep that passes the limit needs some steps to show it.
    assert 0.5 < said.rebound < 4.0


def test_tensors_are_read_late_and_completely() -> None:
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=100), seed=1)
    losses = [1.0 / (step + 1) for step in range(37)]
    for step, loss in enumerate(losses):
        run.report(step, torch.tensor(loss, requires_grad=True), lrs=[0.1, 0.2], grad_norm=2.0)
        assert len(run.points) == (step + 1) // 16 * 16
    run.look()
    run.look()
    assert [point.step for point in run.points] == list(range(37))
    assert [point.loss for point in run.points] == pytest.approx(losses, rel=1e-6)
    assert {(point.lr, point.grad_norm) for point in run.points} == {(0.1, 2.0)}


@pytest.mark.parametrize(
    "losses",
    [
        [1.5, 2.5, 3.5],
        [torch.tensor(1.5), 2.5, torch.tensor([3.5])],
        [torch.tensor(1.5, dtype=torch.bfloat16), torch.tensor(2.5).double(), 3.5],
    ],
)
def test_a_loss_is_a_number_or_a_tensor_of_one(losses: Sequence[torch.Tensor | float]) -> None:
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=100), seed=1)
    for step, loss in enumerate(losses):
        run.report(step, loss, lrs=[0.1])
    run.look()
    assert run.points == [Point(0, 0.1, 1.5), Point(1, 0.1, 2.5), Point(2, 0.1, 3.5)]


@pytest.mark.parametrize("at", [0, 1, 15, 16, 23, 31, 40])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run_within_16_steps(at: int, value: float) -> None:
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=100), seed=1)
    n_steps = 0
    while not run.should_stop():
        run.report(n_steps, torch.tensor(value if n_steps >= at else 1.0), lrs=[0.1 + n_steps])
        n_steps += 1
    assert at < n_steps <= at + 16
    assert run.diverged_at is not None
    assert (run.diverged_at.step, run.diverged_at.lr) == (at, 0.1 + at)
    assert len(run.points) == at + 1
    assert [point.finite for point in run.points] == [True] * at + [False]


def test_a_loop_of_ones_own_that_explodes_is_a_result() -> None:
    run = Run(plan=OneCycle(max_lr=1e9, total_steps=300), seed=1)
    result = Regression().fit(run)
    run.look()
    audit(run.plan, run.points, result)
    assert result.outcome == "diverged"
    assert run.diverged_at is not None
    assert result.n_steps <= run.diverged_at.step + 16


def test_another_owner_goes_on_with_state_and_points(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.pt")
    plan = OneCycle(max_lr=0.1, total_steps=100)
    first = Run(plan=plan, seed=2**62, checkpoint=checkpoint)
    assert first.load() is None
    for step in range(5):
        first.report(step, torch.tensor(0.5), lrs=[0.1], grad_norm=None if step else 3.0)
    first.save({"weights": torch.arange(3), "step": 5})
    second = Run(plan=plan, seed=2**62, checkpoint=checkpoint)
    state = second.load()
    assert state is not None
    assert state["step"] == 5
    assert torch.equal(state["weights"], torch.arange(3))
    assert second.points == first.points
    assert len(second.points) == 5
    assert Run(plan=plan, seed=3, checkpoint=checkpoint).load() is None


def test_a_broken_run_keeps_the_state_it_had_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.pt")
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=100), seed=1, checkpoint=checkpoint)
    run.report(0, torch.tensor(0.5), lrs=[0.1])
    run.save({"step": 1})
    run.report(1, torch.tensor(math.nan), lrs=[0.1])
    run.save({"step": 2})
    assert Run(plan=run.plan, seed=1, checkpoint=checkpoint).load() == {"step": 1}


def test_a_run_without_a_checkpoint_saves_nothing_and_starts_over() -> None:
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=100), seed=1)
    run.save({"step": 1})
    assert run.load() is None
    assert not run.should_stop()


def test_a_run_stops_when_it_is_asked_to() -> None:
    asked = [False]
    plan = OneCycle(max_lr=0.1, total_steps=100)
    run = Run(plan=plan, seed=1, stop_asked=lambda: asked[0])
    assert not run.should_stop()
    asked[0] = True
    assert run.should_stop()
    assert not run.diverged()
