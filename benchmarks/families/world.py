"""The recorded families as worlds: a surface of scores, the noise of seeds, replayed sweeps."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.families.design import DEFAULTS
from benchmarks.families.noise import (
    Scores,
    better_half,
    luck_of,
    rows_of,
    shares_of,
    with_mean_0,
)
from benchmarks.families.record import RECORDED
from benchmarks.families.table import FAMILIES
from benchmarks.recorded_task import Surface, Vector, places
from benchmarks.records import CycleRecord, Journal, Record, SweepRecord
from benchmarks.tasks import STUDIES
from search.params import Params
from studies.definition import Screening, Study
from trainers.device import Site
from trainers.errors import TaskError, UserError
from trainers.onecycle import OneCycle
from trainers.table import TableTrainer
from trainers.task import OwnLoop

# The variance that a seed gives to all configurations alike: 0.26 to 0.46 in `cifar-small`, by 43
# configurations x 5 seeds and 18 x 10. The two older tables share no seeds, and cannot say.
_COMMON_OF_THE_OLDER = 0.36


class FamilyWorld:
    """One family behind its surface; a `World` (benchmarks.replay), and the table of it too.

    The score of a configuration under a seed is the truth and a noise of mean 0, whose deviation
    is that of the recorded neighbours: sqrt(common) times the seed's own draw, the same for all
    configurations, and sqrt(1 - common) times one of the pair. Upwards the deviation is at most
    the usual one: close to the rate at which training breaks a seed may fail badly, none excels.
    No score is worse than a broken cycle's.

    `common`: that share, where the recorded seeds are not the same for all configurations; None
    estimates it, and takes the luck of the seeds out of the means (benchmarks.families.noise).
    """

    def __init__(
        self,
        study: Study,
        recorded: Mapping[Params, Scores],
        sweeps: Sequence[Sequence[float]],
        *,
        common: float | None = None,
    ) -> None:
        if not (recorded and sweeps):
            raise UserError(f"{study.name}: too little is recorded to make a world of")
        self.study, self.recorded = study, recorded
        assert study.diverged_value is not None
        self.worst: float = study.diverged_value
        self.points = places(list(recorded))
        scores = list(recorded.values())
        luck = np.zeros((len(scores), 2)) if common is not None else luck_of(scores)
        rows = [rows_of(each) - its_luck for each, its_luck in zip(scores, luck, strict=True)]
        self.surface, self.test_surface = (
            Surface(self.points, [each[:, split].tolist() for each in rows]) for split in (0, 1)
        )
        self.better = better_half(self.surface.means, self.worst)
        self.usual = self.surface.typical_of(self.better)
        self.shares = shares_of(scores, self.surface, self.better, common=common)
        self._sweeps: dict[int, list[Sequence[float]]] = {}
        for sweep in sweeps:
            self._sweeps.setdefault(len(sweep), []).append(sweep)

    @property
    def table(self) -> "FamilyWorld":
        """Itself."""
        return self

    def truth(self, configurations: Sequence[Params]) -> Sequence[float]:
        """Return the noiseless score on validation of each configuration."""
        return list(self.truth_at(places(configurations)))

    def truth_at(self, points: Vector) -> Vector:
        """Return the same at rows of `places`, shape (n, 3)."""
        return np.maximum(self.surface(points), self.worst)

    def score(self, params: Params, seed: int) -> float:
        """Return the score on validation of one cycle; takes well under a millisecond."""
        return self._scores(params, seed)[0]

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        """Return the scores of a cycle of the study's length on validation and test."""
        if epochs != self.study.epochs:
            raise TaskError(
                f"no recorded cycles of {epochs} epochs; recorded: {self.study.epochs}"
            )
        return self._scores(cycle, seed)

    def _scores(self, cycle: Params | OneCycle, seed: int) -> tuple[float, float]:
        point = places([cycle])
        below, above = self.deviations_at(point[0])
        name, where = self.study.name, " ".join(f"{value:.9g}" for value in point[0])
        seeds_own = Random(f"{name} {seed}").gauss(0.0, 1.0)
        pairs = Random(f"{name} {seed} {where}")
        common, split = self.shares.common, self.shares.split
        drawn = math.sqrt(common) * seeds_own + math.sqrt(1 - common) * pairs.gauss(0.0, 1.0)
        of_test = split * drawn + math.sqrt(1 - split**2) * pairs.gauss(0.0, 1.0)
        truths = self.surface(point)[0], self.test_surface(point)[0]
        validation, test = (
            max(self.worst, float(truth) + with_mean_0(noise, below, above))
            for truth, noise in zip(truths, (drawn, of_test), strict=True)
        )
        return validation, test

    def deviations_at(self, point: Vector) -> tuple[float, float]:
        """Return the deviation of a seed downwards and upwards, at a row of `places`."""
        below = self.surface.typical_at(point)
        return below, min(below, self.usual)

    def curve(self, params: Params, *, seed: int) -> Sequence[float]:
        """Return the one score of a cycle."""
        return [self.score(params, seed)]

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        """Return one of the recorded sweeps of that many steps.

        Seeds that follow each other give different ones; see sweeps().
        """
        recorded = self._of_length(len(lrs))
        return recorded[seed % len(recorded)]

    def sweeps(self, n_steps: int, n: int, *, seed: int) -> list[Sequence[float]]:
        """Return the losses of `n` sweeps of one length, none of them twice."""
        recorded = self._of_length(n_steps)
        if n > len(recorded):
            raise TaskError(f"{n} sweeps of {n_steps} steps; recorded: {len(recorded)}")
        return Random(f"{self.study.name} {n_steps} {seed}").sample(recorded, n)

    def _of_length(self, n_steps: int) -> list[Sequence[float]]:
        if n_steps not in self._sweeps:
            known = ", ".join(map(str, sorted(self._sweeps)))
            raise TaskError(f"no recorded sweep of {n_steps} steps; recorded: {known}")
        return self._sweeps[n_steps]

    def described(self) -> str:
        """Return what the world is made of and how far it can be trusted."""
        n_cycles = sum(map(len, self.recorded.values()))
        surface, shares = self.surface, self.shares
        error = surface.held_out_of(self.better)
        return (
            f"{self.study.name}: {n_cycles} recorded cycles of {len(self.recorded)} "
            f"configurations; held-out error of the surface (root mean square, points) "
            f"{100 * surface.held_out:.2f} (better half {100 * error:.2f}); a "
            f"seed's deviation {100 * self.usual:.2f}, of its variance "
            f"{shares.common:.0%} common to all configurations"
        )


