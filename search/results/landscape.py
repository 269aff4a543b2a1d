"""What the surrogate expects over the range of a study, cut through one configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from search.params import Params
from search.queue.rows import done_rows
from search.stages.believed import Belief, belief_within
from search.stages.search import cycles_of
from search.stages.space import Ranges
from search.stages.statistics import CONFIDENCE
from studies.params import Choice, Domain, Range, Value
from studies.states import Stage, sign_of
from studies.tables import StudyRow

if TYPE_CHECKING:
    import numpy as np

_N_PLACES = 41  # of a curve some 400 pixels wide
_N_DRAWS = 2_000  # the ends of a 95 % band are then known to about 5 % of its width
_N_PLANE = 25  # places along each side of a map
MAPPED = ("max_lr", "pct_start")
"""The parameters of the map: every study searches them."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The score that is expected along one parameter, all others held.

    `params` are the configurations along it, `values` what the parameter is in each; `mean` is
    expected, and the noiseless score lies between `low` and `high` with 95 % (scores as measured).
    """

    name: str
    domain: Domain
    values: tuple[Value, ...]
    params: tuple[Params, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plane:
    """The score that is expected over two parameters, all others held.

    `mean` and `half_width`, of the 95 % band, hold a row for each value of `y`.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    mean: tuple[tuple[float, ...], ...]
    half_width: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, eq=False)
class Landscape:
    """What is expected of configurations, trained or not; `through`: the one that is cut."""

    belief: Belief
    through: Params

    @cached_property
    def domains(self) -> Mapping[str, Domain]:
        """Where each searched parameter comes from; that of max_lr at the setting of `through`."""
        ranges = self.belief.ranges
        every = ranges.parameters_at(ranges.setting_of(self.through))
        return {each.name: each.domain for each in every if each.domain is not None}

    def importance_ends(self) -> Mapping[str, tuple[float, float]]:
        """Return between which shares the importance of each parameter lies with 95 %."""
        import numpy as np

        belief, tail = self.belief, (1 - CONFIDENCE) / 2
        draws = belief.surrogate.importance_draws(
            self._points(belief.candidates), _N_DRAWS // 2, rng=np.random.default_rng(0)
        )
        low, high = np.quantile(draws, (tail, 1 - tail), axis=0).tolist()
        named = zip(belief.ranges.coordinate_names, low, high, strict=True)
        return {name: (a, b) for name, a, b in named if name in self.domains}

    @property
    def has_map(self) -> bool:
        """Whether plane() has two ranges to be drawn over: max_lr and pct_start."""
        return all(isinstance(self.domains.get(name), Range) for name in MAPPED)

    def slice(self, name: str) -> Slice:
        """Return what is expected along one of the parameters."""
        import numpy as np

        domain = self.domains[name]
        values = _values(domain)
        params = tuple(self._moved(name, value) for value in values)
        draws = self.belief.surrogate.draws(
            self._points(params), _N_DRAWS, rng=np.random.default_rng(0)
        )
        tail = (1 - CONFIDENCE) / 2
        sign = sign_of(self.belief.direction)
        ends = np.sort(sign * np.quantile(draws, (tail, 1 - tail), axis=0), axis=0)
        return Slice(
            name=name,
            domain=domain,
            values=values,
            params=params,
            mean=tuple(self.belief.expected(params)),
            low=tuple(ends[0].tolist()),
            high=tuple(ends[1].tolist()),
        )

    def plane(self) -> Plane:
        """Return what is expected over the two parameters of MAPPED."""
        import numpy as np

        x, y = MAPPED

        xs, ys = (_values(self.domains[name], _N_PLANE) for name in (x, y))
        params = [self._moved(x, at, self._moved(y, height)) for height in ys for at in xs]
        mean = np.reshape(self.belief.expected(params), (len(ys), len(xs)))
        half = _NORMAL * self.belief.surrogate.deviation(self._points(params))
        half = half.reshape(mean.shape)
        return Plane(
            tuple(map(float, xs)),
            tuple(map(float, ys)),
            tuple(map(tuple, mean.tolist())),
            tuple(map(tuple, half.tolist())),
        )

    def _moved(self, name: str, value: Value, params: Params | None = None) -> Params:
        """Return a configuration with another value; max_lr moves with the proposal, so that it
        stays the same multiple of it."""
        ranges, old = self.belief.ranges, self.through if params is None else params
        new = Params(**{**old, name: value})
        if name == "max_lr":
            return new
        moved = ranges.proposal_at(ranges.setting_of(new))
        factor = moved / ranges.proposal_at(ranges.setting_of(old))
        return Params(**{**new, "max_lr": factor * old.max_lr})

    def _points(self, params: Sequence[Params]) -> "np.ndarray":
        import numpy as np

        return np.array([self.belief.ranges.coordinates(each) for each in params])


_NORMAL = 1.96
"""Deviations of a normal distribution to either side that hold 95 %."""


def landscape_later(
    session: Session, row: StudyRow, through: Params | None = None
) -> Callable[[], Landscape | None]:
    """Return what makes the landscape of a study, also of one that runs, of what is stored now.

    Rows are read now; to believe takes a second or two, and many who read a study draw nothing.
    Without `through` it is cut through the trained configuration that is expected to score best.
    None where nothing can be expected: before the range is known, while no cycle has a score of
    its own, and where an earlier version stored a space that this one cannot read.
    """
    cycles = cycles_of(session, row)
    confirmed = done_rows(session, row.id, Stage.CONFIRMATION)

    @cache
    def landscape() -> Landscape | None:
        if row.proposed_max_lr is None or row.bracket_low is None or row.diverged_value is None:
            return None
        try:
            belief = belief_within(Ranges.stored(row), row, cycles, confirmed)
        except (ValueError, KeyError):  # of spaces that trials do not follow
            return None
        if belief is None:
            return None
        return Landscape(belief, belief.best_trained if through is None else through)

    return landscape


def _values(domain: Domain, n: int = _N_PLACES) -> tuple[Value, ...]:
    """Return values of a domain: evenly over a range, every choice."""
    if isinstance(domain, Choice):
        return domain.values
    shares = (index / (n - 1) for index in range(n))
    return tuple(dict.fromkeys(domain.at(share) for share in shares))
