"""A whole search in one process, by the product's own functions, on a clock of training images."""

from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from search import range_test
from search.confirmation import choose, noise_of_neighbours, spread_finalists
from search.history import Histories
from search.screening import BASELINE_SLOT, Standing, given, promote
from search.space import Params, Ranges
from studies.definition import Study
from trainers.judgement import Proposal
from trainers.range_test_result import concluded
from trainers.run import Point
from trainers.seeding import seed_for
from trainers.sweep import Sweep
from trainers.table import Table


@dataclass(frozen=True, slots=True)
class SimulatedCycle:
    """One cycle of the search; `clock` is when it ended, in training images since the start."""

    slot: int
    length: int
    params: Params
    score: float
    clock: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a search did, and what it chose."""

    proposal: Proposal
    cycles: tuple[SimulatedCycle, ...]
    finalists: tuple[int, ...]
    winner: Params
    images: int


class Simulator:
    """Searches one study over a table as a single worker does on the command line."""

    def __init__(self, study: Study, table: Table, *, seed: int, n_trials: int) -> None:
        self.study, self.table, self.seed, self.n_trials = study, table, seed, n_trials
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.histories = Histories(
            optuna.storages.InMemoryStorage(),
            name=study.name,
            study_id="simulated",
            lengths=study.screening.lengths,
        )
        self.histories.create(study.direction)
        self.images = 0
        self.cycles: list[SimulatedCycle] = []

    def run(self, *, confirm: bool = True) -> Simulation | None:
        """Search to the end; None where the sweeps propose nothing.

        Without confirmation the winner is the first finalist, as good as the best single score.
        """
        said = self._range_test()
        if said is None:
            return None
        for slot in range(self.n_trials):
            self._cycle(slot, self.study.screening.lengths[0], said, None)
        params = {cycle.slot: cycle.params for cycle in self.cycles}
        while (promoted := self._promoted()) is not None:
            slot, length = promoted
            self._cycle(slot, length, said, params[slot])
        finalists = self._finalists(said)
        winner = finalists[0] if finalists else BASELINE_SLOT
        if confirm:
            winner = self._confirmed([BASELINE_SLOT, *finalists], params)
        cycles = tuple(self.cycles)
        return Simulation(said, cycles, tuple(finalists), params[winner], self.images)

    def _range_test(self) -> Proposal | None:
        settings = self.study.range_test
        sweeps = [settings.n_steps] * settings.n_sweeps + [settings.slow_steps]
        *points, slow = (self._swept(slot, n_steps) for slot, n_steps in enumerate(sweeps))
        plan = self._sweep(settings.n_steps)
        steps = self.study.cycle_steps
        return concluded(plan, tuple(points), slow, seconds=0.0, cycle_steps=steps).proposal

    def _sweep(self, n_steps: int) -> Sweep:
        adaptive = self.study.task.adaptive
        return range_test.plan(self.study.range_test, n_steps=n_steps, adaptive=adaptive)

    def _swept(self, slot: int, n_steps: int) -> tuple[Point, ...]:
        """Return the points of a sweep, which ends at the first loss that is no number."""
        lrs = self._sweep(n_steps).lrs()
        losses = self.table.losses(lrs, seed=seed_for(self.seed, "range_test", 0, slot))
        points = [
            Point(step, lr, loss) for step, (lr, loss) in enumerate(zip(lrs, losses, strict=False))
        ]
        broken = next((p.step for p in points if not p.finite), n_steps)
        self.images += min(broken + 1, n_steps) * self.study.task.batch_size
        return tuple(points[: broken + 1])

    def _ranges(self, said: Proposal) -> Ranges:
        space = self.study.space
        return Ranges(space=space, bracket=(said.low, said.high), proposal=said.max_lr)

    def _cycle(self, slot: int, length: int, said: Proposal, params: Params | None) -> None:
        study, ranges = self.study, self._ranges(said)
        history = self.histories.of(length)
        fixed = params or given(
            slot,
            screening=study.screening,
            study_seed=self.seed,
            ranges=ranges,
        )
        number, asked = history.ask(
            slot,
            study_seed=self.seed,
            ranges=ranges,
            screening=study.screening,
            fixed=fixed,
            asked_before=False,
            attributes={},
        )
        score, _ = self._trained(asked, length, seed_for(self.seed, "search", 0, slot))
        history.tell(number, score, {})
        self.cycles.append(SimulatedCycle(slot, length, asked, score, self.images))

    def _trained(self, params: Params, length: int, seed: int) -> tuple[float, float]:
        """Return the scores of a cycle, none of them worse than a cycle that broke."""
        steps = self.study.steps_of(length)
        self.images += steps * self.study.task.batch_size
        scores = self.table.scores(params.plan(steps), epochs=length, seed=seed)
        better = max if self.study.direction == "maximize" else min
        validation, test = (better(score, self.study.diverged_value) for score in scores)
        return validation, test

    def _promoted(self) -> tuple[int, int] | None:
        return promote(
            [Standing(c.slot, c.length, ended=True, score=c.score) for c in self.cycles],
            screening=self.study.screening,
            n_trials=self.n_trials,
            direction=self.study.direction,
        )

    def _finalists(self, said: Proposal) -> list[int]:
        study, ranges = self.study, self._ranges(said)
        full = [cycle for cycle in self.cycles if cycle.length == study.full_epochs]
        places = {c.slot: ranges.position(c.params) for c in full}
        whole = {c.slot: c.score for c in full if c.score != study.diverged_value}
        return spread_finalists(
            {c.slot: c.score for c in full if c.slot != BASELINE_SLOT},
            places,
            noise_of_neighbours(whole, places),
            n=study.confirmation.n_finalists,
            direction=study.direction,
        )

    def _confirmed(self, slots: Sequence[int], params: dict[int, Params]) -> int:
        seeds = [
            seed_for(self.seed, "confirmation", 0, replicate)
            for replicate in range(self.study.confirmation.n_seeds)
        ]
        scores = {
            slot: [self._trained(params[slot], self.study.full_epochs, seed)[0] for seed in seeds]
            for slot in slots
        }
        return choose(scores, direction=self.study.direction)
