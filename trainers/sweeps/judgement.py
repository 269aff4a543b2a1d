"""What curves say: curves of sweeps -> rebound, edge, bracket, proposal; pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainers.sweeps.sweep import LRCurve

Ending = Literal["diverged", "rebounded", "reached end_lr", "never descended", "no finite loss"]
"""How a sweep ended, told apart by its losses:

diverged: it descended, and then a loss was not finite
rebounded: half of its drop was lost again, and every loss was finite
reached end_lr: the edge lies above the last rate; so does the rebound where there is none
never descended: no drop stands out of the noise
no finite loss: fewer than 10 losses before the first that is not finite
"""

# Over the 80 recorded sweeps of `cifar-small` (benchmarks/recorded) the edge scatters least here:
# sd 0.06 decades, against 0.28 at a width of 0.15 and 0.10 at 0.4. In `cifar-residual` any width
# from 0.15 to 0.5 gives the same edge within 0.03 decades.
SMOOTHING_DECADES = 0.25
"""Standard deviation of the centred Gaussian kernel, in decades of lr."""
REBOUND_SHARE = 0.10
"""The rebound: the smoothed loss has risen by this share of its drop above its minimum."""
# The edge stands still where the rebound moves: standard deviations of 0.03 to 0.06 decades
# against 0.04 to 0.20, over 8 range tests in each of four settings (docs/log.md).
EDGE_SHARE = 0.50
"""The edge: half of the drop is lost again, or the loss is not finite."""
# A drop of 2 % of the first level, or of two standard errors, called 15 to 58 % of flat noise a
# descent. With this rule 0 of 1,000 flat curves descend at 50, 100 and 200 steps (docs/log.md).
LEAST_DROP = 3.0
"""A drop smaller than this many standard deviations of the noise of one loss is no descent."""
_ROUNDING = 1e-6  # of a float32 loss, relative: a drop of that size is none
EDGE_TO_MAX_LR = {"sgd": 0.16, "adaptive": 0.033}
"""The best max_lr of a cycle over the edge of sweeps of 200 steps, by the type of optimizer.

