"""The settings of the range test's benchmark, and what is measured of each, in which order."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from benchmarks.plan import Kind, Tool, Work
from benchmarks.tasks import CIFAR_RESIDUAL
from search.params import Params
from search.stages.space import baseline
from studies.cifar_small import STUDY as CIFAR_SMALL
from studies.definition import Study
from studies.digits import STUDY as DIGITS
from trainers.task import AdamW, Task

N_SWEEPS = 5
"""Sweeps of one range test of ours; a repetition takes 5 sweeps that no other one has."""
GRID_SEEDS = range(3)
N_BEST = 3
CHECK_SEEDS = range(100, 102)
TOOLS: tuple[Tool, ...] = get_args(Tool)


def number_of(rate: float) -> int:
    """Return the number of the nearest rate that a cycle can have; see `rate_of`."""
    return round(100 * math.log10(rate))


def rate_of(number: int) -> float:
    """Return the rate of a cycle's number, which counts hundredths of a decade from 1."""
    return float(f"{10 ** (number / 100):.6g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One task and what is measured of it.

    `rates` and `far_rates` are numbers for `rate_of`: the grid around the optimum, trained with
    every seed of the grid, and rates far from it, where other tools' suggestions fall, trained
    once; the best are trained again with `n_fresh_seeds` seeds that did not choose them.
    `range_tests` of ours and `tool_tests` of each other tool are pairs: steps of a sweep, and how
    many repetitions. `other_lengths` are pairs too: epochs of a cycle, and the grid there, trained
    with `n_other_seeds` seeds.
    """

    study: Study
    rates: tuple[int, ...]
    far_rates: tuple[int, ...] = ()
    n_fresh_seeds: int = 3
    range_tests: tuple[tuple[int, int], ...] = ((200, 8),)
    tool_tests: tuple[tuple[int, int], ...] = ((100, 4),)
    other_lengths: tuple[tuple[int, tuple[int, ...]], ...] = ()
    n_other_seeds: int = 2

    @property
    def name(self) -> str:
        """Return the name of the study."""
        return self.study.name

    def sweeps(self, n_steps: int) -> list[Work]:
        """Return the sweeps of all repetitions of one length; none for a length not measured."""
        n_repetitions = dict(self.range_tests).get(n_steps, 0)
        return [self._work("sweep", n, n_steps) for n in range(N_SWEEPS * n_repetitions)]

    def long_sweeps(self) -> list[Work]:
        """Return the sweeps of twice the study's steps, one per repetition, as its first one."""
        firsts = self.sweeps(self.study.range_test.n_steps)[::N_SWEEPS]
        return [self.slow_sweep(first) for first in firsts]

    def slow_sweep(self, first: Work) -> Work:
        """Return the sweep of twice the steps that belongs to a repetition's first one."""
        return replace(first, length=2 * first.length)

    def grid(self) -> list[Work]:
        """Return the cycles around the optimum, then those far from it."""
        near = [self._cycle(rate, seed) for seed in GRID_SEEDS for rate in self.rates]
        return near + [self._cycle(rate, 0) for rate in self.far_rates]

    def fresh(self, rates: Iterable[int]) -> list[Work]:
        """Return the cycles of the best rates, with fresh seeds."""
        seeds = range(len(GRID_SEEDS), len(GRID_SEEDS) + self.n_fresh_seeds)
        return [self._cycle(rate, seed) for seed in seeds for rate in rates]

    def cycles_of_other_lengths(self) -> list[Work]:
        """Return the cycles of other lengths."""
        return [
            self._work("cycle", rate, epochs, seed)
            for epochs, rates in self.other_lengths
            for seed in range(self.n_other_seeds)
            for rate in rates
        ]

    def suggestions(self, n_steps: int) -> list[Work]:
        """Return the other tools' tests of one length, repetition by repetition."""
        n_repetitions = dict(self.tool_tests).get(n_steps, 0)
        return [self._work(t, n, n_steps) for n in range(n_repetitions) for t in TOOLS]

    def checks(self, rates: Iterable[int]) -> list[Work]:
        """Return the cycles that are really trained at suggestions, with seeds of their own."""
        return [self._cycle(rate, seed) for seed in CHECK_SEEDS for rate in rates]

    def params(self, work: Work) -> Params | None:
        """Return what a cycle is trained with: torch's default 1cycle; None for all others."""
        return baseline(rate_of(work.number)) if work.kind == "cycle" else None

    def _cycle(self, rate: int, seed: int) -> Work:
        return self._work("cycle", rate, self.study.epochs, seed)

    def _work(self, kind: Kind, number: int, length: int, seed: int = 0) -> Work:
        return Work(task=self.name, kind=kind, number=number, length=length, seed=seed)


def _like_cifar_small(name: str, **changes: Any) -> Study:
    assert isinstance(CIFAR_SMALL.task, Task)
    return replace(CIFAR_SMALL, name=name, task=replace(CIFAR_SMALL.task, **changes))


def _octaves(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1, 30))


