"""What search strategies are judged on: recorded cycles behind a surrogate, or made-up ones."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from random import Random
from typing import Protocol

from benchmarks.recorded_task import Recorded, RecordedCycle, Surface, places
from benchmarks.records import CycleRecord, Journal, SweepRecord
from benchmarks.tasks import STUDIES
from search.params import Params
from studies.definition import Screening, Study
from tests.table_study import sweep_loss
from trainers.errors import UserError
from trainers.onecycle import OneCycle
from trainers.table import Noise, Table

RECORDED = Path(__file__).parent / "recorded"


class World(Protocol):
    """A study, the table that stands for its training, and the truth that no search sees."""

    study: Study
    table: Table

    def truth(self, configurations: Sequence[Params]) -> Sequence[float]:
        """Return the noiseless score of each configuration at the full length."""

    def curve(self, params: Params, *, seed: int) -> Sequence[float]:
        """Return the validation score after each epoch of a full cycle, the last as scored."""

    def described(self) -> str:
        """Return in one line what the world is made of and how far it can be trusted."""


class RecordedWorld:
    """The recorded cycles and sweeps of one task."""

    def __init__(self, task: str, folder: Path = RECORDED) -> None:
        cycles = [
            record
            for record in Journal(folder / f"{task}.cycles.jsonl").records.values()
            if isinstance(record, CycleRecord)
        ]
        sweeps = [
            record
            for record in Journal(folder / f"{task}.sweeps.jsonl").records.values()
            if isinstance(record, SweepRecord)
        ]
        if not (cycles and sweeps):
            raise UserError(f"{folder}: nothing recorded of {task!r}")
        chance = STUDIES[task].diverged_value
        full_epochs = max(record.work.length for record in cycles)
        self.study = replace(STUDIES[task], screening=Screening(n_trials=36, epochs=full_epochs))
        self.table = self.recorded = Recorded(
            [_recorded_cycle(record, chance) for record in cycles],
            [_whole(record) for record in sweeps],
        )
        full = [record for record in cycles if record.work.length == full_epochs]
        self._curves: dict[Params, list[Sequence[float]]] = {}
        for record in full:
            curve = padded(record.validation, full_epochs, chance)
            self._curves.setdefault(record.params, []).append(curve)
        self.n_cycles = len(cycles)

    def truth(self, configurations: Sequence[Params]) -> Sequence[float]:
        """Return the surrogate's mean."""
        return list(self.recorded.truth(configurations, epochs=self.study.epochs))

    def curve(self, params: Params, *, seed: int) -> Sequence[float]:
        """Return the surrogate's curve, all of it moved by the noise of its end."""
        epochs = self.study.epochs
        plan = params.plan(self.study.cycle_steps)
        end, _ = self.table.scores(plan, epochs=epochs, seed=seed)
        means = [float(value) for surface in self._surfaces for value in surface(places([params]))]
        return [*(mean + end - self.truth([params])[0] for mean in means), end]

    @cached_property
    def _surfaces(self) -> list[Surface]:
        """One for the end of each epoch before the last."""
        points = places(list(self._curves))
        return [
            Surface(
                points, [[curve[epoch] for curve in curves] for curves in self._curves.values()]
            )
            for epoch in range(self.study.epochs - 1)
        ]

    def described(self) -> str:
        """Return the number of cycles and the held-out error of each length."""
        errors = ", ".join(
            f"{epochs} epochs {100 * every:.2f} (better half {100 * better:.2f})"
            for epochs, (every, better) in self.recorded.held_out.items()
        )
        return (
            f"{self.study.name}: {self.n_cycles} recorded cycles; held-out error of the surrogate "
            f"(root mean square, points): {errors}"
        )


class Synthetic:
    """A plateau with a cliff, in closed form: for trying the benchmark itself."""

    def __init__(self) -> None:
        self.study = replace(
            STUDIES["cifar-small"],
            name="synthetic",
            screening=Screening(n_trials=36, epochs=8),
        )
        self.table = self

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        """Return mean and noise: 0.4 points, more for short cycles."""
        noise = Noise(cycle, epochs=epochs, seed=seed)
        mean = _height(cycle.max_lr, cycle.pct_start, cycle.div_factor, epochs)
        return tuple(mean + noise.draw(0.003 + 0.004 / epochs) for _ in range(2))  # type: ignore[return-value]

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        """Return a sweep that rebounds near the optimum."""
        random = Random(seed)
        return [sweep_loss(lr) + random.gauss(0, 0.02) for lr in lrs]

    def truth(self, configurations: Sequence[Params]) -> Sequence[float]:
        """Return the closed form."""
        return [
            _height(p.max_lr, float(p["pct_start"]), float(p["div_factor"]), self.study.epochs)
            for p in configurations
        ]

    def curve(self, params: Params, *, seed: int) -> Sequence[float]:
        """Return accuracies that the present rate holds down, as in a real cycle."""
        epochs = self.study.epochs
        end, _ = self.scores(params.plan(self.study.cycle_steps), epochs=epochs, seed=seed)
        held = [0.05 * max(0.0, 1 - (e + 1) / epochs) for e in range(epochs)]
        hot = max(0.0, 2 + math.log10(params.max_lr))
        return [end - share * (1 + hot) for share in held]

    def described(self) -> str:
        """Say that this is made up."""
        return "synthetic: a made-up landscape; its figures say nothing of CIFAR-10"


def _height(max_lr: float, pct_start: float, div_factor: float, epochs: int) -> float:
    """A flat top around 0.2, a slope below, a cliff above 2."""
    below = max(0.0, math.log10(0.1 / max_lr))
    above = max(0.0, math.log10(max_lr / 0.8))
    small = 0.004 * abs(pct_start - 0.35)
    small += 0.001 * abs(math.log10(div_factor / 20))
    return max(0.1, 0.7 - 0.1 / epochs - 0.03 * below**2 - 0.5 * above**1.5 - small)


@cache
def world_of(task: str) -> World:
    """Return the world of a task by name, once per process."""
    return Synthetic() if task == "synthetic" else RecordedWorld(task)


def _recorded_cycle(record: CycleRecord, chance: float) -> RecordedCycle:
    p = record.params
    return RecordedCycle(
        max_lr=p.max_lr,
        pct_start=float(p["pct_start"]),
        div_factor=float(p["div_factor"]),
        epochs=record.work.length,
        score=chance if record.score is None else record.score,
        test_score=chance if record.test_score is None else record.test_score,
    )


def _whole(record: SweepRecord) -> Sequence[float]:
    """Return all losses of a sweep; what it lacks after it broke is NaN."""
    return [*record.losses, *[math.nan] * (record.work.length - len(record.losses))]


def padded(curve: Sequence[float], epochs: int, chance: float) -> Sequence[float]:
    """Return the scores after each epoch, those after a cycle broke at chance."""
    return [*curve, *[chance] * (epochs - len(curve))]
