"""What curves say: curves of sweeps -> rebound, edge, bracket, proposal; pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

import numpy as np

from trainers.quantiles import t_quantile
from trainers.sweeps.smoothing import (
    ROUNDING,
    Floats,
    SmoothedCurve,
    drop_of,
    noise_of,
    pooled,
    smoothed_curve,
)
from trainers.sweeps.sweep import LRCurve

Ending = Literal[
    "diverged",
    "rebounded",
    "reached end_lr",
    "never descended",
    "constant loss",
    "broke too early",
    "broke at once",
    "no finite loss",
    "no lower bound",
]
"""How a sweep ended, told apart by its losses:

diverged: it descended, and then a loss was not finite
rebounded: half of its drop was lost again, and every loss was finite
reached end_lr: the edge lies above the last rate; so does the rebound where there is none
never descended: no drop stands out of the noise
constant loss: every loss is the same
broke too early: a loss was not finite, and no drop before it stands out of the noise
broke at once: fewer than 10 losses, of which the first is finite, before one that is not
no finite loss: not even the first, which no step of the optimizer has touched
no lower bound: far below zero, faster at every rate, up to the last; no edge is known
"""

REBOUND_SHARE = 0.10
"""The rebound: the smoothed loss has risen by this share of its drop above its minimum."""
# The edge stands still where the rebound moves: standard deviations of 0.03 to 0.06 decades
# against 0.04 to 0.20, over 8 range tests in each of four settings (docs/log.md).
EDGE_SHARE = 0.50
"""The edge: half of the drop is lost again, or the loss is not finite."""
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
# Recorded families (docs/benchmarks/judge.md): a rate within 0.1 points of the best lay within a
# factor of 3.0 in 80 % of them; the best of the recorded rates within 4 in 15 of 20.
WITHIN_FACTOR = 4.0
"""The best max_lr lies so far from the proposal, at most, in WITHIN_SHARE of WITHIN_FAMILIES."""
WITHIN_SHARE = 0.8
WITHIN_FAMILIES = 22
# By the edge 1 of 32 range tests drifts further; 20 did by the rebound (docs/log.md).
DRIFT_DECADES = 0.3
"""An edge that moves further than this when a sweep takes twice the steps widens the bracket."""
_WIDEST = 0.6  # decades that a drift may add to the bracket
AGREE_FACTOR = 10**DRIFT_DECADES
"""Edges of two sweeps agree up to this factor, half of what the bracket forgives either way."""
CONFIDENCE = 0.95
# With two, one difference decides the width: half the time it is off by a factor of 2 and more
# (t with one degree of freedom), and two that differ widely are followed by a third.
FEWEST_FOR_INTERVAL = 3
"""Fewer sweeps with an edge have no interval."""

# A loss with a lower bound falls ever faster too, up to the middle of its descent, but not to far
# below zero: a negative cosine similarity that begins at 0.003 ends at -1, and slows down.
_UNBOUNDED = 10.0  # times the first level and its noise
_LAST_DECADES = 1.0  # hold more of the fall than all rates before them


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one sweep says; `rebound` and `edge` are learning rates, None where not reached.

    After `reached end_lr`, None says that it lies above the last rate: a bound, not a number.
    """

    ending: Ending
    rebound: float | None
    edge: float | None


Origin = Literal["edge", "other batch size", "own range", "wide range"]
"""Whose the range of max_lr is, and the max_lr of the baseline in it:

edge: a bracket and a share of the edge, from the sweeps
other batch size: the same, from the sweeps of another batch size, for those of this one have none
own range: the author's (studies.space.Space); the share of the edge, else its geometric mean
wide range: ours (trainers.sweeps.ranges), where no sweeps have an edge; its geometric mean
"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a range test comes to: the range [low, high] of max_lr, and one `max_lr` in it.

    `edge` is the median edge of the `n_sweeps` sweeps that say where it is; None where they do
    not, and `reason` says why. `interval` is the t
    interval (CONFIDENCE) of the mean of log10(edge) across them, as learning rates: of seeds, not
    of the steps of one sweep, whose losses are not independent. None for fewer than
    FEWEST_FOR_INTERVAL sweeps, and where the edge of a sweep lies above its last rate: then its
    value is not known. `apart` is the highest edge over the lowest, None where there are not two,
    or one lies above the last rate.

    `drift`: decades from `edge` to that of the slow sweep, which takes twice the steps; None where
    there is none, or it has no edge. `widened`: the bracket reaches further for it.
    """

    edge: float | None
    low: float
    high: float
    max_lr: float
    n_sweeps: int
    interval: tuple[float, float] | None
    drift: float | None
    widened: bool
    origin: Origin = "edge"
    reason: str | None = None
    apart: float | None = None


def judge(curve: LRCurve) -> Judgement:
    """Return where the loss of one sweep turns (rebound) and where training breaks (edge).

    Losses may be negative and of any scale: only differences and their order count.
    """
    return judge_together([curve])[0]


def judge_together(curves: Sequence[LRCurve]) -> list[Judgement]:
    """Return what each of several sweeps over the same rates says.

    Those whose drop does not stand out of the noise alone are tested by their mean; where that
    stands out, each has descended.
    """
    read = [smoothed_curve(curve) for curve in curves]
    descended = _descents(read)
    return [_said(each, n in descended) for n, each in enumerate(read)]


