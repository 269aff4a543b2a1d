"""Pairs of the pick and the baseline: when they stop, and what they show."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING

from search.stages.statistics import CONFIDENCE, POWER
from studies.answer import Comparison, Estimate, Looks, Split

if TYPE_CHECKING:
    import numpy as np

LOOKS = (3, 4, 5, 7, 10)
"""Pairs at which is looked: early ones end a clear case, the last ones show small differences."""
FUTILE = 0.15
"""Below this chance that the last look would show the pick to be better, no pair is added. At no
difference it saves a quarter of the cycles that 0.05 takes, and at 0.7 points costs 3 points of
power (docs/log.md)."""
_N_NODES = 48  # of a quadrature
_N_POINTS = 128  # of an interpolation
_REACH = 9.0
"""Deviations beyond which a normal distribution holds nothing; `_NOTHING` is such a share."""
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Spread:
    """Squares of a pair's difference about its mean, from other cycles of the study.

    `squares` / `freedom` is the variance of one pair's difference.
    """

    squares: float = 0.0
    freedom: int = 0


def looks_of(most: int) -> tuple[int, ...]:
    """Return the numbers of pairs at which is looked where there are `most` at most."""
    return (*(n for n in LOOKS if n < most), most)


def looks_with_losses(whole: Sequence[bool], looks: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of pairs that looks have or will have, where some pairs are lost.

    `whole` says of each pair that was opened whether both of its runs have finished. A lost pair
    is not made up for; fewer than two pairs are no look.
    """
    had = [sum(whole[:look]) + max(0, look - len(whole)) for look in looks]
    return tuple(sorted({n for n in had if n >= 2}))


def compare_in_looks(
    differences: Sequence[float],
    spread: Spread,
    *,
    looks: tuple[int, ...],
    sign: float,
    split: Split,
) -> Comparison:
    """Return what the pairs so far show, the pick minus the baseline.

    `differences` are one for each pair, at least two; `looks` the numbers of pairs of all looks,
    the earlier and the later ones, that of these pairs among them; `sign` is 1 where greater is
    better, -1 where less is.

    The deviation of a pair is pooled with `spread`. The interval is the repeated confidence
    interval of Jennison & Turnbull (J. R. Stat. Soc. B 51, 1989, p. 305): the estimate +- the
    boundary x its standard error. All looks' intervals hold the truth together with
    probability CONFIDENCE, so the last one does whenever and why ever it stops.
    """
    n, most = len(differences), looks[-1]
    mean = fmean(differences)
    squares = spread.squares + math.fsum((each - mean) ** 2 for each in differences)
    freedom = spread.freedom + n - 1
    deviation = math.sqrt(squares / freedom)
    reach = boundary(looks, n, spread.freedom)
    half = reach * deviation / math.sqrt(n)
    last = boundary(looks, most, spread.freedom)
    # As of a single look (search.stages.statistics.compare), at the last one.
    quantiles = last + _t_quantile(POWER, spread.freedom + most - 1)
    crossed = abs(mean) > half
    return Comparison(
        Estimate(mean, mean - half, mean + half, n),
        quantiles * deviation / math.sqrt(most),
        Looks(
            planned=looks,
            n=sum(look <= n for look in looks),
            boundary=reach,
            deviation=deviation,
            freedom=freedom,
            futile=n < most
            and not crossed
            and _chance(sign * mean, deviation, freedom, n=n, most=most, last=last) < FUTILE,
        ),
        split,
    )


def has_ended(comparison: Comparison) -> bool:
    """Whether no pair is added: a difference is shown, none will be, or it was the last look."""
    looks = comparison.looks
    assert looks is not None
    return comparison.shown or looks.futile or comparison.difference.n == looks.planned[-1]


def _chance(
    mean: float, deviation: float, freedom: int, *, n: int, most: int, last: float
) -> float:
    """Return the chance that the last look shows the pick to be better, given `n` pairs.

    The predictive probability of Spiegelhalter, Freedman & Blackburn (Control. Clin. Trials 7,
    1986, p. 8) under a flat prior; what earlier looks might show is left out. The stop does not
    bind: the boundary holds whether or not it is followed, and following it costs a hundredth of
    the power. Only 'better' counts: 'worse' and 'no difference' give the same advice.
    """
    from scipy.special import stdtr

    needed = last * deviation / math.sqrt(most)
    if not deviation:
        return float(mean > needed)
    return float(stdtr(freedom, (mean - needed) / (deviation * math.sqrt(1 / n - 1 / most))))


