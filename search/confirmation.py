"""Stage 3: finalists and baseline again with fresh seeds, and the statistics of the answer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

CONFIDENCE = 0.95
POWER = 0.8

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds with its t interval (CONFIDENCE)."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """Winner minus baseline on the test split, paired by seed.

    `detectable` is the true difference that n seeds of this spread would have shown with
    probability POWER.
    """

    difference: Estimate
    detectable: float

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.difference.low > 0 or self.difference.high < 0


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and t interval; of a single value the interval is unbounded."""
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf, len(values))
    half = _t_quantile((1 + CONFIDENCE) / 2, len(values)) * _standard_error(values)
    return Estimate(mean, mean - half, mean + half, len(values))


def compare(winner: Sequence[float], baseline: Sequence[float]) -> Comparison:
    """Compare two configurations trained with the same seeds, in the same order."""
    differences = [a - b for a, b in zip(winner, baseline, strict=True)]
    n = len(differences)
    quantiles = _t_quantile((1 + CONFIDENCE) / 2, n) + _t_quantile(POWER, n)
    return Comparison(estimate(differences), quantiles * _standard_error(differences))


def finalists(scores: Mapping[int, float], *, n: int, direction: Direction) -> list[int]:
    """Return the slots of the `n` best scores, best first; ties go to the lower slot."""
    sign = -1.0 if direction == "maximize" else 1.0
    return sorted(scores, key=lambda slot: (sign * scores[slot], slot))[:n]


def choose(scores: Mapping[int, Sequence[float]], *, direction: Direction) -> int:
    """Return the candidate with the best mean; ties go to the lowest slot, the baseline first."""
    return finalists({s: fmean(v) for s, v in scores.items()}, n=1, direction=direction)[0]


def seed_noise(scores: Mapping[int, Sequence[float]]) -> float:
    """Return the pooled standard deviation over seeds within a configuration."""
    squares = [(len(v) - 1, stdev(v) ** 2) for v in scores.values() if len(v) >= 2]
    freedom = sum(n for n, _ in squares)
    return math.sqrt(sum(n * s for n, s in squares) / freedom) if freedom else math.nan


def _standard_error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values))


def _t_quantile(probability: float, n: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, probability))
