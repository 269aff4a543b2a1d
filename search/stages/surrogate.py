"""What a study knows of all configurations, given the scores of some: a posterior.

An additive Matern-5/2 process (Rasmussen, Williams 2006) in range-test coordinates, folded so
that cycles which broke do not bend the plateau (`kernel.py`). How much a task's scores differ and
how noisy they are is not fitted but integrated out: a grid of hypotheses, each with a Gaussian
posterior of its own, weighted by how well it explains what was measured. Greater scores are
better here; the caller negates a minimised one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np

from search.stages.gains import expected_gain
from search.stages.hypotheses import Hypotheses, hypotheses_of
from search.stages.kernel import (
    Constants,
    Counts,
    Floats,
    constants,
    covariance,
    folded,
    log_slope,
    unfolded,
    variance,
)
from search.stages.merging import merged
from studies.answer import Noise
from trainers.scored import named

_JITTER = 1e-7
"""In squared scales: what keeps a covariance of twice the same point positive definite."""
_LEAST_WEIGHT = 1e-3  # of the heaviest hypothesis; the others count for nothing
_SHARE_FOR_GAINS = 0.95
_MOST_FOR_GAINS = 6
_SHARES = ("accuracy", "macro F1")  # between 0 and 1; people call 0.01 of them a point
_SHARE_OF_SPAN = 0.02  # one point of the 50 that lie between chance and a usual accuracy
_N_DRAWS = 2_000
_MOST_JOINTLY = 400  # points drawn jointly: time grows with their cube
_MOST_AVERAGED = 64  # points that an importance averages over: it takes their square


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """What was measured: `points` (n, d), `scores` (n,), the mean over that row's seeds, `n_seeds`
    (n,). Every score is a finite number; greater is better."""

    points: Floats
    scores: Floats
    n_seeds: Counts

    def __post_init__(self) -> None:
        assert self.points.ndim == 2, self.points.shape
        assert len(self.points) == len(self.scores) == len(self.n_seeds) > 0
        assert self.points.shape[1] >= 3, self.points.shape
        assert np.isfinite(self.points).all()
        assert np.isfinite(self.scores).all()
        assert (self.n_seeds >= 1).all()


class Surrogate:
    """The posterior of the noiseless score; made by surrogate().

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
        rows = merged(observations.points, observations.n_seeds, known)
        self._points, self._n_seeds = rows.points, rows.n_seeds
        with np.errstate(over="ignore"):  # of scores near the largest number: cut by the fold
            deficits = (self._best - observations.scores) / unit / hypotheses.scales[:, None]
        values = folded(deficits, known.fold)
        prior = covariance(self._points, self._points, known)
        ratios = hypotheses.noises_over_scale
        factors = np.linalg.cholesky(prior + _noise(ratios, self._n_seeds))
        whitened = np.linalg.solve(factors, rows.means(values)[:, :, None])[:, :, 0]
        log_weights = (
            hypotheses.log_weights
            - 0.5 * (whitened**2).sum(axis=1)
            - np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
            # What was averaged away tells the noise as well.
            - rows.n_averaged * np.log(ratios)
            - 0.5 * rows.squares(values) / ratios**2
            # From folded deficits back to scores. The best has no deficit: its level is free.
            - (len(observations.scores) - 1) * np.log(hypotheses.scales)
            + log_slope(deficits, known.fold).sum(axis=1)
        )
        weights = np.exp(log_weights - log_weights.max())
        kept = np.flatnonzero(weights > _LEAST_WEIGHT)
        kept = kept[np.argsort(-weights[kept], kind="stable")]
        self._weights = weights[kept] / weights[kept].sum()
        self._scales, self._ratios = hypotheses.scales[kept], ratios[kept]
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
        result: Floats = self._weights @ self._medians(self._means(self._cross(points)))
        return result

    def deviation(self, points: Floats) -> Floats:
        """Return the standard deviation of the noiseless score at each point, (m,)."""
        cross = self._cross(points)
        means = self._means(cross)
        explained = ((self._inverse_factors @ cross) ** 2).sum(axis=1)
        deviations = np.sqrt(np.maximum(variance(points.shape[1], self._known) - explained, 0))
        within = self._spread(means, deviations) ** 2
        medians = self._medians(means)
        between = (medians - self._weights @ medians) ** 2
        result: Floats = np.sqrt(self._weights @ (within + between))
        return result

    def covariance(self, points: Floats) -> Floats:
        """Return the covariance of the noiseless scores of points, (m, m)."""
        cross = self._cross(points)
        means = self._means(cross)
        medians = self._medians(means)
        apart = medians - self._weights @ medians
        total: Floats = (apart * self._weights[:, None]).T @ apart
        prior = covariance(points, points, self._known)
        for index, weight in enumerate(self._weights):
            halves = self._inverse_factors[index] @ cross
            own = prior - halves.T @ halves
            deviations = np.sqrt(np.maximum(np.diagonal(own), 0))
            spread = self._spread(means, deviations[None, :], index)
            ratio = spread / np.maximum(deviations, math.sqrt(_JITTER))
            total += weight * own * np.outer(ratio, ratio)
        return total

    def gains(self, candidates: Floats, *, pending: Floats | None = None) -> Floats:
        """Return what one more cycle at each candidate is expected to gain, (m,); never below 0.

        The knowledge gradient over what may be chosen afterwards, the measured points and the
        candidates, averaged over the hypotheses that carry 95 % of the weight. `pending` (k, d)
        are being trained: they are believed to come out at their means (the kriging believer of
        Ginsbourger, Le Riche, Carraro 2010).
        """
        choices = np.concatenate([self._points, candidates])
        cross = self._cross(choices)
        factor = self._unit * self._scales
        means = -((self._weights * factor) @ self._means(cross))
        prior = covariance(candidates, choices, self._known)
        own = variance(candidates.shape[1], self._known)
        n_used = int(np.searchsorted(np.cumsum(self._weights), _SHARE_FOR_GAINS)) + 1
        n_used = min(n_used, _MOST_FOR_GAINS, len(self._weights))
        inverse_factors = self._inverse_factors[:n_used]
        if pending is not None and len(pending):
            cross = np.concatenate([cross, covariance(pending, choices, self._known)])
            inverse_factors = self._with_pending(pending, n_used)
        total = np.zeros(len(candidates))
        for index, inverse in enumerate(inverse_factors):
            halves = inverse @ cross
            there = halves[:, len(self._points) :]
            left = np.maximum(own - (there**2).sum(axis=0), 0)
            slopes = (prior - there.T @ halves) / np.sqrt(left + self._ratios[index] ** 2)[:, None]
            total += self._weights[index] * expected_gain(means, factor[index] * slopes)
        result: Floats = total / self._weights[:n_used].sum()
        return result

    def draws(self, points: Floats, n: int, *, rng: np.random.Generator) -> Floats:
        """Return joint draws of the noiseless scores at points, (n, m)."""
        cross = self._cross(points)
        means = self._means(cross)
        prior = covariance(points, points, self._known)
        steady = _JITTER * np.eye(len(points))
        parts = []
        for index, count in enumerate(rng.multinomial(n, self._weights)):
            halves = self._inverse_factors[index] @ cross
            factor = np.linalg.cholesky(prior - halves.T @ halves + steady)
            values = means[index] + rng.standard_normal((count, len(points))) @ factor.T
            parts.append(self._unfolded(values, self._scales[index]))
        return rng.permutation(np.concatenate(parts))

    def chance_within(self, points: Floats, margin: float, *, seed: int = 0) -> Floats:
        """Return the chance that each of the points is within `margin` of the best of them, (m,).

        From 2,000 joint draws. Of more than 400 points those alone are drawn that may be the
        best; the chance of the others is 0.
        """
        chances = np.zeros(len(points))
        drawn = np.arange(len(points))
        if len(points) > _MOST_JOINTLY:
            promise = self.mean(points) + 2 * self.deviation(points)
            drawn = np.sort(np.argsort(-promise, kind="stable")[:_MOST_JOINTLY])
        scores = self.draws(points[drawn], _N_DRAWS, rng=np.random.default_rng(seed))
        chances[drawn] = (scores >= scores.max(axis=1, keepdims=True) - margin).mean(axis=0)
        return chances

    def importance(self, points: Floats) -> Floats:
        """Return what share of the posterior mean's variance each coordinate explains, (d,).

        The main effects of a functional ANOVA (Hooker 2007) over `points`, which are taken as
        spread evenly and independently: in each coordinate the mean is averaged over all others.
        Of the folded mean, so that a cliff does not count for everything. The shares sum to at
        most 1; what is missing is interaction. All 0 where the mean is flat.
        """
        some = points[
            np.linspace(0, len(points) - 1, min(len(points), _MOST_AVERAGED)).astype(int)
        ]
        variances = []
        for column in range(points.shape[1]):
            crossed = np.repeat(some[None, :, :], len(some), axis=0)
            crossed[:, :, column] = some[:, column][:, None]
            heights = self._heights(crossed.reshape(-1, points.shape[1]))
            variances.append(heights.reshape(len(some), len(some)).mean(axis=1).var())
        total = max(float(self._heights(some).var()), sum(variances))
        return np.array(variances) / total if total > 0 else np.zeros(points.shape[1])

    def _cross(self, points: Floats) -> Floats:
        """Return the prior covariance of what was measured and points, (n, m)."""
        return covariance(self._points, points, self._known)

    def _heights(self, points: Floats) -> Floats:
        """Return the folded posterior mean at each point, in units."""
        means = self._means(self._cross(points))
        result: Floats = -((self._weights * self._scales) @ means)
        return result

    def _means(self, cross: Floats) -> Floats:
        """Return each hypothesis's mean folded deficit, (hypotheses, m)."""
        result: Floats = self._loads @ cross
        return result

    def _medians(self, means: Floats) -> Floats:
        return self._unfolded(means, self._scales[:, None])

    def _unfolded(self, values: Floats, scales: "Floats | float") -> Floats:
        return self._best - self._unit * scales * unfolded(values, self._known.fold)

    def _spread(
        self, means: Floats, deviations: Floats, index: "int | slice" = slice(None)
    ) -> Floats:
        """Return half the distance of the scores one deviation to either side of the mean."""
        above, below = means[index] + deviations, means[index] - deviations
        fold = self._known.fold
        half = (unfolded(above, fold) - unfolded(below, fold)) / 2
        scales = self._scales[index]
        return self._unit * half * (scales[:, None] if np.ndim(scales) else scales)

    def _with_pending(self, pending: Floats, n_used: int) -> Floats:
        points = np.concatenate([self._points, pending])
        n_seeds = np.concatenate([self._n_seeds, np.ones(len(pending))])
        prior = covariance(points, points, self._known)
        return np.linalg.inv(np.linalg.cholesky(prior + _noise(self._ratios[:n_used], n_seeds)))


