"""Curves without their noise: smoothed losses, and whether a drop stands out of the noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trainers.sweeps.sweep import LRCurve

# Over the 80 recorded sweeps of `cifar-small` (benchmarks/recorded) the edge scatters least here:
# sd 0.06 decades, against 0.28 at a width of 0.15 and 0.10 at 0.4. In `cifar-residual` any width
# from 0.15 to 0.5 gives the same edge within 0.03 decades.
SMOOTHING_DECADES = 0.25
"""Standard deviation of the centred Gaussian kernel, in decades of lr."""
# The greatest of some 15 independent smoothed values of a flat curve exceeds 3 in 2 of 100 curves.
# Simulated, 20,000 flat curves each of 50, 100, 200 and 400 steps: 5 is exceeded by at most 0.04 %
# of normal noise, 0.2 % of Student's t with 2 degrees of freedom, and 0.3 % of exponential noise
# of either sign (docs/log.md).
LEAST_DROP = 5.0
"""A drop of the smoothed loss of fewer standard errors is no descent."""
# Heavy tails and explosions count no more than this, above and below alike, so that noise has no
# drift. 3 would leave a drop at the last of 50 steps short of LEAST_DROP, 5 lets tails through.
_CLIPPED = 4.0  # standard deviations of one loss around the first level
ROUNDING = 1e-6
"""Of a float32 loss, relative: a change of that size is none."""
_LEAST_FINITE = 10  # losses that a first level can be read from

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SmoothedCurve:
    """The finite beginning of a curve: rates, losses and smoothed losses, shape (N,) each.

    `first` is the level of the loss before it descends; NaN where fewer than 10 losses are finite.
    `broken_lr` is the rate of the first loss that is not finite, None where all are.
    """

    lrs: Floats
    losses: Floats
    smoothed: Floats
    first: float
    broken_lr: float | None


@dataclass(frozen=True, slots=True)
class Drop:
    """By how much each smoothed loss lies below the first level, and its standard error; (N,).

    For the test of a descent alone: losses are clipped around the first level. A change of
    `rounding` is none.
    """

    below: Floats
    error: Floats
    rounding: float

    @property
    def stands_out(self) -> bool:
        """Whether the loss descends anywhere."""
        return bool(np.any(self.below > np.maximum(LEAST_DROP * self.error, self.rounding)))

    @property
    def lowest(self) -> int:
        """The step at which it stands out most."""
        return int(np.argmax(self.below / np.maximum(self.error, np.finfo(float).tiny)))


def smooth(log_lrs: Floats, losses: Floats) -> Floats:
    """Return the losses under a centred Gaussian kernel in log10(lr): no lag, unlike an average
    over past steps. Shapes (N,), (N,) -> (N,).
    """
    # An exponential average with weight 0.05 lags 19 steps behind: 1.5 decades, where 100 steps
    # cover 8 decades.
    kernel = _kernel(log_lrs)
    smoothed: Floats = kernel @ losses / kernel.sum(axis=1)
    return smoothed


def smoothed_curve(curve: LRCurve) -> SmoothedCurve:
    """Smooth the losses before the first that is not finite.

    Losses above the first level are clipped to it, so that an explosion does not reach back.
    """
    lrs, losses = np.asarray(curve.lrs, float), np.asarray(curve.losses, float)
    broken = np.flatnonzero(~np.isfinite(losses))
    n_finite = int(broken[0]) if len(broken) else len(losses)
    broken_lr = float(lrs[n_finite]) if len(broken) else None
    lrs, losses = lrs[:n_finite], losses[:n_finite]
    if n_finite < _LEAST_FINITE:
        return SmoothedCurve(lrs, losses, losses, math.nan, broken_lr)
    log_lrs = np.log10(lrs)
    first = float(np.median(losses[: _n_first(log_lrs)]))
    return SmoothedCurve(lrs, losses, smooth(log_lrs, np.minimum(losses, first)), first, broken_lr)


def drop_of(read: SmoothedCurve) -> Drop:
    """Return how far the smoothed loss of one sweep has dropped after its first tenth."""
    log_lrs, noise = np.log10(read.lrs), noise_of(read)
    n_first = _n_first(log_lrs)
    margin = _CLIPPED * noise if noise > 0 else math.inf
    clipped = np.clip(read.losses, read.first - margin, read.first + margin)
    # Mean of the first losses minus a smoothed one is a weighted sum of independent losses.
    kernel = _kernel(log_lrs)
    weights = -kernel / kernel.sum(axis=1, keepdims=True)
    weights[:, :n_first] += 1 / n_first
    weights[:n_first] = 0  # no drop yet
    return Drop(
        below=weights @ clipped,
        error=noise * np.sqrt((weights**2).sum(axis=1)),
        rounding=ROUNDING * abs(read.first),
    )


def pooled(drops: Sequence[Drop]) -> Drop:
    """Return the mean drop of sweeps over the same rates; one that is shorter counts until then.

    Needs at least one.
    """
    longest = max(len(drop.below) for drop in drops)
    n, below, variance = np.zeros(longest), np.zeros(longest), np.zeros(longest)
    for drop in drops:
        reach = slice(len(drop.below))
        n[reach] += 1
        below[reach] += drop.below
        variance[reach] += drop.error**2
    rounding = max(drop.rounding for drop in drops)
    return Drop(below / n, np.sqrt(variance) / n, rounding)


def noise_of(read: SmoothedCurve) -> float:
    """Return the standard deviation of one loss around the curve, before training explodes.

    From successive differences, which a slow descent hardly moves: 0.6745 is the median of
    |z| of a normal z, and a difference has twice the variance.
    """
    before = read.losses[: np.flatnonzero(read.losses <= read.first)[-1] + 1]
    if len(before) < 2:
        return 0.0
    return float(np.median(np.abs(np.diff(before)))) / (0.6745 * math.sqrt(2))


def _kernel(log_lrs: Floats) -> Floats:
    """Return what each loss weighs in each smoothed one, a row each; shape (N, N)."""
    return _kernel_over(log_lrs.tobytes())


# The sweeps of a range test share their rates, and each is smoothed twice.
@lru_cache(maxsize=4)
def _kernel_over(log_lrs: bytes) -> Floats:
    logs = np.frombuffer(log_lrs)
    distance = (logs[:, None] - logs[None, :]) / SMOOTHING_DECADES
    kernel: Floats = np.exp(-0.5 * distance**2)
    kernel.flags.writeable = False
    return kernel


def _n_first(log_lrs: Floats) -> int:
    """Return how many losses make the first level: a tenth, if they lie in a tenth of log(lr).

    A linear sweep leaves that tenth in a few steps, and then descends.
    """
    n_near = int(np.sum(log_lrs <= log_lrs[0] + 0.1 * (log_lrs[-1] - log_lrs[0])))
    return max(_LEAST_FINITE, min(len(log_lrs) // 10, n_near))
