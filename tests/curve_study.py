"""A loop that writes down what it reports, for tests of learning curves; it trains nothing."""

import math
from typing import ClassVar

from studies.definition import Confirmation, RangeTest, Screening, Space, Study
from trainers.device import Site
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Run, RunResult
from trainers.task import OwnLoop

STEPS_PER_EPOCH, EPOCHS = 30, 5
BREAKS_AT = 1.0
"""The rate at which a cycle breaks."""


class Loop:
    """Reports every step, and of epochs what its class says; `seen` has each cycle's losses."""

    seen: ClassVar[list[tuple[float, list[float]]]] = []

    def __init__(self, site: Site) -> None:
        self.site = site

    def fit(self, run: Run) -> RunResult:
        losses: list[float] = []
        error = None
        if isinstance(run.plan, OneCycle):  # the warm-up is a sweep
            self.seen.append((run.plan.max_lr, losses))
            error = 10.0 + abs(math.log(run.plan.max_lr / 0.3)) + run.seed % 10 / 100
        for step, lr in enumerate(run.plan.lrs()):
            loss = 3 * math.exp(-step / 40) + 0.1 * math.sin(step + run.seed % 10)
            losses.append(loss if lr < BREAKS_AT else math.nan)
            run.report(step, losses[-1], lrs=[lr])
            if run.should_stop():
                break
            if (step + 1) % STEPS_PER_EPOCH == 0:
                self.end_epoch(run, (step + 1) // STEPS_PER_EPOCH)
        run.look()
        return RunResult(
            score=None if run.diverged() else error,
            outcome="diverged" if run.diverged() else "completed",
            n_steps=len(losses),
            n_images=len(losses) * 10,
            seconds=0.1,
        )

    def end_epoch(self, run: Run, epoch: int) -> None:
        """Report nothing of an epoch."""


class Counting(Loop):
    """A loop that counts its epochs from 0, and reports no validation loss."""

    seen: ClassVar[list[tuple[float, list[float]]]] = []

    def end_epoch(self, run: Run, epoch: int) -> None:
        """Report the score alone: NaN is what it does not compute."""
        run.epoch(EpochRow(epoch=epoch - 1, validation_accuracy=100.0 / epoch))


def study(loop: type[Loop]) -> Study:
    """Return a study of an error, in which rates of 1 and above break."""
    return Study(
        name=loop.__name__.lower(),
        task=OwnLoop(factory=loop, batch_size=10, steps_per_epoch=STEPS_PER_EPOCH),
        screening=Screening(n_trials=8, epochs=EPOCHS, exact=True, sampler="qmc"),
        space=Space(max_lr=(0.05, 3.0)),
        range_test=RangeTest(n_sweeps=0),
        confirmation=Confirmation(n_finalists=2, n_seeds=3),
        direction="minimize",
        metric="error",
        diverged_value=1000.0,
    )