def world_of(name: str, folder: Path = RECORDED) -> FamilyWorld:
    """Return the world of a recorded family, `cifar-small` and `cifar-residual` among them.

    Raises UserError where too little is recorded of it.
    """
    return _world_of(name, folder)


@cache
def _world_of(name: str, folder: Path) -> FamilyWorld:
    if name in STUDIES:
        return _older_world(name, folder.parent)
    family = FAMILIES[name]
    records = list(Journal(folder / f"{name}.jsonl").records.values())
    study = Study(
        name=name,
        task=OwnLoop(
            factory=lambda site: _looked_up(name, folder, site),
            batch_size=family.batch_size,
            steps_per_epoch=family.n_steps,
            adaptive=family.adaptive,
        ),
        epochs=1,
        metric="accuracy" if family.n_classes else "R^2",
        direction="maximize",
        diverged_value=family.diverged_value,
    )
    return FamilyWorld(study, _scores_of(records, family.diverged_value), _sweeps_of(records))


def _looked_up(name: str, folder: Path, site: Site) -> TableTrainer:
    family, world = FAMILIES[name], world_of(name, folder)
    return TableTrainer(world, batch_size=family.batch_size, steps_per_epoch=family.n_steps)


def _older_world(name: str, folder: Path) -> FamilyWorld:
    """Return the world of the full cycles of an older table, as one epoch of the whole length."""
    declared = STUDIES[name]
    records = [
        record
        for kind in ("cycles", "sweeps")
        for record in Journal(folder / f"{name}.{kind}.jsonl").records.values()
    ]
    epochs = max(record.work.length for record in records if isinstance(record, CycleRecord))
    full = [
        record
        for record in records
        if isinstance(record, SweepRecord) or record.work.length == epochs
    ]
    study = Study(
        name=name,
        task=declared.task,
        screening=Screening(n_trials=24, epochs=epochs),
        diverged_value=declared.diverged_value,
    )
    assert declared.diverged_value is not None
    scores = _scores_of(full, declared.diverged_value)
    return FamilyWorld(study, scores, _sweeps_of(full), common=_COMMON_OF_THE_OLDER)


def _scores_of(records: Sequence[Record], worst: float) -> dict[Params, Scores]:
    found: dict[Params, dict[int, tuple[float, float]]] = {}
    for record in records:
        if isinstance(record, CycleRecord):
            pair = record.score, record.test_score
            score, test = (worst if each is None else each for each in pair)
            found.setdefault(record.params, {})[record.work.seed] = score, test
    return dict(found)


def _sweeps_of(records: Sequence[Record]) -> list[Sequence[float]]:
    """Return all losses of each sweep; what it lacks after it broke is NaN."""
    return [
        [*record.losses, *[math.nan] * (record.work.length - len(record.losses))]
        for record in records
        if isinstance(record, SweepRecord)
    ]


def proposal_of(name: str, folder: Path = RECORDED) -> float:
    """Return the max_lr around which a family was recorded: torch's defaults lie there."""
    for work, record in Journal(folder / f"{name}.jsonl").records.items():
        if isinstance(record, CycleRecord) and work.number == DEFAULTS:
            return record.params.max_lr
    raise UserError(f"{name}: no cycle is recorded")
