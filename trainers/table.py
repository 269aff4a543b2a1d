"""A trainer that looks results up instead of training: a search is then judged without a GPU."""

import math
import time
from collections.abc import Sequence
from random import Random
from typing import Protocol

from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Outcome, Run, RunResult

_SECONDS_PER_STEP = 2.5e-4  # pretended: what a table costs says nothing


class Table(Protocol):
    """What a TableTrainer looks up; each answer is a function of its arguments alone."""

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        """Return the scores of one cycle on the validation and the test split."""

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        """Return the losses of one sweep, one for each rate until training breaks (NaN)."""


class TableTrainer:
    """Reports every step of a run as a training loop does, with what a table says."""

    def __init__(
        self, table: Table, *, batch_size: int, steps_per_epoch: int, sleep_s: float = 0.0
    ) -> None:
        self.table, self.batch_size, self.steps_per_epoch = table, batch_size, steps_per_epoch
        self.sleep_s = sleep_s

    def fit(self, run: Run) -> RunResult:
        """Report every step of the plan, then the scores."""
        plan, lrs = run.plan, run.plan.lrs()
        is_cycle = isinstance(plan, OneCycle)
        losses = [1.0] * len(lrs) if is_cycle else self.table.losses(lrs, seed=run.seed)
        for step, (lr, loss) in enumerate(zip(lrs, losses, strict=False)):
            run.report(step, loss, lrs=[lr])
            if is_cycle and (step + 1) % self.steps_per_epoch == 0:
                run.epoch(epoch_row((step + 1) // self.steps_per_epoch, lr))
            if self.sleep_s:
                time.sleep(self.sleep_s)
            if run.should_stop():
                return self._result(run, "stopped", step + 1)
        run.look()
        if run.diverged():
            return self._result(run, "diverged", len(losses))
        score = sealed = None
        if isinstance(plan, OneCycle):
            epochs = math.ceil(plan.total_steps / self.steps_per_epoch)
            score, sealed = self.table.scores(plan, epochs=epochs, seed=run.seed)
        return self._result(run, "completed", len(losses), score, sealed)

    def _result(
        self,
        run: Run,
        outcome: Outcome,
        n_steps: int,
        score: float | None = None,
        sealed: float | None = None,
    ) -> RunResult:
        return RunResult(
            score=score,
            outcome=outcome,
            n_steps=n_steps,
            n_images=n_steps * self.batch_size,
            seconds=n_steps * _SECONDS_PER_STEP,
            sealed_score=sealed if run.sealed_split is not None else None,
        )


def epoch_row(epoch: int, lr: float) -> EpochRow:
    """Return an epoch of which only the number and the last rate mean anything."""
    return EpochRow(
        epoch=epoch,
        lr_first=lr,
        lr_last=lr,
        train_loss=1.0,
        train_accuracy=0.5,
        validation_loss=1.0,
        validation_accuracy=0.5,
        seconds=_SECONDS_PER_STEP,
        images_per_s=1 / _SECONDS_PER_STEP,
    )


class Noise:
    """Draws for one run: the same run draws the same, whoever asks."""

    def __init__(self, cycle: OneCycle, *, epochs: int, seed: int) -> None:
        # Random() of a text hashes it with SHA-512, the same in every process; hash() is salted.
        self._random = Random(
            f"{cycle.max_lr} {cycle.pct_start} {cycle.div_factor} {epochs} {seed}"
        )

    def draw(self, below: float, above: float | None = None) -> float:
        """Return one draw from a normal distribution around 0, with a deviation to each side."""
        drawn = self._random.gauss(0.0, 1.0)
        return drawn * (below if drawn < 0 or above is None else above)
