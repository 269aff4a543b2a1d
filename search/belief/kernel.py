"""The prior of the surrogate: an additive Matern process, its constants, the fold of a deficit.

All in units of the task's scale: the median deficit from the best within the bracket.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

COORDINATES = ("max_lr", "pct_start", "div_factor")
"""The first columns of a point: log10(max_lr / proposal), pct_start, log10(div_factor). Each
further column is one more searched parameter, as its share of the unit cube."""
_FARTHEST = 1e30
"""Deficits in scales are cut here: squares and exponentials of what a broken cycle scored stay
finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogNormal:
    """A distribution of a positive number by its median and the sd of its logarithm."""

    median: float
    sd_of_log: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One Matern-5/2 process: its sd, and its scale in each coordinate that it depends on.

    `others` is the scale of every parameter beyond the three; a part that has one is left out
    where nothing else is searched.
    """

    sd: float
    max_lr: float | None = None
    pct_start: float | None = None
    div_factor: float | None = None
    others: float | None = None

    def inverse_scales(self, n_dimensions: int) -> Floats:
        """Return 1 / scale of each coordinate, 0 where the part does not depend on it."""
        scales = [self.max_lr, self.pct_start, self.div_factor]
        scales += [self.others] * (n_dimensions - len(COORDINATES))
        return np.array([0.0 if each is None else 1 / each for each in scales])


@dataclass(frozen=True, kw_only=True, slots=True)
class Constants:
    """What is known of tasks before one is measured; `surrogate.json` says where it is from.

    `scale` is in points (a point is the unit of the metric), `guessed_scale` the same where the
    unit itself is a guess. `fold` and `level`, the sd of the process's level, are in scales.
    `shared_by_seed` is the share of a seed's variance that it adds to all configurations alike.
    """

    scale: LogNormal
    guessed_scale: LogNormal
    noise_over_scale: LogNormal
    shared_by_seed: float
    fold: float
    level: float
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Constants":
        """Return those of a JSON object."""
        scale = stored["scale"]
        return cls(
            scale=LogNormal(median=scale["median"], sd_of_log=scale["sd_of_log"]),
            guessed_scale=LogNormal(
                median=scale["median"], sd_of_log=scale["sd_of_log_of_a_guess"]
            ),
            noise_over_scale=LogNormal(**stored["noise_over_scale"]),
            shared_by_seed=stored["shared_by_seed"],
            fold=stored["fold"],
            level=stored["level"],
            parts=tuple(Part(**each) for each in stored["parts"]),
        )


@cache
def constants() -> Constants:
    """Return the constants that the product uses."""
    text = files("search.belief").joinpath("surrogate.json").read_text(encoding="utf-8")
    return Constants.of(json.loads(text))


def covariance(a: Floats, b: Floats, known: Constants) -> Floats:
    """Return the prior covariance of two lists of points, (n, d) and (m, d): (n, m), in scales."""
    apart = [np.subtract.outer(a[:, i], b[:, i]) ** 2 for i in range(a.shape[1])]
    total = np.full((len(a), len(b)), known.level**2)
    for part in known.parts:
        if part.others is not None and a.shape[1] <= len(COORDINATES):
            continue
        inverse = part.inverse_scales(a.shape[1])
        squared = sum(apart[i] * inverse[i] ** 2 for i in np.flatnonzero(inverse))
        total += part.sd**2 * _matern(np.asarray(squared))
    return total


def variance(n_dimensions: int, known: Constants) -> float:
    """Return the prior variance of the process at any point, in scales."""
    parts = (
        part.sd**2
        for part in known.parts
        if part.others is None or n_dimensions > len(COORDINATES)
    )
    return known.level**2 + sum(parts)


def _matern(squared: Floats) -> Floats:
    """Return the Matern-5/2 correlation at squared distances (Rasmussen, Williams 2006, 4.17)."""
    root = np.sqrt(5 * squared)
    result: Floats = (1 + root + root**2 / 3) * np.exp(-root)
    return result


def folded(deficits: Floats, fold: float) -> Floats:
    """Return deficits from the best, in scales, with those beyond `fold` as logarithms.

    d as it is up to the fold f, and f + log(1 + d - f) beyond: one smooth rising curve. So a
    cliff or a cycle that broke is far below the plateau, and does not bend it.
    """
    beyond = np.clip(deficits - fold, 0.0, _FARTHEST)
    return np.minimum(deficits, fold) + np.log1p(beyond)


def unfolded(values: Floats, fold: float) -> Floats:
    """Return the deficits whose folded values these are: the inverse of folded()."""
    beyond = np.clip(values - fold, 0.0, np.log1p(_FARTHEST))
    return np.minimum(values, fold) + np.expm1(beyond)


def log_slope(deficits: Floats, fold: float) -> Floats:
    """Return the logarithm of the slope of folded() at each deficit."""
    return -np.log1p(np.clip(deficits - fold, 0.0, _FARTHEST))