@cache
def boundary(looks: tuple[int, ...], n: int, freedom: int) -> float:
    """Return how many standard errors a difference must exceed at the look of `n` pairs.

    Pocock's constant boundary (Biometrika 64, 1977, p. 191) by the significance level approach
    for t statistics (Jennison & Turnbull, Group Sequential Methods, 2000, sections 4.4 and 11.5):
    each look is a t test at the same nominal level, with the degrees of freedom that it has.
    For LOOKS and many degrees of freedom that is 2.385, with 20 of the study's 2.57 at the last
    look. Of equal looks 2.178 (two), 2.289 (three) and 2.413 (five), as Pocock printed.
    """
    return _t_quantile(1 - nominal_level(looks, freedom), freedom + n - 1)


@cache
def nominal_level(looks: tuple[int, ...], freedom: int) -> float:
    """Return the one-sided level of each look at which all err with probability 1 - CONFIDENCE.

    `freedom` is that of the deviation from elsewhere. Exact for normal differences of one
    deviation: the level of the normal boundary errs too often where degrees of freedom are few
    (.029 towards better in place of .025 for LOOKS with none from elsewhere).
    """
    error = 1 - CONFIDENCE
    if len(looks) == 1:
        return error / 2
    from scipy.optimize import brentq

    def excess(level: float) -> float:
        return CONFIDENCE - stays_within(looks, freedom, level)

    return float(brentq(excess, error / 2 / len(looks), error / 2, xtol=1e-6))


def stays_within(looks: tuple[int, ...], freedom: int, level: float) -> float:
    """Return the chance that no look crosses where there is no difference.

    The recursion of Armitage, McPherson & Rowe (J. R. Stat. Soc. A 132, 1969, p. 235), backwards
    and in u, the sum of the differences over the root of all squares, those from elsewhere
    included. u is independent of these squares (Basu's theorem), so it is a Markov chain: a pair
    turns it by an angle a into u cos a + sin a, where a has the density of cos(a) ** (freedom + n)
    after n + 1 pairs.
    """
    import numpy as np
    from scipy.interpolate import PchipInterpolator

    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    inside: Callable[[np.ndarray], np.ndarray] = np.ones_like
    for n in range(looks[-1] - 1, looks[0] - 1, -1):
        reach = _reach(n + 1, freedom, level if n + 1 in looks else _NOTHING)
        here = _reach(n, freedom, level if n in looks else _NOTHING)
        u = here * np.sin(np.linspace(0, math.pi / 2, _N_POINTS))
        stays = np.zeros_like(u)
        for low, high in _turns_within(u, reach, freedom + n):
            turn = (low + high) / 2 + np.outer(nodes, (high - low) / 2)
            later = inside(np.minimum(np.abs(u * np.cos(turn) + np.sin(turn)), reach))
            density = np.cos(turn) ** (freedom + n - 1) / _whole(freedom + n)
            stays += weights @ (later * density) * (high - low) / 2
        inside = PchipInterpolator(u, stays)
    return _first_within(looks[0], freedom, level, inside)


def _turns_within(
    u: "np.ndarray", reach: float, freedom: int
) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
    """Yield the ranges of angles that turn u >= 0 to at most `reach`, both ends for each u.

    u cos a + sin a is sqrt(1 + u^2) sin(a + atan(u)): within reach about 0, and again where one
    pair alone is nearly all of the sum.
    """
    import numpy as np

    most = min(math.pi / 2, _REACH / math.sqrt(freedom))
    start = np.arctan(u)
    half = np.arcsin(np.minimum(1.0, reach / np.sqrt(1 + u**2)))
    for middle in (0.0, math.pi):
        yield (
            np.clip(middle - half - start, -most, most),
            np.clip(middle + half - start, -most, most),
        )


def _first_within(
    n: int, freedom: int, level: float, inside: "Callable[[np.ndarray], np.ndarray]"
) -> float:
    """Return the chance that neither the look of `n` pairs, the first, nor a later one crosses."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    degrees = freedom + n - 1
    # t = sqrt(degrees) tan(a) has the density of cos(a) ** (degrees - 1), and u is sqrt(n) sin(a).
    most = math.atan(_t_quantile(1 - level, degrees) / math.sqrt(degrees))
    angle = most * nodes
    density = np.cos(angle) ** (degrees - 1) / _whole(degrees)
    return float(weights @ (density * inside(math.sqrt(n) * np.abs(np.sin(angle)))) * most)


def _whole(freedom: int) -> float:
    """Return the integral of cos(a) ** (freedom - 1) over half a turn."""
    return math.sqrt(math.pi) * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))


def _reach(n: int, freedom: int, level: float) -> float:
    """Return the u of `n` pairs whose t statistic has that one-sided level."""
    degrees = freedom + n - 1
    t = _t_quantile(1 - level, degrees)
    return math.sqrt(n) * t / math.hypot(t, math.sqrt(degrees))


@cache
def _t_quantile(probability: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
