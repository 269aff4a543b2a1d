"""What curves say: curves of sweeps -> rebound, edge, bracket, proposal; pure numpy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainers.sweep import LRCurve

Ending = Literal["rebounded", "no rebound", "never descended", "no finite loss"]

SMOOTHING_DECADES = 0.25
"""Standard deviation of the centred Gaussian kernel, in decades of lr."""
REBOUND_SHARE = 0.10
"""The rebound: the smoothed loss has risen by this share of its drop above its minimum."""
EDGE_SHARE = 0.50
"""The edge: half of the drop is lost again, or the loss is not finite."""
LEAST_DROP = 3.0
"""A drop smaller than this many standard deviations of the noise of one loss is no descent."""
_ROUNDING = 1e-6  # of a float32 loss, relative: a drop of that size is none
BRACKET_FACTOR = 4.0
PROPOSAL_SHARE = 0.75
"""The proposal as a share of the centre: optimum / rebound had geometric mean 0.77 over 15 sweeps
of three settings of a small net on CIFAR-10, tuned and scored on the same data."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one sweep says; `rebound` and `edge` are learning rates, None where not reached."""

    ending: Ending
    rebound: float | None
    edge: float | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What all sweeps of a range test say together."""

    centre: float
    low: float
    high: float
    max_lr: float


def smooth(log_lrs: _Floats, losses: _Floats) -> _Floats:
    """Return the losses under a centred Gaussian kernel in log10(lr): no lag, unlike an average
    over past steps. Shapes (N,), (N,) -> (N,).
    """
    distance = (log_lrs[:, None] - log_lrs[None, :]) / SMOOTHING_DECADES
    weights = np.exp(-0.5 * distance**2)
    smoothed: _Floats = weights @ losses / weights.sum(axis=1)
    return smoothed


def judge(curve: LRCurve) -> Judgement:
    """Return where the loss of one sweep turns (rebound) and where training breaks (edge).

    Losses may be negative and of any scale: only differences and their order count. Losses above
    the first level are clipped to it before smoothing, so that an explosion does not reach back.
    """
    lrs, losses = np.asarray(curve.lrs), np.asarray(curve.losses)
    broken = np.flatnonzero(~np.isfinite(losses))
    n_finite = int(broken[0]) if len(broken) else len(losses)
    broken_lr = float(lrs[n_finite]) if len(broken) else None
    if n_finite < 10:
        return Judgement("no finite loss", None, broken_lr)
    log_lrs, finite = np.log10(lrs[:n_finite]), losses[:n_finite]
    first = float(np.median(finite[: max(10, n_finite // 10)]))
    smoothed = smooth(log_lrs, np.minimum(finite, first))
    lowest = int(np.argmin(smoothed))
    drop = first - float(smoothed[lowest])
    if drop <= max(LEAST_DROP * _noise(finite, first), _ROUNDING * abs(first)):
        return Judgement("never descended", None, broken_lr)
    after, minimum = smoothed[lowest:], float(smoothed[lowest])
    rebound = _first_above(lrs[lowest:n_finite], after, minimum + REBOUND_SHARE * drop)
    edge = _first_above(lrs[lowest:n_finite], after, minimum + EDGE_SHARE * drop)
    rebound = rebound if rebound is not None else broken_lr
    edge = edge if edge is not None else broken_lr
    return Judgement("no rebound" if rebound is None else "rebounded", rebound, edge)


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


def propose(judgements: Sequence[Judgement]) -> Proposal | None:
    """Return bracket and proposal from the median rebound; None unless most sweeps rebounded.

    A sweep that still fell at its last rate counts as the highest. One that never descended, or
    had no finite loss, says nothing about where the turn is and is left out of the median.
    """
    rebounds = [j.rebound for j in judgements if j.rebound is not None]
    if 2 * len(rebounds) <= len(judgements):
        return None
    still_falling = sum(j.ending == "no rebound" for j in judgements)
    ordered = sorted(rebounds) + [math.inf] * still_falling
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    centre = math.sqrt(middle[0] * middle[1])
    return Proposal(
        centre=centre,
        low=centre / BRACKET_FACTOR,
        high=centre * BRACKET_FACTOR,
        max_lr=centre * PROPOSAL_SHARE,
    )
