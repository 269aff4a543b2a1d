"""What a study knows of all configurations, given the scores of some: a posterior.

An additive Matern-5/2 process (Rasmussen, Williams 2006) in range-test coordinates, folded so
that cycles which broke do not bend the plateau (`kernel.py`). How much a task's scores differ and
how noisy they are is not fitted but integrated out: a grid of hypotheses, each with a Gaussian
posterior of its own, weighted by how well it explains what was measured. Greater scores are
better here; the caller negates a minimised one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from search.belief.gains import FARTHEST, expected_gain
from search.belief.hypotheses import hypotheses_of
from search.belief.kernel import (
    Constants,
    Counts,
    Floats,
    constants,
    covariance,
    unfolded,
    variance,
)
from search.belief.posterior import Observations, Posterior, noise_of
from studies.answer import Noise
from trainers.scored import named

_SHARES = ("accuracy", "macro F1")  # between 0 and 1; people call 0.01 of them a point
_SHARE_OF_SPAN = 0.02  # one point of the 50 that lie between chance and a usual accuracy
FEWEST_FOR_A_GUESS = 4
"""Scores of which the median deficit says something."""
_RATIO_STEP = 0.5  # in logarithms: noises over scale that are one kind
_LEAST_OF_A_KIND = 0.02
N_DRAWS = 2_000
_MOST_JOINTLY = 400  # points drawn jointly: time grows with their cube
_BROKEN = 5.0  # scales below the best
_N_LEVELS = 8  # of each coordinate, in draws of importances
_N_AVERAGED = 64  # points that an importance averages over: it takes their square


class Surrogate(Posterior):
    """What a posterior says to a search and of its answer; made by surrogate()."""

    def gains(self, candidates: Floats, *, pending: Floats | None = None) -> Floats:
        """Return what one more cycle at each candidate is expected to gain, (m,); never below 0.

        The knowledge gradient over what may be chosen afterwards, the measured points and the
        candidates, averaged over the hypotheses. `pending` (k, d) are being trained: they are
        believed to come out at their means (the kriging believer of Ginsbourger, Le Riche,
        Carraro 2010).
        """
        choices = np.concatenate([self._points, candidates])
        kinds = self._kinds()
        cross = self._cross(choices)
        means = -((self._weights * self._scales) @ self._means(cross))
        inverse_factors = self._inverse_factors[kinds.heaviest]
        if pending is not None and len(pending):
            cross = np.concatenate([cross, covariance(pending, choices, self._known)])
            inverse_factors = self._with_pending(pending, kinds)
        halves = inverse_factors @ cross
        hopeful = self._hopeful(means, choices, kinds.scales[:, None], halves)
        prior = covariance(candidates, choices[hopeful], self._known)
        own = variance(candidates.shape[1], self._known)
        total = np.zeros(len(candidates))
        noises = self._own_variances[kinds.heaviest]
        for index, half in enumerate(halves):
            there = half[:, len(self._points) :]
            left = np.maximum(own - (there**2).sum(axis=0), 0) + noises[index]
            moved = (prior - there.T @ half[:, hopeful]) / np.sqrt(left)[:, None]
            moved *= kinds.scales[index]
            total += kinds.weights[index] * expected_gain(means[hopeful], moved)
        return total * self._unit

    def _kinds(self) -> "_Kinds":
        """Return the hypotheses in a few groups of about the same noise over scale.

        That ratio decides how far a process moves with a score, up to its scale. A group stands
        for its hypotheses by the heaviest of them, at their mean scale.
        """
        _, group = np.unique(np.round(np.log(self._ratios) / _RATIO_STEP), return_inverse=True)
        weights = np.bincount(group, self._weights)
        kept = np.flatnonzero(weights > _LEAST_OF_A_KIND)
        # The heaviest hypotheses stand first.
        heaviest = np.array([np.flatnonzero(group == number)[0] for number in kept])
        scales = np.bincount(group, self._weights * self._scales) / weights
        return _Kinds(weights[kept] / weights[kept].sum(), scales[kept], heaviest)

    def _hopeful(
        self, means: Floats, choices: Floats, scales: Floats, halves: Floats
    ) -> NDArray[np.bool_]:
        """Return which choices one cycle may bring above the best.

        No cycle moves the difference of two scores by more than what is unknown of it.
        """
        best = int(means.argmax())
        to_best = covariance(choices, choices[[best]], self._known)[:, 0]
        shared = to_best - np.einsum("hi,hij->hj", halves[:, :, best], halves)
        left = variance(choices.shape[1], self._known) - (halves**2).sum(axis=1)
        apart = np.sqrt(np.maximum(left + left[:, [best]] - 2 * shared, 0))
        result: NDArray[np.bool_] = means + FARTHEST * (scales * apart).max(axis=0) > means[best]
        result[best] = True
        return result

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
        scores = self.draws(points[drawn], N_DRAWS, rng=np.random.default_rng(seed))
        chances[drawn] = (scores >= scores.max(axis=1, keepdims=True) - margin).mean(axis=0)
        return chances

    def importance(self, points: Floats) -> Floats:
        """Return what share of the posterior mean's variance each coordinate explains, (d,).

        The main effects of a functional ANOVA (Hooker 2007) over `points`, which are taken as
        spread evenly and independently: in each coordinate the mean is averaged over all others.
        Deficits count up to five scales, so that a cliff does not count for everything. The shares
        sum to at most 1; what is missing is interaction. All 0 where the mean is flat.
        """
        places = np.linspace(0, len(points) - 1, min(len(points), _N_AVERAGED)).astype(int)
        shares = (np.arange(_N_AVERAGED) + 0.5) / _N_AVERAGED
        effects = []
        for column, values in enumerate(np.quantile(points, shares, axis=0).T):
            crossed = np.tile(points[places], (len(values), 1))
            crossed[:, column] = np.repeat(values, len(places))
            effects.append(self._depths(crossed).reshape(len(values), -1).mean(axis=1).var())
        total = max(float(self._depths(points).var()), sum(effects))
        return np.array(effects) / total if total > 0 else np.zeros(points.shape[1])

    def importance_draws(self, points: Floats, n: int, *, rng: np.random.Generator) -> Floats:
        """Return `n` draws from what the posterior says of importance(), (n, d): how sure it is.

        Each is of a score that may be the true one; coarser than importance(), for the points of
        all coordinates are drawn jointly.
        """
        d = points.shape[1]
        n_others = max(4, min(8, _MOST_JOINTLY // (_N_LEVELS * d)))
        places = np.linspace(0, len(points) - 1, n_others).astype(int)
        levels = np.quantile(points, (np.arange(_N_LEVELS) + 0.5) / _N_LEVELS, axis=0)
        crossed = np.tile(points[places], (d, _N_LEVELS, 1, 1))
        for column in range(d):
            crossed[column, :, :, column] = levels[:, [column]]
        drawn = self.draws(crossed.reshape(-1, d), n, rng=rng)
        cut = _BROKEN * float(self._weights @ self._scales)
        depths = np.minimum((self._best - drawn) / self._unit, cut)
        shaped = depths.reshape(n, d, _N_LEVELS, n_others)
        effects = shaped.mean(axis=3).var(axis=2)
        total = np.maximum(depths.var(axis=1), effects.sum(axis=1))
        shares: Floats = effects / np.where(total > 0, total, 1)[:, None]
        return shares

    def _depths(self, points: Floats) -> Floats:
        """Return the posterior mean deficit at each point, in units, cut where a cycle broke."""
        weights = self._weights * self._scales
        return np.concatenate(
            [
                weights @ np.minimum(unfolded(means, self._known.fold), _BROKEN)
                for _, means in self._in_blocks(points)
            ]
        )

    def _with_pending(self, pending: Floats, kinds: "_Kinds") -> Floats:
        points = np.concatenate([self._points, pending])
        shape = np.diag(np.full(len(points), self._own_share))
        shape[: len(self._points), : len(self._points)] = self._noise
        noise = noise_of(self._ratios[kinds.heaviest], shape)
        return np.linalg.inv(np.linalg.cholesky(covariance(points, points, self._known) + noise))


@dataclass(frozen=True, slots=True, eq=False)
class _Kinds:
    """Groups of hypotheses: weight, mean scale, and which is the heaviest of each."""

    weights: Floats
    scales: Floats
    heaviest: Counts


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

    Above 300 distinct points neighbours go in as their mean (`merging.py`).
    """
    known = constants() if known is None else known
    scale = known.guessed_scale if guessed_unit else known.scale
    hypotheses = hypotheses_of(scale, known.noise_over_scale, unit=unit, deviation=deviation)
    return Surrogate(observations, unit=unit, hypotheses=hypotheses, known=known)


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
    guess = _SHARE_OF_SPAN * (max(better) - diverged_value) if better else 0.0
    if guess == 0:
        return max(abs(diverged_value), 1.0) * _SHARE_OF_SPAN
    typical = max(better) - median(better)
    if len(better) >= FEWEST_FOR_A_GUESS and typical > 0:
        guess = min(10 * typical, max(typical / 10, guess))
    return guess


def unit_is_guessed(metric: str) -> bool:
    """Return whether metric_unit() of this metric is a guess, which widens the scale's prior."""
    try:
        return named(metric).metric not in _SHARES
    except ValueError:
        return True
