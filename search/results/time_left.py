"""How long a study still takes: what its own runs took, times how many more there may be.

Pure functions of what was measured and counted; search/results/status.py reads that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median_low

from search.starting.cost import duration_text
from studies.states import Stage

_SEARCHES = {
    6: 119, 7: 212, 8: 311, 9: 390, 10: 329, 11: 250, 12: 178, 13: 129, 14: 88, 15: 64, 16: 41,
    17: 22, 18: 12, 19: 10, 20: 9, 21: 8, 22: 8, 23: 5, 24: 15,
}  # fmt: skip
"""Cycles of a search that ends by itself -> how many of the 2,200 searches that the judge replays
on 22 families had so many; 24 is their most (docs/log.md)."""
_CONFIRMATIONS = {
    4: 3, 5: 2, 6: 175, 7: 1, 8: 162, 10: 161, 11: 1, 12: 172, 14: 152, 16: 103, 18: 696, 20: 182,
    21: 1, 22: 115, 24: 29, 26: 113, 28: 11, 30: 13, 32: 108,
}  # fmt: skip
"""The same of their confirmations: races of 12 cycles at most, and 10 pairs."""
_MOST_RACED, _FEWEST_PAIRS = 12, 3
_GOES_ON = 0.8
"""Chance of one more cycle after a search longer than all of these, as of their longest."""
_MOST_MORE = 20  # cycles after those: the chance of more is below 1 %

_RECENT = 10
"""Runs of a stage that tell what one takes: a machine may have become slower since the first."""
_OUT = 0.1  # of what may come, to each side of the range that is said
_UNLIKE = 1.5
"""A cycle that only sweeps tell of may take so many times longer, or shorter: it scores, and what
a run takes at its start counts for more in a sweep."""
_LIKE = 1.15
"""Runs to come may take so many times longer, or shorter, as what else a machine does changes."""
_NEARLY = 1.5  # a range narrower than this factor is no news


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """A finished run: its seconds by our own clock, and by the database's when it ended (`end_s`).

    `resumed`: an earlier worker had a part of it, whose seconds its loop may not know.
    """

    stage: Stage
    seconds: float
    n_steps: int
    owner: str
    end_s: float
    diverged: bool = False
    resumed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class UnderWay:
    """A run that a living worker holds.

    `share`: how much of it is over as far as its epochs tell, None where they tell nothing;
    `elapsed_s`: since it was claimed. `epoch_s`: what an epoch of it took on average.
    """

    stage: Stage
    share: float | None
    elapsed_s: float
    epoch_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ToDo:
    """Runs of one stage that are not finished.

    `waiting` and `running` are those that are there. `totals` are numbers of runs that the stage
    may come to with their weights, of which `opened` are there already; none where no more open.
    """

    stage: Stage
    waiting: int
    running: int
    opened: int = 0
    totals: Mapping[int, int] | None = None

    def more(self) -> list[tuple[int, float]]:
        """Return how many runs may open yet, with the chance of each number."""
        if self.totals is None:
            return [(0, 1.0)]
        left = [(n - self.opened, float(w)) for n, w in self.totals.items() if n >= self.opened]
        if not left:
            left = [(n, _GOES_ON**n) for n in range(_MOST_MORE)]
        whole = sum(weight for _, weight in left)
        return [(n, weight / whole) for n, weight in left]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeLeft:
    """How long a study still takes, in seconds: half of the times less, and `low` to `high` in
    four of five."""

    seconds: float
    low: float
    high: float

    def text(self) -> str:
        """Return that as 'about 40 s left', with its range where that is wide."""
        about, low, high = map(duration_text, (self.seconds, self.low, self.high))
        if about.startswith("under"):
            return f"{about} left"
        if self.high < _NEARLY * self.low or low == high:
            return f"about {about} left"
        return f"about {about} ({low} to {high}) left"


def search_totals(most: int) -> dict[int, int]:
    """Return how many cycles a search may come to that ends by itself, `most` at most."""
    totals = dict[int, int]()
    for n, weight in _SEARCHES.items():
        totals[min(n, most)] = totals.get(min(n, most), 0) + weight
    return totals


def confirmation_totals(most: int, *, n_pairs: int) -> dict[int, int]:
    """Return how many cycles a confirmation may come to that has `most` at most, `n_pairs` pairs
    among them.

    What was recorded has pairs only after its race, which is longest where there are more than the
    fewest. A race of another size is longer in proportion, and trains two at a time.
    """
    totals, most_raced = dict[int, int](), most - 2 * n_pairs
    for n, weight in _CONFIRMATIONS.items():
        pairs = max(_FEWEST_PAIRS, (n - _MOST_RACED) // 2)
        raced = n - 2 * pairs
        if raced < 2:  # the baseline won, and has no pairs
            raced, pairs = n, 0
        raced = max(2, round(raced * most_raced / _MOST_RACED / 2 - 1e-9) * 2)
        total = min(most, raced + 2 * min(pairs, n_pairs))
        totals[total] = totals.get(total, 0) + weight
    return totals


def time_left(
    taken: Sequence[Taken],
    to_do: Sequence[ToDo],
    under_way: Sequence[UnderWay],
    *,
    cycle_steps: int,
    cycle_epochs: int,
    n_workers: int,
) -> TimeLeft | None:
    """Return how long `n_workers` still take; None where no run has ended that tells it."""
    per_run = _seconds_of_runs(taken, under_way, cycle_steps=cycle_steps, epochs=cycle_epochs)
    if not (taken and n_workers) or any(each.stage not in per_run for each in to_do):
        return None
    searching = _usual(_seconds_between(taken, Stage.SEARCH))
    if searching is None:  # the sweeps and the first cycle tell as much
        searching = _usual(_seconds_between(taken, Stage.RANGE_TEST, Stage.SEARCH)) or 0.0
    # Where more train than a confirmation opens at once, they wait: that is in _at_once().
    own = _seconds_between(taken, Stage.CONFIRMATION) if n_workers <= 2 else []
    # They wait for every second run or so: that is a part of the mean, and not of what is usual.
    confirming = max(0.0, fmean(own)) if own else searching
    between = {Stage.SEARCH: searching, Stage.CONFIRMATION: confirming}

    def seconds(stage: ToDo, n_more: int) -> float:
        run_s = per_run[stage.stage]
        whole_s = run_s + between.get(stage.stage, 0.0)
        held = [each for each in under_way if each.stage == stage.stage]
        over = sum(_share(each, run_s) for each in held)
        left = stage.waiting + stage.running + n_more - over
        at_once = _at_once(stage.stage, n_workers)
        # The last runs of a stage leave workers idle: on average half a run of each but one.
        idle = (at_once - 1) / 2 if left > at_once else 0.0
        return max(left + idle, min(left, 1.0) * at_once) * whole_s / at_once

    sums = [(0.0, 1.0)]
    for stage in to_do:
        times = [(seconds(stage, n), chance) for n, chance in stage.more()]
        sums = [(a + b, p * q) for a, p in sums for b, q in times]
    sums.sort()
    unlike = _LIKE if _has_cycle(taken) or not _needs_cycles(to_do) else _UNLIKE
    return TimeLeft(
        seconds=_quantile(sums, 0.5),
        low=_quantile(sums, _OUT) / unlike,
        high=_quantile(sums, 1 - _OUT) * unlike,
    )


def _seconds_of_runs(
    taken: Sequence[Taken], under_way: Iterable[UnderWay], *, cycle_steps: int, epochs: int
) -> dict[Stage, float]:
    """Return what a run of each stage takes, as far as anything tells."""
    told = dict[Stage, float]()
    for stage in {each.stage for each in taken}:
        own = [each for each in taken if each.stage == stage and each.seconds > 0]
        own = [each for each in own if not each.resumed] or own
        # One that broke at its beginning tells nothing alone; among others it is one of them.
        if any(not each.diverged or stage == Stage.RANGE_TEST for each in own):
            told[stage] = fmean(each.seconds for each in own[-_RECENT:])
    for stage, like in ((Stage.SEARCH, Stage.CONFIRMATION), (Stage.CONFIRMATION, Stage.SEARCH)):
        if stage not in told and like in told:
            told[stage] = told[like]
    if Stage.SEARCH not in told:
        cycle_s = _by_epochs(under_way, epochs) or _by_steps(taken, cycle_steps)
        if cycle_s is not None:
            told[Stage.SEARCH] = told[Stage.CONFIRMATION] = cycle_s
    return told


def _by_epochs(under_way: Iterable[UnderWay], epochs: int) -> float | None:
    """Return what a cycle takes by the epochs of those under way."""
    seconds = [each.epoch_s for each in under_way if each.epoch_s]
    return fmean(seconds) * epochs if seconds else None


def _by_steps(taken: Iterable[Taken], cycle_steps: int) -> float | None:
    """Return what a cycle takes by the steps of all runs so far."""
    own = [each for each in taken if each.seconds > 0 and each.n_steps]
    n_steps = sum(each.n_steps for each in own)
    return sum(each.seconds for each in own) / n_steps * cycle_steps if n_steps else None


def _seconds_between(taken: Sequence[Taken], *stages: Stage) -> list[float]:
    """Return what a worker took beside each run of these stages but its first: to write it, to
    choose and claim the next, and to wait for what opens."""
    of_stage = [each for each in taken if each.stage in stages]
    between = list[float]()
    for owner in {each.owner for each in of_stage}:
        own = [each for each in of_stage if each.owner == owner]
        for one, other in pairwise(sorted(own, key=lambda each: each.end_s)):
            between.append(other.end_s - one.end_s - other.seconds)
    return between


def _usual(between: Sequence[float]) -> float | None:
    """Return what is usual of these seconds. A worker that chooses for the first time loads for
    that what it needs, as it does not again."""
    return max(0.0, median_low(between)) if between else None


def _share(run: UnderWay, run_s: float) -> float:
    """Return how much of a run is over, between 0 and 1: by its epochs, else by the clock."""
    if run.share is not None:
        return run.share
    return min(0.95, run.elapsed_s / run_s) if run_s else 0.0


def _at_once(stage: Stage, n_workers: int) -> float:
    """Return how many runs of a stage train at once, on average.

    A race has two at once, and so have most looks at pairs; the first look has six. Eighteen
    cycles, eight of them a race, then take eight times that of one; seven with six workers.
    """
    if stage != Stage.CONFIRMATION or n_workers <= 2:
        return n_workers
    return 18 / 8 if n_workers < 6 else 18 / 7


def _has_cycle(taken: Iterable[Taken]) -> bool:
    return any(each.stage != Stage.RANGE_TEST for each in taken)


def _needs_cycles(to_do: Iterable[ToDo]) -> bool:
    return any(each.stage != Stage.RANGE_TEST for each in to_do)


def _quantile(weighted: Sequence[tuple[float, float]], share: float) -> float:
    """Return the quantile of sorted values with their chances."""
    below = 0.0
    for value, chance in weighted:
        below += chance
        if below >= share - 1e-9:
            return value
    return weighted[-1][0]
