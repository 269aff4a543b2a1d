"""Ours: the range test that stops, the search by the knowledge gradient, the confirmation."""

from collections.abc import Sequence

from benchmarks.judge.answers import Answer, Answers, Compared, Shown
from benchmarks.judge.counted import Counted
from benchmarks.simulate import SimulatedCycle, Simulator
from search.params import Params
from search.stages.believed import Belief
from search.stages.first import first_choices
from search.stages.search import BASELINE_SLOT
from studies.answer import NoAnswer
from studies.definition import Study
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.ranges import middle_of, wide_range
from trainers.table import Table

RANGE_TEST = "range test"
CONFIRMED = "confirmed"
BUDGETS = (6, 10, 20)
"""Cycles in all: the range test is one of them, as far as it goes."""


class Search(Simulator):
    """A search that goes on in a wide range where the sweeps propose nothing, as the product's.

    What it trains is counted; `swept` is what its range test takes, in cycles.
    """

    def __init__(self, study: Study, table: Table, *, seed: int) -> None:
        self.counted = Counted(table, study, seed=seed)
        self._beliefs: dict[tuple[int, int], Belief | None] = {}
        super().__init__(study, self.counted, seed=seed)

    def _belief(
        self, cycles: Sequence[SimulatedCycle], said: Proposal, *, slot: int
    ) -> Belief | None:
        """Return a belief once for each number of cycles: they are the first of one search."""
        key = len(cycles), slot
        if key not in self._beliefs:
            self._beliefs[key] = super()._belief(cycles, said, slot=slot)
        return self._beliefs[key]

    @property
    def swept(self) -> float:
        """What the range test takes."""
        assert self.range_test is not None
        return self.counted.swept

    @property
    def proposal(self) -> Proposal:
        """What the range test proposes."""
        result = self.range_test
        if result.proposal is not None:
            return result.proposal
        low, high = wide_range(
            result.judgements,
            adaptive=bool(self.study.task.adaptive),
            end_lr=self.study.range_test.end_lr,
        )
        return middle_of(low, high, origin="wide range")

    @property
    def sign(self) -> float:
        """1 where a greater score is better, -1 where a smaller one is."""
        return 1.0 if self.study.direction == "maximize" else -1.0

    def cycles(self, n: int) -> list[SimulatedCycle]:
        """Return the first `n` cycles of the search."""
        return self._searched(self.proposal, n, ends=False)

    def until_it_ends(self) -> list[SimulatedCycle]:
        """Return the cycles of a search that ends by itself."""
        return self._searched(self.proposal, self.study.screening.n_trials, ends=True)

    def first_choice(self) -> Params:
        """Return the answer of a range test alone."""
        _, first, *_ = first_choices(self._ranges(self.proposal))
        return first

    def best_expected(self, n: int) -> Params:
        """Return what is expected to score best after `n` cycles, tried or not."""
        belief = self._belief(self.cycles(n), self.proposal, slot=n) if n else None
        return self.first_choice() if belief is None else belief.best()

    def best_tried(self, n: int) -> Params:
        """Return what is expected to score best of the configurations that were tried."""
        cycles = self.cycles(n)
        belief = self._belief(cycles, self.proposal, slot=n) if n else None
        if belief is None:
            return self.first_choice()
        expected = belief.expected_of_slots
        return max(cycles, key=lambda cycle: self.sign * expected[cycle.slot]).params

    def confirmed(self, cycles: Sequence[SimulatedCycle]) -> tuple[int, Shown]:
        """Return the slot that was picked, and what its pairs with the baseline show."""
        ended, _ = self._confirmed(cycles, self.proposal)
        if isinstance(ended, NoAnswer):
            return BASELINE_SLOT, "no"  # every cycle broke: nothing is better than the baseline
        comparison = ended.comparisons[-1] if ended.compared else None
        if comparison is None or not comparison.shown:
            return ended.winner, "no"
        return ended.winner, "better" if self.sign * comparison.difference.mean > 0 else "worse"


def within_budgets(search: Search, *, budgets: Sequence[float] = BUDGETS) -> dict[str, Answers]:
    """Return the answers of a search that each budget fixes, and those of tried ones alone."""
    alone = Answer(search.first_choice(), search.swept)
    expected, tried = {RANGE_TEST: alone}, {RANGE_TEST: alone}
    for budget in budgets:
        n = max(0, int(budget - search.swept + 1e-9))
        cost = search.swept + n
        expected[f"{budget:g}"] = Answer(search.best_expected(n), cost)
        tried[f"{budget:g}"] = Answer(search.best_tried(n), cost)
    return {"ours": Answers(expected), "ours, tried": Answers(tried)}


def to_the_end(search: Search) -> Answers:
    """Return the answer that the verdict recommends, after a search that ends by itself."""
    cycles = search.until_it_ends()
    before = search.counted.cycles
    winner, shown = search.confirmed(cycles)
    cost = search.swept + len(cycles) + search.counted.cycles - before
    by_slot = {cycle.slot: cycle.params for cycle in cycles}
    pick, baseline = by_slot[winner], by_slot[BASELINE_SLOT]
    taken = pick if shown == "better" else baseline
    compared = Compared(pick, baseline, shown, len(cycles))
    return Answers({CONFIRMED: Answer(taken, cost)}, compared)
