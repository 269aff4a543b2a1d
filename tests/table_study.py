"""A study whose trainer looks results up instead of training: for tests of the search itself."""

import math
import os
import time
from pathlib import Path
from random import Random

from studies.definition import Confirmation, RangeTest, Screening, Study
from trainers.device import Site
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Run, RunResult
from trainers.task import OwnLoop

SLEEP_S = float(os.environ.get("TABLE_SLEEP_S", "0"))
BEST_LR = 0.2
STEPS_PER_EPOCH = 10


class Table:
    """Losses of a sweep and scores of a cycle in closed form, with the noise of the run's seed."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def facts(self) -> dict[str, str]:
        """Say what the tests may change by the environment."""
        return {"table": os.environ.get("TABLE_FACT", "1")}

    def fit(self, run: Run) -> RunResult:
        """Report every step of the plan and return the looked-up score."""
        noise = Random(run.seed)
        for step, lr in enumerate(run.plan.lrs()):
            run.report(step, sweep_loss(lr) + noise.gauss(0, 0.02), lrs=[lr])
            if isinstance(run.plan, OneCycle) and (step + 1) % STEPS_PER_EPOCH == 0:
                run.epoch(epoch_row((step + 1) // STEPS_PER_EPOCH, lr))
            if SLEEP_S:
                time.sleep(SLEEP_S)
            if run.should_stop():
                return RunResult(
                    score=None, outcome="stopped", n_steps=step + 1, n_images=0, seconds=0.0
                )
        if marker := os.environ.get("TABLE_LEDGER"):
            with Path(marker).open("a") as file:
                file.write(f"{run.seed}\n")
        score = cycle_score(run.plan) + noise.gauss(0, 0.01)
        sealed = score + noise.gauss(0, 0.01) if run.sealed_split else None
        return RunResult(
            score=score,
            outcome="completed",
            n_steps=run.plan.total_steps,
            n_images=10 * run.plan.total_steps,
            seconds=0.01,
            sealed_score=sealed,
        )


def epoch_row(epoch: int, lr: float) -> EpochRow:
    """Return an epoch of which only its number and its last rate say something."""
    return EpochRow(
        epoch=epoch,
        lr_first=lr,
        lr_last=lr,
        train_loss=1.0,
        train_accuracy=0.5,
        validation_loss=1.0,
        validation_accuracy=0.5,
        seconds=0.01,
        images_per_s=1000.0,
    )


def sweep_loss(lr: float) -> float:
    """A plateau at 2.3, a drop that is steepest at 0.01, a rise from 0.3 on."""
    drop = 1 / (1 + (0.01 / lr) ** 2)
    return 2.3 - 1.5 * drop + 1.5 * drop * min(4.0, (lr / 0.6) ** 2)


def cycle_score(plan: object) -> float:
    """An accuracy that falls with the distance of max_lr from BEST_LR in log lr."""
    if not isinstance(plan, OneCycle):
        return 0.0
    return 0.9 - 0.1 * math.log10(plan.max_lr / BEST_LR) ** 2 - 0.02 * abs(plan.pct_start - 0.3)


STUDY = Study(
    name="table",
    task=OwnLoop(factory=Table, batch_size=10, steps_per_epoch=STEPS_PER_EPOCH),
    screening=Screening(n_trials=12, epochs=4),
    diverged_value=0.1,
    range_test=RangeTest(n_sweeps=3, n_steps=60),
    confirmation=Confirmation(n_finalists=2, n_seeds=3),
)
