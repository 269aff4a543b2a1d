"""Many observations as few: those of one point, or of neighbours, as their mean."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.belief.kernel import Constants, Counts, Floats

MOST_ROWS = 300
"""So many rows the surrogate goes through: its time grows with their cube."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """Observations in groups: the mean place of each, how many seeds it stands for, and the share
    of them that are fresh."""

    points: Floats
    n_seeds: Floats
    fresh: Floats
    group: Counts  # of each observation
    share: Floats  # of each observation in its group

    @property
    def n_averaged(self) -> int:
        """How many numbers the means are fewer than the observations."""
        return len(self.group) - len(self.points)

    def means(self, values: Floats) -> Floats:
        """Return the mean of each group, (k, groups), of values (k, observations)."""
        sums = [_sums(self.group, self.share * row, len(self.points)) for row in values]
        return np.stack(sums)

    def squares(self, values: Floats) -> Floats:
        """Return the sum of squares within the groups, weighted by seeds, (k,)."""
        apart = values - self.means(values)[:, self.group]
        n_seeds = self.share * self.n_seeds[self.group]
        result: Floats = apart**2 @ n_seeds
        return result


def merged(
    points: Floats, n_seeds: Counts, known: Constants, *, fresh: NDArray[np.bool_] | None = None
) -> Rows:
    """Return one row for each distinct point, and at most 300: above, one for each group of them.

    A point of the common seed and the same of `fresh` ones are two.

    Groups are halves of halves, each time across the coordinate that they spread over most, in
    scales of the process. They are made by place alone: groups by score would hold the lucky ones.
    What slopes within a group counts as noise, which errs upwards.
    """
    seeds = np.asarray(n_seeds, dtype=float)
    is_fresh = np.zeros(len(points)) if fresh is None else fresh.astype(np.float64)
    keys = np.column_stack([points, is_fresh])
    distinct, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    if len(distinct) > MOST_ROWS:
        of_distinct = np.empty(len(distinct), dtype=np.int64)
        for number, members in enumerate(
            _groups(distinct[:, :-1] * _sharpest(points.shape[1], known))
        ):
            of_distinct[members] = number
        group = of_distinct[group]
    n_groups = int(group.max()) + 1
    totals = _sums(group, seeds, n_groups)
    share = seeds / totals[group]
    centres = np.stack([_sums(group, share * column, n_groups) for column in keys.T], axis=1)
    return Rows(
        points=centres[:, :-1], n_seeds=totals, fresh=centres[:, -1], group=group, share=share
    )


def _sums(group: Counts, values: Floats, n_groups: int) -> Floats:
    """Return the sum of the values of each group."""
    return np.bincount(group, values, n_groups).astype(np.float64)


def _sharpest(n_dimensions: int, known: Constants) -> Floats:
    """Return 1 / the smallest scale of the process in each coordinate."""
    result: Floats = np.max([part.inverse_scales(n_dimensions) for part in known.parts], axis=0)
    return result


def _groups(places: Floats) -> list[Counts]:
    greatest = -(-2 * len(places) // MOST_ROWS)  # a half then holds enough of it
    groups, left = [], [np.arange(len(places))]
    while left:
        members = left.pop()
        if len(members) <= greatest:
            groups.append(members)
            continue
        axis = np.ptp(places[members], axis=0).argmax()
        ordered = members[np.argsort(places[members, axis], kind="stable")]
        left += np.array_split(ordered, 2)
    return groups
