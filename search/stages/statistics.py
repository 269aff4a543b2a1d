"""The statistics of a study: intervals, paired differences, ties, noise."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from studies.answer import Comparison, Estimate, Noise
from studies.states import Direction, sign_of
from trainers.quantiles import t_quantile

CONFIDENCE = 0.95
# Cohen's convention (Statistical Power Analysis for the Behavioral Sciences, 1988).
POWER = 0.8


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and t interval; of a single value the interval is unbounded."""
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf, len(values))
    half = t_quantile((1 + CONFIDENCE) / 2, len(values) - 1) * _standard_error(values)
    return Estimate(mean, mean - half, mean + half, len(values))


def compare(winner: Sequence[float], baseline: Sequence[float]) -> Comparison:
    """Compare two configurations trained with the same seeds, in the same order."""
    differences = [a - b for a, b in zip(winner, baseline, strict=True)]
    n = len(differences)
    # Two quantiles of the central t, in place of a noncentral one: simple, and close enough for a
    # figure that says what could have shown.
    quantiles = t_quantile((1 + CONFIDENCE) / 2, n - 1) + t_quantile(POWER, n - 1)
    return Comparison(estimate(differences), quantiles * _standard_error(differences))


def finalists(scores: Mapping[int, float], *, n: int, direction: Direction) -> list[int]:
    """Return the slots of the `n` best scores, best first; ties go to the lower slot."""
    sign = sign_of(direction)
    return sorted(scores, key=lambda slot: (-sign * scores[slot], slot))[:n]


def tie_group(
    scores: Mapping[int, float], noise: Noise | None, *, direction: Direction
) -> list[int]:
    """Return the slots within noise of the best score, best first; without a noise, the best.

    Within noise: closer to the best than the one-sided 95 % t quantile x the deviation of a
    difference of two scores, sqrt(2) x that of a score. Not corrected for the number of
    configurations; the best of many is lucky, which widens the group already.
    """
    ranked = finalists(scores, n=len(scores), direction=direction)
    if noise is None:
        return ranked[:1]
    margin = t_quantile(CONFIDENCE, noise.freedom) * math.sqrt(2) * noise.deviation
    return [slot for slot in ranked if abs(scores[slot] - scores[ranked[0]]) <= margin]


def choose(scores: Mapping[int, Sequence[float]], *, direction: Direction) -> int:
    """Return the candidate with the best mean; ties go to the lowest slot, the baseline first."""
    return finalists({s: fmean(v) for s, v in scores.items()}, n=1, direction=direction)[0]


def noise_of_replicates(scores: Mapping[int, Sequence[float]]) -> Noise:
    """Return the pooled standard deviation over seeds within a configuration."""
    # Variances are pooled by their degrees of freedom: a mean of deviations is too small.
    squares = [(len(v) - 1, stdev(v) ** 2) for v in scores.values() if len(v) >= 2]
    freedom = sum(n for n, _ in squares)
    deviation = math.sqrt(sum(n * s for n, s in squares) / freedom) if freedom else math.nan
    return Noise(deviation, freedom, "replicates")


def squares_of_pairs(scores: Mapping[int, Mapping[tuple[int, int], float]]) -> tuple[float, int]:
    """Return the squares of a pair's difference about its mean, and their degrees of freedom.

    `scores` by configuration and seed (round and replicate); configurations may lack seeds of
    others. What is left beside an effect of each configuration and each seed is the noise of one
    cycle; a pair of one seed has twice its variance.
    """
    import numpy as np

    seeds = {seed: n for n, seed in enumerate(sorted({s for by in scores.values() for s in by}))}
    cells = [(n, seeds[seed]) for n, by in enumerate(scores.values()) for seed in by]
    values = np.array([value for by in scores.values() for value in by.values()])
    if not len(values):
        return 0.0, 0
    effects = np.zeros((len(cells), len(scores) + len(seeds)))
    for at, (configuration, seed) in enumerate(cells):
        effects[at, configuration] = effects[at, len(scores) + seed] = 1.0
    # About their mean: what is left of scores of a large size would be rounding alone.
    values -= values.mean()
    solution, _, rank, _ = np.linalg.lstsq(effects, values, rcond=None)
    left = values - effects @ solution
    freedom = len(values) - int(rank)
    return (2 * float(left @ left), freedom) if freedom else (0.0, 0)


def _standard_error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values))
