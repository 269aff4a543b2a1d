"""The posterior of the noiseless score: a mixture of Gaussian processes, one a hypothesis."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search.belief.hypotheses import Hypotheses
from search.belief.kernel import (
    Constants,
    Counts,
    Floats,
    covariance,
    folded,
    log_slope,
    unfolded,
    variance,
)
from search.belief.merging import Rows, merged

_JITTER = 1e-7
"""In squared scales: what keeps a covariance of twice the same point positive definite."""
_LEAST_WEIGHT = 1e-3  # of the heaviest hypothesis; the others count for nothing
_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """What was measured: `points` (n, d), `scores` (n,), the mean over that row's seeds, `n_seeds`
    (n,). Every score is a finite number; greater is better.

    `fresh` (n,) is given where a search trains all its configurations with one common seed: False
    for its own rows, True for those of other seeds, which these rows share. What the common seed
    adds to the whole search is then not taken for a loss of what was trained again. None: the
    seeds of each row are its own.
    """

    points: Floats
    scores: Floats
    n_seeds: Counts
    fresh: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        assert self.points.ndim == 2, self.points.shape
        assert len(self.points) == len(self.scores) == len(self.n_seeds) > 0
        assert self.points.shape[1] >= 3, self.points.shape
        assert np.isfinite(self.points).all()
        assert np.isfinite(self.scores).all()
        assert (self.n_seeds >= 1).all()
        assert self.fresh is None or len(self.fresh) == len(self.points)


class Posterior:
    """The posterior of the noiseless score.

    `noise` is the posterior mean of a seed's standard deviation, in the metric's unit.
    """

    def __init__(
        self,
        observations: Observations,
        *,
        unit: float,
        hypotheses: Hypotheses,
        known: Constants,
    ) -> None:
        self._known, self._unit = known, unit
        self._best = float(observations.scores.max())
        rows = merged(observations.points, observations.n_seeds, known, fresh=observations.fresh)
        self._points = rows.points
        self._own_share, self._noise = _noise(rows, known, common=observations.fresh is not None)
        with np.errstate(over="ignore"):  # of scores near the largest number: cut by the fold
            deficits = (self._best - observations.scores) / unit / hypotheses.scales[:, None]
        values = folded(deficits, known.fold)
        prior = covariance(self._points, self._points, known)
        ratios = hypotheses.noises_over_scale
        factors = np.linalg.cholesky(prior + noise_of(ratios, self._noise))
        whitened = np.linalg.solve(factors, rows.means(values)[:, :, None])[:, :, 0]
        log_weights = (
            hypotheses.log_weights
            - 0.5 * (whitened**2).sum(axis=1)
            - np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
            # What was averaged away tells the noise as well.
            - rows.n_averaged * np.log(ratios)
            - 0.5 * rows.squares(values) / (self._own_share * ratios**2)
            # From folded deficits back to scores. The best has no deficit: its level is free.
            - (len(observations.scores) - 1) * np.log(hypotheses.scales)
            + log_slope(deficits, known.fold).sum(axis=1)
        )
        weights = np.exp(log_weights - log_weights.max())
        kept = np.flatnonzero(weights > _LEAST_WEIGHT)
        kept = kept[np.argsort(-weights[kept], kind="stable")]
        self._weights = weights[kept] / weights[kept].sum()
        self._scales, self._ratios = hypotheses.scales[kept], ratios[kept]
        self._own_variances = self._own_share * self._ratios**2
        self._inverse_factors = np.linalg.inv(factors[kept])
        self._loads = (whitened[kept, None, :] @ self._inverse_factors)[:, 0, :]

    @cached_property
    def noise(self) -> float:
        """The posterior mean of the standard deviation of a score over seeds."""
        return float(self._weights @ (self._scales * self._ratios)) * self._unit

    def mean(self, points: Floats) -> Floats:
        """Return the expected noiseless score at each point, (m,).

        Each hypothesis gives the median of its score, the unfolded mean of its process.
        """
        blocks = [self._weights @ self._deficits(m) for _, m in self._in_blocks(points)]
        return self._best - self._unit * np.concatenate(blocks)

    def deviation(self, points: Floats) -> Floats:
        """Return the standard deviation of the noiseless score at each point, (m,)."""
        blocks = []
        for cross, means in self._in_blocks(points):
            explained = ((self._inverse_factors @ cross) ** 2).sum(axis=1)
            left = np.maximum(variance(points.shape[1], self._known) - explained, 0)
            deficits = self._deficits(means)
            between = (deficits - self._weights @ deficits) ** 2
            within = self._spread(means, np.sqrt(left)) ** 2
            blocks.append(np.sqrt(self._weights @ (within + between)))
        return self._unit * np.concatenate(blocks)

    def covariance(self, points: Floats) -> Floats:
        """Return the covariance of the noiseless scores of points, (m, m)."""
        cross = self._cross(points)
        means = self._means(cross)
        deficits = self._deficits(means)
        apart = deficits - self._weights @ deficits
        total: Floats = (apart * self._weights[:, None]).T @ apart
        prior = covariance(points, points, self._known)
        for index, weight in enumerate(self._weights):
            halves = self._inverse_factors[index] @ cross
            own = prior - halves.T @ halves
            deviations = np.sqrt(np.maximum(np.diagonal(own), 0))
            spread = self._spread(means, deviations[None, :], index)
            ratio = spread / np.maximum(deviations, math.sqrt(_JITTER))
            total += weight * own * np.outer(ratio, ratio)
        return self._unit**2 * total

    def draws(
        self, points: Floats, n: int, *, rng: np.random.Generator, n_seeds: Counts | None = None
    ) -> Floats:
        """Return joint draws of the noiseless scores at points, (n, m).

        With `n_seeds` (m,) they are those of means over so many seeds.
        """
        cross = self._cross(points)
        means = self._means(cross)
        prior = covariance(points, points, self._known)
        steady = _JITTER * np.eye(len(points))
        seeds = np.full(len(points), np.inf) if n_seeds is None else n_seeds
        parts = []
        for index, count in enumerate(rng.multinomial(n, self._weights)):
            halves = self._inverse_factors[index] @ cross
            noise = np.diag(self._own_variances[index] / seeds)
            factor = np.linalg.cholesky(prior - halves.T @ halves + steady + noise)
            values = means[index] + rng.standard_normal((count, len(points))) @ factor.T
            parts.append(self._scales[index] * unfolded(values, self._known.fold))
        return self._best - self._unit * rng.permutation(np.concatenate(parts))

    def log_densities(self, observed: Observations) -> Floats:
        """Return the log of each score's density, (m,), alone, in points of the metric."""
        cross = self._cross(observed.points)
        explained = ((self._inverse_factors @ cross) ** 2).sum(axis=1)
        left = np.maximum(variance(observed.points.shape[1], self._known) - explained, 0)
        spread = np.sqrt(left + self._own_variances[:, None] / observed.n_seeds)
        deficits = (self._best - observed.scores) / self._unit / self._scales[:, None]
        apart = (folded(deficits, self._known.fold) - self._means(cross)) / spread
        logs = log_slope(deficits, self._known.fold) - np.log(spread * self._scales[:, None])
        logs += np.log(self._weights)[:, None] - 0.5 * apart**2 - 0.5 * math.log(2 * math.pi)
        result: Floats = np.logaddexp.reduce(logs, axis=0)
        return result

    def _cross(self, points: Floats) -> Floats:
        """Return the prior covariance of what was measured and points, (n, m)."""
        return covariance(self._points, points, self._known)

    def _in_blocks(self, points: Floats) -> Iterator[tuple[Floats, Floats]]:
        """Yield _cross() and _means() of some points at a time, which bounds the memory."""
        for start in range(0, len(points), _AT_ONCE):
            cross = self._cross(points[start : start + _AT_ONCE])
            yield cross, self._means(cross)

    def _means(self, cross: Floats) -> Floats:
        """Return each hypothesis's mean folded deficit, (hypotheses, m)."""
        result: Floats = self._loads @ cross
        return result

    def _deficits(self, means: Floats) -> Floats:
        """Return each hypothesis's median deficit, in units."""
        return self._scales[:, None] * unfolded(means, self._known.fold)

    def _spread(
        self, means: Floats, deviations: Floats, index: "int | slice" = slice(None)
    ) -> Floats:
        """Return half the distance of the deficits one deviation to either side of the mean."""
        above, below = means[index] + deviations, means[index] - deviations
        fold = self._known.fold
        half = (unfolded(above, fold) - unfolded(below, fold)) / 2
        scales = self._scales[index]
        return half * (scales[:, None] if np.ndim(scales) else scales)


def noise_of(ratios: Floats, noise: Floats) -> Floats:
    """Return the covariance of each hypothesis's noise, (hypotheses, n, n); `noise` is over it."""
    result: Floats = ratios[:, None, None] ** 2 * noise + _JITTER * np.eye(len(noise))
    return result


def _noise(rows: Rows, known: Constants, *, common: bool) -> tuple[float, Floats]:
    """Return what share of a seed's variance is a row's own, and the noise's covariance over it.

    With a common seed, what it adds to all rows of a search is part of their level. Rows of fresh
    seeds are apart from that level by what the common seed adds and what theirs do.
    """
    if not common:
        return 1.0, np.diag(1 / rows.n_seeds)
    shared = known.shared_by_seed
    most = rows.n_seeds[rows.fresh > 0].max(initial=1.0)
    apart = shared * (1 + 1 / most) * np.outer(rows.fresh, rows.fresh)
    return 1 - shared, np.diag((1 - shared) / rows.n_seeds) + apart
