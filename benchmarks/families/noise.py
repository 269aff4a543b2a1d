"""What the noise of a family's seeds is made of, estimated from its recorded scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from benchmarks.recorded_task import Surface, Vector

# A configuration has learned something where it is so far from a broken cycle to the best.
_LEARNED = 0.1

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


def rows_of(scores: Scores) -> Vector:
    """Return both scores of each seed, shape (seeds, 2), in the order of the seeds."""
    return np.array([scores[seed] for seed in sorted(scores)])


def better_half(means: Vector, worst: float) -> NDArray[np.bool_]:
    """Return which configurations are in the better half of those that have learned something.

    What a broken cycle is worth, many have without any noise: they would say nothing of it.
    """
    learned = means > worst + _LEARNED * (means.max() - worst)
    better: NDArray[np.bool_] = learned & (means >= np.median(means[learned]))
    return better


def shares_of(
    recorded: Sequence[Scores],
    surface: Surface,
    better: NDArray[np.bool_],
    *,
    common: float | None = None,
) -> Shares:
    """Return what the noise is made of, from the `better` configurations.

    Each score is taken less the mean of its configuration and over the deviation of its
    neighbourhood. `common` (None: estimated): over all pairs of configurations with as many seeds
    as any has (eight; two where the recording is young), the products of these under the same
    seed, summed, over as many as are free: one less than seeds. More pairs do not make it surer
    than that many seeds can. `split`: the correlation over all of validation with the test split.
    """
    scaled = [
        (rows - rows.mean(0)) / (surface.typical_at(surface.points[number]) or math.inf)
        for number in np.flatnonzero(better)
        for rows in [rows_of(recorded[number])]
        if len(rows) > 1
    ]
    if not scaled:
        return Shares(common=0.0, split=0.0)
    if common is None:
        most = max(map(len, scaled))
        alike = [rows[:, 0] for rows in scaled if len(rows) == most]
        products = [float(one @ other) / (most - 1) for one, other in combinations(alike, 2)]
        common = fmean(products) if products else 0.0
    validation, test = np.concatenate(scaled).T
    size = math.sqrt(float(validation @ validation) * float(test @ test))
    split = float(validation @ test) / size if size else 0.0
    return Shares(common=min(0.95, max(0.0, common)), split=min(0.99, max(0.0, split)))


def luck_of(recorded: Sequence[Scores]) -> Vector:
    """Return what its seeds add to the means of each configuration, shape (n, 2).

    Configurations with two seeds have another luck than those with eight. What a seed adds is the
    median, over those with all seeds, of its score less their mean.
    """
    seeds = sorted({seed for scores in recorded for seed in scores})
    whole = [rows_of(scores) for scores in recorded if len(scores) == len(seeds)]
    if not whole:
        return np.zeros((len(recorded), 2))
    added = np.median([rows - rows.mean(0) for rows in whole], axis=0)
    of_seed = dict(zip(seeds, added - added.mean(0), strict=True))
    return np.array([np.mean([of_seed[seed] for seed in scores], axis=0) for scores in recorded])


def with_mean_0(drawn: float, below: float, above: float) -> float:
    """Return a standard normal draw with a deviation to each side, moved to mean 0."""
    mean = (above - below) / math.sqrt(2 * math.pi)
    return drawn * (below if drawn < 0 else above) - mean
