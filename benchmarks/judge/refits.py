"""First choices, the share of the edge, and the spread of the proposal, fitted again with each
family left out in turn, and all that shares its net or data.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge.judged import POINT, Judged, judged, relatives
from benchmarks.judge.ours import Search
from benchmarks.recorded_task import places
from search.params import Params
from search.stages.first import FACTORS, SHAPE
from trainers.seeding import run_seed_for
from trainers.sweeps.judgement import WITHIN_SHARE

Floats = NDArray[np.float64]
Choice = tuple[float, float, float]
"""max_lr over the proposal, pct_start, div_factor."""

N_RANGE_TESTS = 24
_RATES = tuple(10 ** (step / 10) for step in range(-10, 16))
_SHAPES = tuple(product((0.15, 0.3, 0.45, 0.6), (5.0, 15.0, 25.0, 60.0)))
GRID: tuple[Choice, ...] = tuple((rate, *shape) for rate in _RATES for shape in _SHAPES)
"""First choices that a fit may take."""
DEFAULTS: Choice = (1.0, 0.3, 25.0)
NOW: tuple[Choice, ...] = tuple(
    (factor, float(SHAPE["pct_start"]), float(SHAPE["div_factor"])) for factor in FACTORS
)
"""Those of the product."""
SHARES = tuple(10 ** (step / 10) for step in range(-8, 13))
"""Multiples of the product's share of the edge."""
EXPONENTS = (-0.5, -0.25, 0.0, 0.25, 0.5)
_MOST = 5.0
"""Points: a choice that breaks a training is no worse to a fit than one that loses so much."""
_FLAT = 0.1
_DRAWS = 4_000


@dataclass(frozen=True, eq=False)
class Measured:
    """What choices lose in one family, in points: `at` is of shape (range tests, rates, shapes),
    where the rates are multiples of each range test's proposal.
    """

    name: str
    adaptive: bool
    steps: int
    batch_size: int
    at: Floats
    away: tuple[float, float]

    def lost(self, choice: Choice) -> Floats:
        """Return what a choice loses after each range test; rates are interpolated."""
        rate, *shape = choice
        curves = self.at[:, :, _ALL_SHAPES.index((shape[0], shape[1]))]
        place = np.interp(math.log10(rate), _LOG_RATES, np.arange(len(_LOG_RATES)))
        below = int(place)
        above, part = min(below + 1, len(_LOG_RATES) - 1), place - below
        between: Floats = (1 - part) * curves[:, below] + part * curves[:, above]
        return np.minimum(between, _MOST)


_LOG_RATES = np.arange(-30, 36) / 20
_ALL_SHAPES: list[tuple[float, float]] = list(_SHAPES)


def measured(name: str) -> Measured:
    """Return what choices lose in a family, by the truth of its surface."""
    on = judged(name)
    proposals = [_proposal(on, number) for number in range(N_RANGE_TESTS)]
    at = np.empty((len(proposals), len(_LOG_RATES), len(_ALL_SHAPES)))
    for row, proposal in enumerate(proposals):
        rates = proposal * 10**_LOG_RATES
        for column, (pct_start, div_factor) in enumerate(_ALL_SHAPES):
            points = [
                Params(max_lr=float(rate), pct_start=pct_start, div_factor=div_factor)
                for rate in rates
            ]
            truth = on.world.truth_at(places(points))
            at[row, :, column] = np.maximum(0.0, (on.best - truth) / POINT)
    task = on.study.task
    return Measured(
        name=name,
        adaptive=bool(task.adaptive),
        steps=on.study.cycle_steps,
        batch_size=task.batch_size,
        at=at,
        away=_away(at),
    )


def _proposal(on: Judged, number: int) -> float:
    seed = run_seed_for(0, "judge", number)
    return Search(on.study, on.world, seed=seed).proposal.max_lr


def _away(at: Floats) -> tuple[float, float]:
    """Return decades from the proposal to the nearest rate that is best within 0.1 points, median
    over range tests: with torch's default shape, and with that of the first choices."""
    found = []
    for shape in (DEFAULTS[1:], NOW[0][1:]):
        curves = at[:, :, _ALL_SHAPES.index((shape[0], shape[1]))]
        nearest = []
        for curve in curves:
            flat = _LOG_RATES[curve <= curve.min() + _FLAT]
            nearest.append(float(flat[np.abs(flat).argmin()]))
        found.append(float(np.median(nearest)))
    return found[0], found[1]


def left_out(
    families: Sequence[Measured],
    candidates: Sequence[Any],
    loss: Callable[[Measured, Any], float],
) -> dict[str, tuple[float, Any]]:
    """Return for each family what the candidate loses that is best on the others, and which.

    The others share neither net nor data with it.
    """
    table = {f.name: np.array([loss(f, each) for each in candidates]) for f in families}
    found = {}
    for family in families:
        others = [f.name for f in families if f.name not in relatives(family.name)]
        if not others:
            continue
        best = int(np.mean([table[name] for name in others], axis=0).argmin())
        found[family.name] = float(table[family.name][best]), candidates[best]
    return found


def lost_alone(family: Measured, choice: Choice) -> float:
    """Return the median loss of one choice, where nothing is trained."""
    return float(np.median(family.lost(choice)))


