"""A whole search in one process, by the product's own functions, on a clock of training images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import optuna

from search.history.optuna_study import History
from search.params import Params
from search.stages import range_test
from search.stages.believed import Belief, Tried, believe, candidates_seed
from search.stages.confirmation import Confirming
from search.stages.ending import Cycles
from search.stages.propose import is_enough, next_params, unvisited
from search.stages.rounds import Round
from search.stages.search import BASELINE_SLOT, given, space_filling
from search.stages.space import Ranges
from search.stages.statistics import finalists
from studies.answer import Answer, NoAnswer
from studies.definition import Study
from studies.protocol import declared
from studies.states import RunState
from studies.tables import StudyRow, WorkRow
from trainers.run import Point
from trainers.seeding import run_seed_for
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import RangeTestResult, concluded, judged
from trainers.sweeps.stopping import next_sweep
from trainers.sweeps.sweep import Sweep
from trainers.table import Table


@dataclass(frozen=True, slots=True)
class SimulatedCycle:
    """One cycle of the search; `clock` is when it ended, in training images since the start."""

    slot: int
    params: Params
    score: float
    clock: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a search did, and what it chose; `finalists` are the slots that were confirmed."""

    proposal: Proposal
    cycles: tuple[SimulatedCycle, ...]
    finalists: frozenset[int]
    winner: Params
    images: int


