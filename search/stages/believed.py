"""What the finished cycles of a study say of every configuration, tried or not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from search.params import Params
from search.queue.rows import params_of
from search.stages.space import Ranges
from search.stages.statistics import noise_of_replicates
from studies.answer import Noise
from studies.definition import Study
from studies.protocol import has_seed_of_slots
from studies.states import BROKEN, Direction, sign_of
from studies.tables import StudyRow, WorkRow
from trainers.seeding import seed_for

if TYPE_CHECKING:
    import numpy as np

    from search.belief.posterior import Observations
    from search.belief.surrogate import Surrogate

_N_CANDIDATES = 256
_N_NEAR = 32  # the best of 256 points lies about a tenth of the cube's side from the optimum
_REACH = 0.1
_LEARNT = 2.0  # points: twice a common noise of a net at chance, on some 2,000 samples


@dataclass(frozen=True, slots=True)
class Tried:
    """A configuration that has finished: its scores, one for each seed it was trained with.

    The first is that of the search, the others are of its confirmation.
    """

    slot: int
    params: Params
    scores: tuple[float, ...]
    broke: bool = False

    @property
    def mean(self) -> float:
        """The mean over its seeds."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True, eq=False)
class Belief:
    """The posterior of a study's score over its space, given what was tried so far.

    Scores are in the unit of the metric, and as good as it says: a loss is a loss. `candidates`
    are configurations that were not tried. `unit` is what a point of an accuracy is to the metric.
    """

    ranges: Ranges
    surrogate: "Surrogate"
    tried: tuple[Tried, ...]
    candidates: tuple[Params, ...]
    direction: Direction
    unit: float
    diverged_value: float

    @property
    def has_learnt(self) -> bool:
        """Whether any score lies clearly above that of a cycle that broke.

        As long as none does, equal scores say that nothing learns, not that all is as good.
        """
        sign = sign_of(self.direction)
        best = max(sign * each.mean for each in self.tried)
        return best >= sign * self.diverged_value + _LEARNT * self.unit

    @property
    def noise(self) -> Noise:
        """The deviation of a seed; every two cycles count as one degree of freedom."""
        n_cycles = sum(len(each.scores) for each in self.tried)
        return Noise(self.surrogate.noise, max(1, n_cycles // 2), "surrogate")

    def expected(self, params: Iterable[Params]) -> list[float]:
        """Return the expected score of each configuration."""
        means = self.surrogate.mean(_points(self.ranges, params))
        scores: list[float] = (sign_of(self.direction) * means).tolist()
        return scores

    @cached_property
    def expected_of_slots(self) -> Mapping[int, float]:
        """The expected score of each configuration that was tried; the measured one where it
        broke."""
        scores = self.expected(each.params for each in self.tried)
        return {
            each.slot: each.scores[0] if each.broke else score
            for each, score in zip(self.tried, scores, strict=True)
        }

    def best(self) -> Params:
        """Return the configuration that is expected to score best, tried or not."""
        sign, (unvisited, score) = sign_of(self.direction), self.best_unvisited
        _, visited = self._best_visited
        return unvisited if sign * score > sign * visited else self.best_trained

    @property
    def best_trained(self) -> Params:
        """The configuration of those tried that is expected to score best."""
        slot, _ = self._best_visited
        return next(each.params for each in self.tried if each.slot == slot)

    @cached_property
    def best_unvisited(self) -> tuple[Params, float]:
        """The candidate that is expected to score best, and that score."""
        sign = sign_of(self.direction)
        scores = (sign * self.surrogate.mean(self._candidate_points)).tolist()
        index = max(range(len(scores)), key=lambda i: sign * scores[i])
        return self.candidates[index], scores[index]

    @property
    def _best_visited(self) -> tuple[int, float]:
        sign, scores = sign_of(self.direction), self.expected_of_slots
        slot = max(scores, key=lambda slot: sign * scores[slot])
        return slot, scores[slot]

    @property
    def ahead(self) -> float:
        """How much better the best candidate is expected to score than all that were tried."""
        return sign_of(self.direction) * (self.best_unvisited[1] - self._best_visited[1])

    @cached_property
    def _candidate_points(self) -> "np.ndarray":
        return _points(self.ranges, self.candidates)

    @property
    def effects(self) -> Mapping[str, float]:
        """The share of the variance of the expected score over the range that each parameter
        explains alone, by name; what is missing to 1 is interaction."""
        shares = self.surrogate.importance(self._candidate_points[:_N_CANDIDATES])
        named = zip(self.ranges.coordinate_names, shares.tolist(), strict=True)
        return {name: share for name, share in named if name not in self.ranges.fixed}

    def gains(self, pending: Sequence[Params] = ()) -> "np.ndarray":
        """Return what one more cycle at each candidate is expected to gain, in the metric's unit.

        `pending`: configurations under way, which are believed to score as expected.
        """
        under_way = _points(self.ranges, pending) if pending else None
        return self.surrogate.gains(self._candidate_points, pending=under_way)

    def gain(self, pending: Sequence[Params] = ()) -> float:
        """Return what one more cycle is expected to gain, where it gains most."""
        return float(self.gains(pending).max())


def believe(
    ranges: Ranges,
    tried: Sequence[Tried],
    *,
    metric: str,
    direction: Direction,
    diverged_value: float,
    seed: int,
    one_seed: bool = True,
) -> Belief | None:
    """Return what configurations that were tried say; None where none has a score of its own.

    `seed` is that of the candidates. `one_seed`: the search trained them all with the same one.
    """
    if all(each.broke for each in tried):
        return None
    from search.belief.surrogate import metric_unit, surrogate, unit_is_guessed

    sign = sign_of(direction)
    unit = metric_unit(metric, [sign * each.mean for each in tried], sign * diverged_value)
    replicates = noise_of_replicates({t.slot: t.scores for t in tried if not t.broke})
    fitted = surrogate(
        _observed(ranges, tried, sign=sign, one_seed=one_seed),
        unit=unit,
        deviation=replicates if replicates.freedom else None,
        guessed_unit=unit_is_guessed(metric),
    )
    every = ranges.candidates(_N_CANDIDATES, seed=seed)
    first = Belief(ranges, fitted, tuple(tried), tuple(every), direction, unit, diverged_value)
    near = ranges.near(first.best(), _N_NEAR, reach=_REACH, seed=seed_for(seed, "near"))
    return replace(first, candidates=(*every, *near))


def _observed(
    ranges: Ranges, tried: Sequence[Tried], *, sign: float, one_seed: bool
) -> "Observations":
    """Return a row for each configuration, and where the search has one seed another for what
    fresh seeds say of it."""
    import numpy as np

    from search.belief.posterior import Observations

    rows = [(each.params, each.scores, False) for each in tried]
    if one_seed:
        rows = [(each.params, each.scores[:1], False) for each in tried]
        rows += [(each.params, each.scores[1:], True) for each in tried if len(each.scores) > 1]
    return Observations(
        points=_points(ranges, [params for params, _, _ in rows]),
        scores=np.array([sign * sum(scores) / len(scores) for _, scores, _ in rows]),
        n_seeds=np.array([len(scores) for _, scores, _ in rows]),
        fresh=np.array([fresh for _, _, fresh in rows]) if one_seed else None,
    )


def belief_of(
    row: StudyRow,
    study: Study,
    cycles: Iterable[WorkRow],
    confirmed: Iterable[WorkRow] = (),
    *,
    slot: int = 0,
) -> Belief | None:
    """Return what finished cycles of the search and of its confirmation say of all configurations.

    `slot` is that of the configuration which comes next: candidates move with it.
    """
    return belief_within(Ranges.of(row, study), row, cycles, confirmed, slot=slot)


def belief_within(
    ranges: Ranges,
    row: StudyRow,
    cycles: Iterable[WorkRow],
    confirmed: Iterable[WorkRow] = (),
    *,
    slot: int = 0,
) -> Belief | None:
    """Return the same as belief_of() for ranges that are known."""
    assert row.diverged_value is not None
    further: dict[int, list[float]] = {}
    for work in confirmed:
        if work.candidate is not None and work.score is not None:
            further.setdefault(work.candidate, []).append(work.score)
    tried = [
        Tried(work.slot, params, (work.score, *further.get(work.slot, ())), work.outcome in BROKEN)
        for work in cycles
        if work.score is not None and (params := params_of(work)) is not None
    ]
    return believe(
        ranges,
        tried,
        metric=row.metric,
        direction=row.direction,
        diverged_value=row.diverged_value,
        seed=candidates_seed(row.seed, slot),
        one_seed=not has_seed_of_slots(row.declared),
    )


def candidates_seed(study_seed: int, slot: int) -> int:
    """Return the seed of the candidates for a slot."""
    return seed_for(study_seed, "ask", slot)


def _points(ranges: Ranges, params: Iterable[Params]) -> "np.ndarray":
    import numpy as np

    return np.array([ranges.coordinates(each) for each in params])