def lost_by_set(family: Measured, choices: Sequence[Choice]) -> float:
    """Return the median loss of the best of several choices beside torch's defaults."""
    together = np.array([family.lost(choice) for choice in (DEFAULTS, *choices)])
    return float(np.median(together.min(axis=0)))


def fitted_set(families: Sequence[Measured], n: int = 3) -> tuple[Choice, ...]:
    """Return `n` choices beside torch's defaults that lose least together, one after the other,
    each then exchanged for a better one as long as there is one.
    """
    lost = {choice: [family.lost(choice) for family in families] for choice in GRID}
    defaults = [family.lost(DEFAULTS) for family in families]

    def loss(choices: Sequence[Choice]) -> float:
        return fmean(
            float(np.median(np.min([defaults[i], *(lost[c][i] for c in choices)], axis=0)))
            for i in range(len(families))
        )

    chosen: list[Choice] = []
    for _ in range(n):
        chosen.append(min(GRID, key=lambda choice: loss([*chosen, choice])))
    for place in range(n):
        rest = [*chosen[:place], *chosen[place + 1 :]]
        chosen = [*rest, min(GRID, key=lambda choice: loss([*rest, choice]))]
    return tuple(chosen)


def against(new: Mapping[str, float], old: Mapping[str, float]) -> tuple[float, float, float]:
    """Return new minus old, mean over families, with a 95 % bootstrap over families."""
    apart = np.array([new[name] - old[name] for name in new])
    draws = np.random.default_rng(0).integers(len(apart), size=(_DRAWS, len(apart)))
    low, high = np.quantile(apart[draws].mean(axis=1), [0.025, 0.975])
    return float(apart.mean()), float(low), float(high)


def refitted(families: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """Yield one row for each fit: what, what the product loses, what the fit loses, and both."""
    now = {f.name: lost_alone(f, NOW[0]) for f in families}
    yield _row("first choice", now, left_out(families, GRID, lost_alone))
    for name, feature in FEATURES.items():
        fits = left_out(families, feature.candidates, feature.loss)
        yield _row(f"first choice, with {name}", now, fits)
    sets = {f.name: lost_by_set(f, NOW) for f in families}
    fits = {}
    for family in families:
        others = [f for f in families if f.name not in relatives(family.name)]
        chosen = fitted_set(others)
        fits[family.name] = lost_by_set(family, chosen), chosen
    yield _row("best of three and torch's defaults", sets, fits)
    at_proposal = {f.name: lost_alone(f, DEFAULTS) for f in families}
    for kind, adaptive in (("SGD", False), ("Adam's kinds", True)):
        own = [f for f in families if f.adaptive == adaptive]
        fits = left_out(own, SHARES, lambda f, share: lost_alone(f, (share, *DEFAULTS[1:])))
        yield _row(f"share of the edge, {kind}", {f.name: at_proposal[f.name] for f in own}, fits)


def _row(
    what: str, now: Mapping[str, float], fits: Mapping[str, tuple[float, Any]]
) -> dict[str, Any]:
    new = {name: lost for name, (lost, _) in fits.items()}
    kept = {name: now[name] for name in new}
    chosen = [repr(choice) for _, choice in fits.values()]
    usual = max(set(chosen), key=chosen.count)
    return {
        "what": what,
        "n": len(new),
        "now": round(fmean(kept.values()), 3),
        "fit": round(fmean(new.values()), 3),
        "difference": [round(each, 3) for each in against(new, kept)],
        "usual": usual,
    }


@dataclass(frozen=True, slots=True)
class Feature:
    """A first choice whose rate depends on one thing beside the edge."""

    candidates: Sequence[Any]
    loss: Callable[[Measured, Any], float]


_FEW = tuple((rate, *shape) for rate in _RATES for shape in ((0.3, 25.0), (0.45, 15.0)))


def _by_type(family: Measured, both: tuple[Choice, Choice]) -> float:
    return lost_alone(family, both[family.adaptive])


def _scaled(family: Measured, chosen: tuple[Choice, float], ratio: float) -> float:
    (rate, *shape), exponent = chosen
    return lost_alone(family, (rate * ratio**exponent, shape[0], shape[1]))


def _by_steps(family: Measured, chosen: tuple[Choice, float]) -> float:
    return _scaled(family, chosen, family.steps / 312)


def _by_batch(family: Measured, chosen: tuple[Choice, float]) -> float:
    return _scaled(family, chosen, family.batch_size / 64)


_SCALED = tuple(product(_FEW, EXPONENTS))
FEATURES = {
    "the optimizer's type": Feature(tuple(product(_FEW, _FEW)), _by_type),
    "the steps of a cycle": Feature(_SCALED, _by_steps),
    "the batch size": Feature(_SCALED, _by_batch),
}


def spread(families: Sequence[Measured]) -> dict[str, Any]:
    """Return within which factor of the proposal the best max_lr lies in 80 % of families."""
    found: dict[str, Any] = {
        "n": len(families),
        "families": {f.name: [round(each, 2) for each in f.away] for f in families},
    }
    for number, shape in enumerate(("defaults", "first choice")):
        away = [abs(f.away[number]) for f in families]
        found[shape] = round(10 ** float(np.quantile(away, WITHIN_SHARE, method="higher")), 2)
    return found
