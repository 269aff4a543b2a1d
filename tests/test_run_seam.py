"""The seam: a training loop of somebody else's, as short as the documentation shows it."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainers.calls.audit import audit_run
from trainers.checkpoint import Checkpoint
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Outcome, Point, Run, RunResult
from trainers.sweeps.judgement import judge
from trainers.sweeps.sweep import LRCurve, Sweep


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


class Averaged:
    """A user's own loop that keeps averaged weights and the best seen so far in its checkpoint."""

    def fit(self, run: Run) -> RunResult:
        torch.manual_seed(run.seed)
        x = torch.randn(256, 8)
        y = x.sum(1, keepdim=True)
        self.model = nn.Sequential(nn.Linear(8, 1), nn.Dropout(0.2))
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        scheduler = run.plan.scheduler(optimizer)
        parts = {"model": self.model, "averaged": self.averaged, "optimizer": optimizer}
        step, self.best, self.best_at = 0, math.inf, -1
        if (kept := run.load()) is not None:
            for name, part in (parts | {"scheduler": scheduler}).items():
                part.load_state_dict(kept[name])
            step, (self.best, self.best_at) = kept["step"], kept["best"]
            torch.set_rng_state(kept["generator"])
        while step < run.plan.total_steps and not run.should_stop():
            chosen = torch.randint(256, (32,))
            loss = nn.functional.mse_loss(self.model(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            run.report(step, loss.detach(), lrs=[group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            self.averaged.update_parameters(self.model)
            step += 1
            if step < run.plan.total_steps:
                scheduler.step()
            error = nn.functional.mse_loss(self.averaged(x), y).item()
            if error < self.best:
                self.best, self.best_at = error, step
        states = {name: part.state_dict() for name, part in parts.items()}
        place = {"step": step, "best": (self.best, self.best_at)}
        generator = torch.get_rng_state()
        run.save({**states, "scheduler": scheduler.state_dict(), "generator": generator, **place})
        outcome: Outcome = "completed" if step == run.plan.total_steps else "stopped"
        return RunResult(score=-self.best, outcome=outcome, n_steps=step, n_images=0, seconds=0.0)

    def weights(self) -> dict[str, Tensor]:
        """Everything trained or averaged, by name."""
        return {**self.model.state_dict(), **self.averaged.state_dict()}


def stopping_after(n_steps: int) -> Callable[[], bool]:
    """Asked once before each step, says yes when `n_steps` were taken."""
    asked = itertools.count()
    return lambda: next(asked) >= n_steps


@pytest.fixture(autouse=True)
def _own_generator() -> object:
    with torch.random.fork_rng(devices=[]):
        yield


def test_a_loop_of_ones_own_trains_under_a_cycle() -> None:
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=100), seed=1)
    result = Regression().fit(run)
    run.look()
    audit_run(run.plan, run.points, result)
    assert len(run.points) == 100
    assert result.score is not None
    assert -result.score < 1e-3 < run.points[0].loss


def test_a_loop_of_ones_own_gets_the_range_test_for_nothing() -> None:
    plan = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=200)
    run = Run(plan=plan, seed=1, split=None)
    result = Regression().fit(run)
    run.look()
    audit_run(plan, run.points, result)
    said = judge(LRCurve.from_points(run.points))
    assert said.ending == "diverged"
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
    assert {(p.lr, p.other_lrs, p.grad_norm) for p in run.points} == {(0.1, (0.2,), 2.0)}


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
    audit_run(run.plan, run.points, result)
    assert result.outcome == "diverged"
    assert run.diverged_at is not None
    assert result.n_steps <= run.diverged_at.step + 16


def test_another_owner_goes_on_with_state_and_points(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.pt")
    plan = OneCycle(max_lr=0.1, total_steps=100)
    first = Run(plan=plan, seed=2**62, checkpoint=checkpoint)
    assert first.load() is None
    for step in range(5):
        norm = None if step else 3.0
        first.report(step, torch.tensor(0.5), lrs=[0.1, 0.2, 0.3], grad_norm=norm)
    first.save({"weights": torch.arange(3), "step": 5})
    second = Run(plan=plan, seed=2**62, checkpoint=checkpoint)
    state = second.load()
    assert state is not None
    assert state["step"] == 5
    assert torch.equal(state["weights"], torch.arange(3))
    assert second.points == first.points
    assert [point.other_lrs for point in second.points] == [(0.2, 0.3)] * 5
    assert Run(plan=plan, seed=3, checkpoint=checkpoint).load() is None


@pytest.mark.parametrize("number", range(4))
def test_averaged_weights_and_the_best_so_far_are_taken_over_bit_for_bit(
    tmp_path: Path, number: int
) -> None:
    plan = OneCycle(max_lr=0.1, total_steps=100)
    undisturbed = Averaged()
    whole = Run(plan=plan, seed=5)
    expected = undisturbed.fit(whole)
    whole.look()
    stop_at = random.Random(number).randrange(1, 100)
    checkpoint = Checkpoint(tmp_path / "run.pt")
    first = Run(plan=plan, seed=5, checkpoint=checkpoint, stop_asked=stopping_after(stop_at))
    assert Averaged().fit(first).n_steps == stop_at
    second = Run(plan=plan, seed=5, checkpoint=checkpoint)
    resumed = Averaged()
    assert resumed.fit(second) == expected, stop_at
    second.look()
    assert second.points == whole.points, stop_at
    assert (resumed.best, resumed.best_at) == (undisturbed.best, undisturbed.best_at)
    weights = resumed.weights()
    assert int(weights["n_averaged"]) == 100
    assert all(torch.equal(w, weights[name]) for name, w in undisturbed.weights().items()), stop_at


def epoch_row(number: int, accuracy: float = 0.5) -> EpochRow:
    return EpochRow(number, 0.1, 0.2, 1.0, 0.5, 1.5, accuracy, 2.0, 100.0)


def test_epochs_before_a_checkpoint_are_reported_again(tmp_path: Path) -> None:
    plan, checkpoint = OneCycle(max_lr=0.1, total_steps=100), Checkpoint(tmp_path / "run.pt")
    lost: list[EpochRow] = []  # the owner was killed before it wrote them
    first = Run(plan=plan, seed=1, checkpoint=checkpoint, on_epoch=lost.append)
    first.epoch(epoch_row(1, accuracy=np.float64(0.25)))
    first.epoch(epoch_row(2))
    first.report(0, 0.5, lrs=[0.1], grad_norm=np.float64(2.0))
    first.save({"step": 20})
    written: list[EpochRow] = []
    second = Run(plan=plan, seed=1, checkpoint=checkpoint, on_epoch=written.append)
    assert second.load() == {"step": 20}
    assert written == lost == [epoch_row(1, accuracy=0.25), epoch_row(2)]
    second.epoch(epoch_row(3))
    second.save({"step": 30})
    third = Run(plan=plan, seed=1, checkpoint=checkpoint)
    third.load()
    assert [row.epoch for row in third.epochs] == [1, 2, 3]
    assert third.points == [Point(0, 0.1, 0.5, 2.0)]
    third.start_over()
    assert (third.points, third.epochs) == ([], [])


def test_a_broken_run_keeps_the_state_it_had_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.pt")
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=100), seed=1, checkpoint=checkpoint)
    run.report(0, torch.tensor(0.5), lrs=[0.1])
    run.save({"step": 1})
    run.report(1, torch.tensor(math.nan), lrs=[0.1])
    run.save({"step": 2})
    assert Run(plan=run.plan, seed=1, checkpoint=checkpoint).load() == {"step": 1}


def test_a_run_that_was_taken_over_leaves_the_checkpoint_to_its_new_owner(tmp_path: Path) -> None:
    checkpoint, plan = Checkpoint(tmp_path / "run.pt"), OneCycle(max_lr=0.1, total_steps=100)
    Run(plan=plan, seed=1, checkpoint=checkpoint).save({"step": 9})
    Run(plan=plan, seed=1, checkpoint=checkpoint, is_lost=lambda: True).save({"step": 2})
    assert Run(plan=plan, seed=1, checkpoint=checkpoint).load() == {"step": 9}


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


def test_a_run_knows_by_name_what_the_study_tries_in_it() -> None:
    plan = OneCycle(max_lr=0.1, total_steps=10)
    run = Run(plan=plan, seed=1, params={"batch_size": 64, "dropout": 0.2})
    assert (run.batch_size, run.weight_decay, run.params["dropout"]) == (64, None, 0.2)
    own = Run(plan=plan, seed=1)
    assert (own.batch_size, own.weight_decay, dict(own.params)) == (None, None, {})
    with pytest.raises(AttributeError):
        run.batch_size = 32  # type: ignore[misc]