def surrogate(
    observations: Observations,
    *,
    unit: float,
    deviation: Noise | None = None,
    guessed_unit: bool = False,
    known: Constants | None = None,
) -> Surrogate:
    """Return the posterior after some observations.

    `unit` is one point of the metric, by metric_unit(); `guessed_unit`: it was derived from the
    scores, so the task's scale is less known. `deviation` is the seed's standard deviation from
    replicates, where there are any, in the metric's unit; it narrows the noise by its chi-square
    likelihood. One from neighbours is not used: these are the observations themselves. `known`
    takes the place of the product's constants.

    Above 300 rows neighbours go in as their mean (`merging.py`).
    """
    known = constants() if known is None else known
    scale = known.guessed_scale if guessed_unit else known.scale
    hypotheses = hypotheses_of(scale, known.noise_over_scale, unit=unit, deviation=deviation)
    return Surrogate(observations, unit=unit, hypotheses=hypotheses, known=known)


def _noise(ratios: Floats, n_seeds: Floats) -> Floats:
    """Return the noise's covariance of each hypothesis, (hypotheses, n, n)."""
    diagonal = ratios[:, None] ** 2 / n_seeds + _JITTER
    result: Floats = diagonal[:, :, None] * np.eye(len(n_seeds))
    return result


def metric_unit(metric: str, scores: Sequence[float], diverged_value: float) -> float:
    """Return what counts as one point of a metric; scores as in Observations.

    0.01 of an accuracy or a macro F1, or 1 where it is counted up to 100. Of any other metric a
    guess: 2 % of the way from a cycle that broke to the best score. A `diverged_value` may be
    arbitrary, so from four scores on that are better, the guess is at most ten times their median
    deficit from the best, and at least a tenth of it.
    """
    if not unit_is_guessed(metric):
        return 0.01 if max([*scores, diverged_value]) <= 1 else 1.0
    better = [score for score in scores if score > diverged_value]
    if not better:
        return max(abs(diverged_value), 1.0) * _SHARE_OF_SPAN
    guess = _SHARE_OF_SPAN * (max(better) - diverged_value)
    typical = max(better) - median(better)
    if len(better) >= 4 and typical > 0:
        guess = min(10 * typical, max(typical / 10, guess))
    return guess


def unit_is_guessed(metric: str) -> bool:
    """Return whether metric_unit() of this metric is a guess, which widens the scale's prior."""
    try:
        return named(metric).metric not in _SHARES
    except ValueError:
        return True