class Simulator:
    """Searches one study over a table as a single worker does on the command line.

    A search of more configurations begins as one of fewer does: what was simulated is kept.
    """

    def __init__(self, study: Study, table: Table, *, seed: int) -> None:
        self.study, self.table, self.seed = study, table, seed
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.history = History(
            optuna.storages.InMemoryStorage(), name=study.name, study_id="simulated"
        )
        self.history.create(study.direction)
        self.images = 0
        self._begun: list[SimulatedCycle] = []
        self._range_test_images = 0

    def run(
        self, n_trials: int, *, confirm: bool = True, expects: bool = True, ends: bool = False
    ) -> Simulation | None:
        """Search to the end; None where the sweeps propose nothing.

        A search that `ends` does so by itself, after at most `n_trials`. Without confirmation the
        winner is the configuration with the best expected score, or, where it `expects` not, with
        the best single one.
        """
        said = self.proposal
        if said is None:
            return None
        cycles = self._searched(said, n_trials, ends=ends)
        self.images = cycles[-1].clock
        if confirm:
            ended, trained = self._confirmed(cycles, said)
            winner = ended.winner if isinstance(ended, Answer) else BASELINE_SLOT
        else:
            winner = self._best(cycles, said, expects=expects)
            trained = {winner}
        chosen = frozenset(trained)
        return Simulation(said, tuple(cycles), chosen, cycles[winner].params, self.images)

    def _searched(self, said: Proposal, n_trials: int, *, ends: bool) -> list[SimulatedCycle]:
        """Return the cycles of a search."""
        for n in range(n_trials):
            done = self._begun[:n]
            belief = self._belief(done, said, slot=n) if ends and done else None
            if is_enough(belief, self.study.screening) is not None:
                return [*done, *self._last(done, said)]
            if n == len(self._begun):
                self._begun.append(self._next(said))
        return self._begun[:n_trials]

    def _last(self, done: Sequence[SimulatedCycle], said: Proposal) -> Iterator[SimulatedCycle]:
        """Yield the cycle of the best configuration that was not tried, where it is worth one."""
        params = unvisited(self._belief(done, said, slot=0))
        if params is not None:
            self.images = done[-1].clock
            yield self._trained(len(done), params)

    @property
    def proposal(self) -> Proposal | None:
        """What the range test proposes."""
        return self.range_test.proposal

    @cached_property
    def range_test(self) -> RangeTestResult:
        """What the sweeps say."""
        settings = self.study.range_test
        fast, slow = tuple[tuple[Point, ...], ...](), None
        while kind := next_sweep(judged(fast), most=settings.n_sweeps, slow=slow is not None):
            if kind == "fast":
                fast = (*fast, self._swept(len(fast), settings.n_steps))
            else:
                slow = self._swept(settings.n_sweeps, settings.slow_steps)
        self._range_test_images = self.images
        plan = self._sweep(settings.n_steps)
        steps = self.study.cycle_steps
        return concluded(plan, fast, slow, seconds=0.0, cycle_steps=steps)

    def _sweep(self, n_steps: int) -> Sweep:
        adaptive = self.study.task.adaptive
        return range_test.sweep_of(self.study.range_test, n_steps=n_steps, adaptive=adaptive)

    def _swept(self, slot: int, n_steps: int) -> tuple[Point, ...]:
        """Return the points of a sweep, which ends at the first loss that is no number."""
        lrs = self._sweep(n_steps).lrs()
        losses = self.table.losses(lrs, seed=run_seed_for(self.seed, "range_test", 0, slot))
        points = [
            Point(step, lr, loss) for step, (lr, loss) in enumerate(zip(lrs, losses, strict=False))
        ]
        broken = next((p.step for p in points if not p.finite), n_steps)
        self.images += min(broken + 1, n_steps) * self.study.task.batch_size
        return tuple(points[: broken + 1])

    def _ranges(self, said: Proposal) -> Ranges:
        return Ranges(
            others=self.study.parameters,
            bracket=(said.low, said.high),
            proposed_max_lr=said.max_lr,
        )

    def _belief(
        self, cycles: Sequence[SimulatedCycle], said: Proposal, *, slot: int
    ) -> Belief | None:
        study = self.study
        assert study.diverged_value is not None
        worst = study.diverged_value
        return believe(
            self._ranges(said),
            [Tried(c.slot, c.params, (c.score,), c.score == worst) for c in cycles],
            metric=study.metric,
            direction=study.direction,
            diverged_value=worst,
            seed=candidates_seed(self.seed, slot),
        )

    def _next(self, said: Proposal) -> SimulatedCycle:
        """Return the cycle of the next configuration of the search."""
        study, ranges, slot = self.study, self._ranges(said), len(self._begun)
        self.images = self._begun[-1].clock if self._begun else self._range_test_images
        fixed = given(slot, screening=study.screening, study_seed=self.seed, ranges=ranges)
        proposed = None
        if fixed is None and study.screening.sampler == "kg":
            belief = self._belief(self._begun, said, slot=slot)
            proposed = None if belief is None else next_params(belief)
            proposed = proposed or space_filling(slot, study_seed=self.seed, ranges=ranges)
        number, params = self.history.ask(
            slot,
            study_seed=self.seed,
            ranges=ranges,
            screening=study.screening,
            fixed=fixed,
            asked_before=False,
            attributes={},
            proposed=proposed,
        )
        cycle = self._trained(slot, params)
        self.history.tell(number, cycle.score, {})
        return cycle

    def _trained(self, slot: int, params: Params) -> SimulatedCycle:
        score = self._score(params, run_seed_for(self.seed, "search", 0, 0))
        return SimulatedCycle(slot, params, score, self.images)

    def _score(self, params: Params, seed: int) -> float:
        return self._scores(params, seed)[0]

    def _scores(self, params: Params, seed: int) -> tuple[float, float]:
        """Return the scores of a cycle on validation and test split, no worse than those of a
        cycle that broke."""
        study, steps = self.study, self.study.cycle_steps
        self.images += steps * study.task.batch_size
        scores = self.table.scores(params.plan(steps), epochs=study.epochs, seed=seed)
        better = max if study.direction == "maximize" else min
        validation, test = (better(score, study.diverged_value) for score in scores)
        return validation, test

    def _best(self, cycles: Sequence[SimulatedCycle], said: Proposal, *, expects: bool) -> int:
        scores: Mapping[int, float] = {c.slot: c.score for c in cycles}
        belief = self._belief(cycles, said, slot=0) if expects else None
        if belief is not None:
            scores = belief.expected_of_slots
        return finalists(scores, n=1, direction=self.study.direction)[0]

    def _confirmed(
        self, cycles: Sequence[SimulatedCycle], said: Proposal
    ) -> tuple[Answer | NoAnswer, set[int]]:
        """Return what a confirmation concludes, and the slots that it trained."""
        row = self._row(said)
        searched = [self._work(c.slot, c.params, c.score) for c in cycles]
        works: list[WorkRow] = []
        while True:
            this, known = Round(0, tuple(works)), Cycles(searched, works)
            went_on = Confirming(row, self.study, this, known).go_on()
            if not isinstance(went_on, list):
                break
            works += (self._finished(work) for work in went_on)
        return went_on, {w.candidate for w in works if w.candidate is not None}

    def _row(self, said: Proposal) -> StudyRow:
        study = self.study
        return StudyRow(
            id="simulated",
            declared=declared(study, ""),
            seed=self.seed,
            direction=study.direction,
            metric=study.metric,
            diverged_value=study.diverged_value,
            epochs=study.epochs,
            bracket_low=said.low,
            bracket_high=said.high,
            proposed_max_lr=said.max_lr,
        )

    def _work(self, slot: int, params: Params, score: float) -> WorkRow:
        broke = score == self.study.diverged_value
        return WorkRow(
            slot=slot,
            params=dict(params),
            score=score,
            state=RunState.DONE,
            outcome="did not learn" if broke else "completed",
        )

    def _finished(self, work: WorkRow) -> WorkRow:
        """Return a run of the confirmation as a worker leaves it."""
        assert work.params is not None
        params, seed = Params(**work.params), work.replicate or 0
        score, sealed = self._scores(params, run_seed_for(self.seed, "confirmation", 0, seed))
        broke = score == self.study.diverged_value
        work.score, work.sealed_score, work.state = score, sealed, RunState.DONE
        work.outcome = "did not learn" if broke else "completed"
        return work
