"""A study whose trainer looks results up instead of training: for tests of the search itself."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

from studies.definition import Confirmation, RangeTest, Screening, Study
from trainers.device import Site
from trainers.onecycle import OneCycle
from trainers.run import Run, RunResult
from trainers.table import Noise, TableTrainer
from trainers.task import OwnLoop

SLEEP_S = float(os.environ.get("TABLE_SLEEP_S", "0"))
BEST_LR = 0.2
STEPS_PER_EPOCH = 10


class Formula:
    """Losses of a sweep and scores of a cycle in closed form, with the noise of the run's seed."""

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        noise = Noise(cycle, epochs=epochs, seed=seed)
        score = cycle_score(cycle) - 0.05 / epochs + noise.draw(0.01)
        return score, score + noise.draw(0.01)

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        noise = Random(seed)
        return [sweep_loss(lr) + noise.gauss(0, 0.02) for lr in lrs]


class Table(TableTrainer):
    """The trainer of the study; the environment says what it writes down of a run, and whether
    its workers are forked."""

    forks = os.environ.get("TABLE_FORKS") == "1"

    def __init__(self, site: Site) -> None:
        super().__init__(
            Formula(), batch_size=10, steps_per_epoch=STEPS_PER_EPOCH, sleep_s=SLEEP_S
        )
        self.site = site

    def facts(self) -> dict[str, str]:
        """Say what the tests may change by the environment."""
        return {"table": os.environ.get("TABLE_FACT", "1")}

    def fit(self, run: Run) -> RunResult:
        result = super().fit(run)
        marker = os.environ.get("TABLE_LEDGER")
        if marker and result.outcome == "completed":
            with Path(marker).open("a") as file:
                file.write(f"{run.seed}\n")
        return result


def sweep_loss(lr: float) -> float:
    """A plateau at 2.3, a drop that is steepest at 0.01, a rise whose edge lies at 1.8."""
    drop = 1 / (1 + (0.01 / lr) ** 2)
    return 2.3 - 1.5 * drop + 1.5 * drop * min(4.0, (lr / 2.6) ** 2)


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