Measured in seven settings, four with SGD and three with AdamW (docs/benchmarks.md), whose steps do
not grow with the gradients of a broken loss. SGD's is that of a cycle of REFERENCE_CYCLE_STEPS and
grows in proportion to the steps of the cycle, AdamW's does not move with them.
"""
REFERENCE_CYCLE_STEPS = 312
MEASURED_CYCLE_STEPS = (76, 624)
"""The shortest and longest cycles measured with SGD; a share outside is that of the nearer one."""
# Held the optimum in 83 of 83 cases where the rule was fixed, in 47 of 48 held out
# (docs/benchmarks.md).
BRACKET_FACTOR = 4.0
"""The bracket reaches so far below and above the proposal: 1.2 decades in all."""
# By the edge 1 of 32 range tests drifts further; 20 did by the rebound (docs/log.md).
DRIFT_DECADES = 0.3
"""An edge that moves further than this when a sweep takes twice the steps widens the bracket."""
_WIDEST = 0.6  # decades that a drift may add to the bracket
CONFIDENCE = 0.95

_LEAST_FINITE = 10  # losses that a first level can be read from

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one sweep says; `rebound` and `edge` are learning rates, None where not reached.

    After `reached end_lr`, None says that it lies above the last rate: a bound, not a number.
    """

    ending: Ending
    rebound: float | None
    edge: float | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What all sweeps of a range test say together: the bracket [low, high] and one `max_lr`.

    `edge` is the median edge of the `n_sweeps` sweeps that say where it is. `interval` is the t
    interval (CONFIDENCE) of the mean of log10(edge) across them, as learning rates: of seeds, not
    of the steps of one sweep, whose losses are not independent. None for one sweep, and where the
    edge of a sweep lies above its last rate: then its value is not known.

    `drift`: decades from `edge` to that of the slow sweep, which takes twice the steps; None where
    there is none, or it has no edge. `widened`: the bracket reaches further for it.
    """

    edge: float
    low: float
    high: float
    max_lr: float
    n_sweeps: int
    interval: tuple[float, float] | None
    drift: float | None
    widened: bool


def smooth(log_lrs: _Floats, losses: _Floats) -> _Floats:
    """Return the losses under a centred Gaussian kernel in log10(lr): no lag, unlike an average
    over past steps. Shapes (N,), (N,) -> (N,).
    """
    distance = (log_lrs[:, None] - log_lrs[None, :]) / SMOOTHING_DECADES
    # An exponential average with weight 0.05 lags 19 steps behind: 1.5 decades, where 100 steps
    # cover 8 decades.
    weights = np.exp(-0.5 * distance**2)
    smoothed: _Floats = weights @ losses / weights.sum(axis=1)
    return smoothed


@dataclass(frozen=True, slots=True)
class SmoothedCurve:
    """The finite beginning of a curve: rates, losses and smoothed losses, shape (N,) each.

    `first` is the level of the loss before it descends; NaN where fewer than 10 losses are finite.
    `broken_lr` is the rate of the first loss that is not finite, None where all are.
    """

    lrs: _Floats
    losses: _Floats
    smoothed: _Floats
    first: float
    broken_lr: float | None


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


def judge(curve: LRCurve) -> Judgement:
    """Return where the loss of one sweep turns (rebound) and where training breaks (edge).

    Losses may be negative and of any scale: only differences and their order count.
    """
    read = smoothed_curve(curve)
    lrs, smoothed, first, broken_lr = read.lrs, read.smoothed, read.first, read.broken_lr
    if math.isnan(first):
        return Judgement("no finite loss", None, broken_lr)
    lowest = int(np.argmin(smoothed))
    drop = first - float(smoothed[lowest])
    if drop <= max(LEAST_DROP * _noise(read.losses, first), _ROUNDING * abs(first)):
        return Judgement("never descended", None, broken_lr)
    after, minimum = smoothed[lowest:], float(smoothed[lowest])
    rebound = _first_above(lrs[lowest:], after, minimum + REBOUND_SHARE * drop)
    edge = _first_above(lrs[lowest:], after, minimum + EDGE_SHARE * drop)
    rebound = rebound if rebound is not None else broken_lr
    edge = edge if edge is not None else broken_lr
    if broken_lr is not None:
        return Judgement("diverged", rebound, edge)
    return Judgement("reached end_lr" if edge is None else "rebounded", rebound, edge)


def _n_first(log_lrs: _Floats) -> int:
    """Return how many losses make the first level: a tenth, if they lie in a tenth of log(lr).

    A linear sweep leaves that tenth in a few steps, and then descends.
    """
    n_near = int(np.sum(log_lrs <= log_lrs[0] + 0.1 * (log_lrs[-1] - log_lrs[0])))
    return max(_LEAST_FINITE, min(len(log_lrs) // 10, n_near))


def _noise(losses: _Floats, first: float) -> float:
    """Return the standard deviation of one loss around the curve, before training explodes.

    From successive differences, which a slow descent hardly moves: 0.6745 is the median of
    |z| of a normal z, and a difference has twice the variance.
    """
    before = losses[: np.flatnonzero(losses <= first)[-1] + 1]
    return float(np.median(np.abs(np.diff(before)))) / (0.6745 * math.sqrt(2))


def _first_above(lrs: _Floats, losses: _Floats, level: float) -> float | None:
    above = np.flatnonzero(losses > level)
    return float(lrs[above[0]]) if len(above) else None


def propose(
    judgements: Sequence[Judgement],
    *,
    slow: Judgement | None = None,
    cycle_steps: int | None = None,
    adaptive: bool = False,
) -> Proposal | None:
    """Return bracket and proposal from the median edge; None unless most sweeps have one.

    A sweep whose edge lies above its last rate counts as the highest. One that never descended,
    or had no finite loss, says nothing about where training breaks and is left out of the median.

    `max_lr` is a share of the edge by the type of optimizer (`adaptive`: its step does not grow
    with the gradient), for a cycle of `cycle_steps` (default: REFERENCE_CYCLE_STEPS); see
    EDGE_TO_MAX_LR. `slow` is one more sweep of twice the steps: where its edge lies further than
    DRIFT_DECADES from the median, the bracket reaches as far that way, by at most 0.6 decades.
    """
    edges = [j.edge for j in judgements if _descended(j) and j.edge is not None]
    if 2 * len(edges) <= len(judgements):
        return None
    above = sum(j.ending == "reached end_lr" for j in judgements)
    # Geometric, for rates; an even number of sweeps with infinity in the middle stays infinite.
    ordered = sorted(edges) + [math.inf] * above
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    edge = math.sqrt(middle[0] * middle[1])
    max_lr = edge * _share(cycle_steps or REFERENCE_CYCLE_STEPS, adaptive=adaptive)
    drift = _drift(edge, slow)
    reach = 0.0 if drift is None or abs(drift) <= DRIFT_DECADES else drift
    return Proposal(
        edge=edge,
        low=max_lr / BRACKET_FACTOR * 10 ** max(-_WIDEST, min(0.0, reach)),
        high=max_lr * BRACKET_FACTOR * 10 ** min(_WIDEST, max(0.0, reach)),
        max_lr=max_lr,
        n_sweeps=len(ordered),
        interval=None if above else _interval(edges),
        drift=None if drift == math.inf else drift,
        widened=reach != 0,
    )


def _share(cycle_steps: int, *, adaptive: bool) -> float:
    """Return the proposal as a share of the edge."""
    if adaptive:
        return EDGE_TO_MAX_LR["adaptive"]
    shortest, longest = MEASURED_CYCLE_STEPS
    measured = min(max(cycle_steps, shortest), longest)
    # In proportion: an exponent of 0.5 lost 1.1 points in its worst row, 1 to 1.25 lost 0.3.
    return EDGE_TO_MAX_LR["sgd"] * measured / REFERENCE_CYCLE_STEPS


def _descended(judgement: Judgement) -> bool:
    return judgement.ending not in ("never descended", "no finite loss")


def _drift(edge: float, slow: Judgement | None) -> float | None:
    """Return decades from the edge to the slow one; inf where that lies above the last rate."""
    if slow is None or not _descended(slow):
        return None
    return math.inf if slow.edge is None else math.log10(slow.edge / edge)


def _interval(rates: Sequence[float]) -> tuple[float, float] | None:
    """Return the t interval of the mean of log10(rate), as rates; None for a single one."""
    # scipy.stats has the same quantiles and takes twice as long to import.
    from scipy.special import stdtrit

    n = len(rates)
    if n < 2:
        return None
    logs = [math.log10(rate) for rate in rates]
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * stdev(logs) / math.sqrt(n)
    return 10 ** (fmean(logs) - half), 10 ** (fmean(logs) + half)


def why_no_proposal(judgements: Sequence[Judgement], *, start_lr: float, end_lr: float) -> str:
    """Return what to do about sweeps of which most have no edge."""
    endings = [j.ending for j in judgements]
    silent = [j.ending for j in judgements if not _descended(j) or j.edge is None]
    advice: dict[Ending, str] = {
        "reached end_lr": f"raise end_lr (now {end_lr:g})",
        "never descended": f"check the task, or lower start_lr (now {start_lr:g})",
        "no finite loss": "check the data and the model: the loss is not a number from the start",
    }
    counts = ", ".join(f"{endings.count(end)} {end}" for end in dict.fromkeys(endings))
    worst = max(dict.fromkeys(silent), key=silent.count)
    return f"the range test found no bracket ({counts}): {advice[worst]}"
