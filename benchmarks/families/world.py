"""The recorded families as worlds: a surface of scores, the noise of seeds, replayed sweeps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import fmean

import numpy as np

from benchmarks.families.design import DEFAULTS
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

Scores = Mapping[int, tuple[float, float]]
"""Seed -> score on validation and on the test split, of one configuration."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What the noise of a family is made of.

    `common`: the share of the variance that a seed gives to every configuration alike.
    `split`: the correlation of the noise on validation with that on the test split.
    """

    common: float
    split: float


class FamilyWorld:
    """One family behind its surface; a `World` (benchmarks.replay), and the table of it too.

    The score of a configuration under a seed is the truth and a noise of mean 0, whose deviation
    is that of the recorded neighbours: sqrt(common) times the seed's own draw, the same for all
    configurations, and sqrt(1 - common) times one of the pair. Upwards the deviation is at most
    the usual one: close to the rate at which training breaks a seed may fail badly, none excels.
    No score is worse than a broken cycle's.
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
        validation, test = (
            [[pair[split] for pair in scores.values()] for scores in recorded.values()]
            for split in (0, 1)
        )
        self.surface, self.test_surface = (Surface(self.points, s) for s in (validation, test))
        self.shares = shares_of(list(recorded.values()), self.surface, common=common)
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
        """Return the score on validation of one cycle; takes less than 0.2 ms."""
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
            max(self.worst, float(truth) + _noise(noise, below, above))
            for truth, noise in zip(truths, (drawn, of_test), strict=True)
        )
        return validation, test

    def deviations_at(self, point: Vector) -> tuple[float, float]:
        """Return the deviation of a seed downwards and upwards, at a row of `places`."""
        below = self.surface.typical_at(point)
        return below, min(below, self.surface.usual)

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
        return (
            f"{self.study.name}: {n_cycles} recorded cycles of {len(self.recorded)} "
            f"configurations; held-out error of the surface (root mean square, points) "
            f"{100 * surface.held_out:.2f} (better half {100 * surface.held_out_better:.2f}); a "
            f"seed's deviation {100 * surface.usual:.2f}, of its variance "
            f"{shares.common:.0%} common to all configurations"
        )


def _noise(drawn: float, below: float, above: float) -> float:
    """Return a standard normal draw with a deviation to each side, moved to mean 0."""
    mean = (above - below) / math.sqrt(2 * math.pi)
    return drawn * (below if drawn < 0 else above) - mean


def shares_of(
    recorded: Sequence[Scores], surface: Surface, *, common: float | None = None
) -> Shares:
    """Return what the noise is made of, from the better half of the configurations.

    Each score is taken less the mean of its configuration and over the deviation of its
    neighbourhood. `common` (None: estimated): over all pairs of configurations with as many seeds
    as any has (eight; two where the recording is young), the products of these under the same
    seed, summed, over as many as are free: one less than seeds. More pairs do not make it surer
    than that many seeds can. `split`: the correlation over all of validation with the test split.
    """
    means = [fmean(score for score, _ in scores.values()) for scores in recorded]
    middle = float(np.median(means))
    better = [n for n, mean in enumerate(means) if mean >= middle and len(recorded[n]) > 1]
    scales = {n: surface.typical_at(surface.points[n]) or math.inf for n in better}
    scaled = {n: _scaled(recorded[n], scales[n]) for n in better}
    if common is None:
        most = max(map(len, recorded))
        rows = [scaled[n][:, 0] for n in better if len(recorded[n]) == most]
        products = [float(one @ other) / (most - 1) for one, other in combinations(rows, 2)]
        common = fmean(products) if products else 0.0
    validation, test = np.concatenate(list(scaled.values())).T
    size = math.sqrt(float(validation @ validation) * float(test @ test))
    split = float(validation @ test) / size if size else 0.0
    return Shares(common=min(0.95, max(0.0, common)), split=min(0.99, max(0.0, split)))


def _scaled(scores: Scores, scale: float) -> Vector:
    """Return a row per seed, in their order: both scores less their means, over the scale."""
    values = np.array([scores[seed] for seed in sorted(scores)])
    scaled: Vector = (values - values.mean(0)) / scale
    return scaled


@cache
def world_of(name: str, folder: Path = RECORDED) -> FamilyWorld:
    """Return the world of a recorded family, `cifar-small` and `cifar-residual` among them.

    Raises UserError where too little is recorded of it.
    """
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