def _descents(read: Sequence[SmoothedCurve]) -> set[int]:
    """Return the numbers of the sweeps that descended."""
    drops = {n: drop_of(each) for n, each in enumerate(read) if not math.isnan(each.first)}
    alone = {n for n, drop in drops.items() if drop.stands_out}
    weak = {n: drop for n, drop in drops.items() if n not in alone}
    if len(weak) < 2:
        return alone
    together = pooled(list(weak.values()))
    if not together.stands_out:
        return alone
    # One that broke before that has not shown it.
    return alone | {n for n, drop in weak.items() if len(drop.below) > together.lowest}


def _said(read: SmoothedCurve, descended: bool) -> Judgement:
    lrs, smoothed, first, broken_lr = read.lrs, read.smoothed, read.first, read.broken_lr
    if math.isnan(first):
        return Judgement("broke at once" if len(lrs) else "no finite loss", None, broken_lr)
    lowest = int(np.argmin(smoothed))
    drop = first - float(smoothed[lowest])
    if not descended or drop <= ROUNDING * abs(first):
        return Judgement(_undescended(read), None, broken_lr)
    if _falls_without_end(read):
        return Judgement("no lower bound", None, None)
    after, minimum = smoothed[lowest:], float(smoothed[lowest])
    rebound = _first_above(lrs[lowest:], after, minimum + REBOUND_SHARE * drop)
    edge = _first_above(lrs[lowest:], after, minimum + EDGE_SHARE * drop)
    rebound = rebound if rebound is not None else broken_lr
    edge = edge if edge is not None else broken_lr
    if broken_lr is not None:
        return Judgement("diverged", rebound, edge)
    return Judgement("reached end_lr" if edge is None else "rebounded", rebound, edge)


def _undescended(read: SmoothedCurve) -> Ending:
    if read.broken_lr is not None:
        return "broke too early"
    constant = float(np.ptp(read.losses)) <= ROUNDING * abs(read.first)
    return "constant loss" if constant else "never descended"


def _falls_without_end(read: SmoothedCurve) -> bool:
    """Whether the loss has no lower bound, as far as its values and its last rates tell."""
    logs, smoothed = np.log10(read.lrs), read.smoothed
    last = float(smoothed[-1])
    far_below = last < -_UNBOUNDED * (abs(read.first) + noise_of(read))
    before = float(np.interp(logs[-1] - _LAST_DECADES, logs, smoothed))
    return far_below and last <= smoothed.min() and read.first - before < before - last


def _first_above(lrs: Floats, losses: Floats, level: float) -> float | None:
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

    A sweep whose edge lies above its last rate counts as the highest. One without a descent, or
    with one that has no end, says nothing about where training breaks and is left out of the
    median.

    `max_lr` is a share of the edge by the type of optimizer (`adaptive`: its step does not grow
    with the gradient), for a cycle of `cycle_steps` (default: REFERENCE_CYCLE_STEPS); see
    EDGE_TO_MAX_LR. `slow` is one more sweep of twice the steps: where its edge lies further than
    DRIFT_DECADES from the median, the bracket reaches as far that way, by at most 0.6 decades.
    """
    edges = _edges(judgements)
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
        apart=edges_apart(judgements),
    )


def agree(judgements: Sequence[Judgement]) -> bool:
    """Whether every sweep has an edge, and none lies further than AGREE_FACTOR from another."""
    edges = _edges(judgements)
    if not edges or len(edges) < len(judgements):
        return not judgements
    return max(edges) <= AGREE_FACTOR * min(edges)


def edges_apart(judgements: Sequence[Judgement]) -> float | None:
    """Return the highest edge of sweeps over the lowest; see Proposal for when there is none."""
    edges = _edges(judgements)
    if not edges or any(j.ending == "reached end_lr" for j in judgements):
        return None
    return max(edges) / min(edges) if len(edges) > 1 else None


def _edges(judgements: Sequence[Judgement]) -> list[float]:
    return [j.edge for j in judgements if _descended(j) and j.edge is not None]


def _share(cycle_steps: int, *, adaptive: bool) -> float:
    """Return the proposal as a share of the edge."""
    if adaptive:
        return EDGE_TO_MAX_LR["adaptive"]
    shortest, longest = MEASURED_CYCLE_STEPS
    measured = min(max(cycle_steps, shortest), longest)
    # In proportion: an exponent of 0.5 lost 1.1 points in its worst row, 1 to 1.25 lost 0.3.
    return EDGE_TO_MAX_LR["sgd"] * measured / REFERENCE_CYCLE_STEPS


def _descended(judgement: Judgement) -> bool:
    """Whether the sweep says where training breaks, or that it does so above the last rate."""
    return judgement.ending in ("diverged", "rebounded", "reached end_lr")


def _drift(edge: float, slow: Judgement | None) -> float | None:
    """Return decades from the edge to the slow one; inf where that lies above the last rate."""
    if slow is None or not _descended(slow):
        return None
    return math.inf if slow.edge is None else math.log10(slow.edge / edge)


def _interval(rates: Sequence[float]) -> tuple[float, float] | None:
    """Return the t interval of the mean of log10(rate), as rates; None for too few."""
    n = len(rates)
    if n < FEWEST_FOR_INTERVAL:
        return None
    logs = [math.log10(rate) for rate in rates]
    half = t_quantile((1 + CONFIDENCE) / 2, n - 1) * stdev(logs) / math.sqrt(n)
    return 10 ** (fmean(logs) - half), 10 ** (fmean(logs) + half)