_SMALL = Setting(
    study=CIFAR_SMALL,
    rates=_octaves(-150, 60),
    far_rates=(-210, -270, -330),
    n_fresh_seeds=5,
    range_tests=((200, 8), (100, 8), (400, 8)),
    tool_tests=((100, 8), (200, 8), (400, 8)),
    other_lengths=((2, _octaves(-120, 30)), (8, _octaves(-90, 30))),
)
_ADAMW = Setting(
    study=_like_cifar_small("adamw", optimizer=AdamW()),
    rates=_octaves(-300, -90),
    far_rates=(-360, -420, -60),
)
_RESIDUAL = Setting(
    study=replace(CIFAR_RESIDUAL, name="residual"),
    rates=_octaves(-330, -120),
    far_rates=(-390, -90),
    other_lengths=((2, _octaves(-300, -120)), (8, _octaves(-300, -120))),
)
_NO_NORM = Setting(
    study=_like_cifar_small("no-norm", model="benchmarks.nets:small_cnn_without_norm"),
    rates=_octaves(-270, -60),
    far_rates=(-330, -390),
)
_BATCH_512 = Setting(
    study=_like_cifar_small("batch-512", batch_size=512),
    rates=_octaves(-150, 60),
    range_tests=((200, 3),),
    tool_tests=((100, 2),),
)
_DIGITS = Setting(
    study=DIGITS,
    rates=_octaves(-240, 90),
    far_rates=(-300, -360),
    n_fresh_seeds=5,
    tool_tests=((100, 8),),
    other_lengths=tuple((epochs, _octaves(-180, 30)) for epochs in (5, 20, 40)),
    n_other_seeds=4,
)
assert isinstance(DIGITS.task, Task)
_DIGITS_ADAMW = Setting(
    study=replace(DIGITS, name="digits-adamw", task=replace(DIGITS.task, optimizer=AdamW())),
    rates=_octaves(-360, -60),
    far_rates=(-420,),
    n_fresh_seeds=5,
    tool_tests=((100, 8),),
    other_lengths=tuple((epochs, _octaves(-270, -60)) for epochs in (5, 20, 40)),
    n_other_seeds=4,
)
BEFORE_THE_RULE = (_SMALL, _ADAMW, _RESIDUAL, _NO_NORM)
AFTER_THE_RULE = (_DIGITS, _DIGITS_ADAMW, _BATCH_512)
SETTINGS = {setting.name: setting for setting in (*BEFORE_THE_RULE, *AFTER_THE_RULE)}
"""A first rule was fixed before anything of the last three was recorded, and missed there; the
rule of today before the other lengths of the two with digits."""

Found = Callable[[Setting], Sequence[int]]
"""Returns rates of a setting that earlier work has found, none while it is not all there."""


def in_order(best: Found, suggested: Found) -> list[list[Work]]:
    """Return all work in groups: each is done before the next begins, for a beginning of use."""
    first, last = BEFORE_THE_RULE, AFTER_THE_RULE
    small = SETTINGS["cifar-small"]
    return [
        _evenly(*(_evenly(s.sweeps(200), s.long_sweeps(), s.grid()) for s in first)),
        *(_evenly(s.sweeps(200), s.long_sweeps(), s.grid()) for s in last),
        _evenly(*(s.cycles_of_other_lengths() for s in last)),
        _evenly(*(_evenly(s.fresh(best(s)), s.suggestions(100)) for s in first)),
        _evenly(small.sweeps(100), *(small.suggestions(n) for n in (200, 400))),
        _evenly(*(_evenly(s.fresh(best(s)), s.suggestions(100)) for s in last)),
        _evenly(*(s.cycles_of_other_lengths() for s in first)),
        _evenly(small.sweeps(400), *(s.checks(suggested(s)) for s in SETTINGS.values())),
    ]


def _evenly(*lists: list[Work]) -> list[Work]:
    """Return all lists in one, each spread evenly over the whole."""
    places = [
        ((index + 0.5) / len(works), number, index)
        for number, works in enumerate(lists)
        for index in range(len(works))
    ]
    return [lists[number][index] for _, number, index in sorted(places)]
