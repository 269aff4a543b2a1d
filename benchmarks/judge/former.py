"""The search of before: six sweeps, Optuna's TPE after eight Sobol points, expected scores of a
process fitted by scikit-learn, three finalists and the baseline with five seeds each.

A copy of rules that the product no longer has, to judge their successors by.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from statistics import fmean

import numpy as np

from benchmarks.judge.answers import Answer, Answers, Compared, Shown
from benchmarks.judge.ours import CONFIRMED, Search
from benchmarks.simulate import SimulatedCycle
from search.params import Params
from search.stages.search import BASELINE_SLOT
from search.stages.space import Ranges
from search.stages.statistics import compare, finalists, tie_group
from studies.answer import Noise
from studies.definition import Screening, Study
from trainers.seeding import run_seed_for
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import RangeTestResult, concluded
from trainers.table import Table

BUDGETS = (8.5, 10, 20)
N_SWEEPS, N_TRIALS, N_INITIAL, N_FINALISTS, N_SEEDS = 5, 24, 8, 3, 5


class FormerSearch(Search):
    """A search of before, by the product's own functions where they still are."""

    def __init__(self, study: Study, table: Table, *, seed: int) -> None:
        screening = Screening(
            n_trials=N_TRIALS, epochs=study.epochs, sampler="tpe", n_initial=N_INITIAL
        )
        super().__init__(replace(study, screening=screening), table, seed=seed)

    @cached_property
    def range_test(self) -> RangeTestResult:
        """What five sweeps and a slow one say."""
        settings = self.study.range_test
        fast = tuple(self._swept(slot, settings.n_steps) for slot in range(N_SWEEPS))
        slow = self._swept(N_SWEEPS, settings.slow_steps)
        self._range_test_images = self.images
        return concluded(
            self._sweep(settings.n_steps),
            fast,
            slow,
            seconds=0.0,
            cycle_steps=self.study.cycle_steps,
        )

    def _ranges(self, said: Proposal) -> Ranges:
        return replace(super()._ranges(said), first_choices=False)

    def _trained(self, slot: int, params: Params) -> SimulatedCycle:
        score = self._score(params, run_seed_for(self.seed, "search", 0, slot))
        return SimulatedCycle(slot, params, score, self.images)

    def expected(self, n: int) -> dict[int, float]:
        """Return the expected score of each of the first `n` configurations."""
        cycles, ranges = self.cycles(n), self._ranges(self.proposal)
        positions = [ranges.position(cycle.params) for cycle in cycles]
        expected = expected_scores([self.sign * c.score for c in cycles], positions)
        return {c.slot: self.sign * e for c, e in zip(cycles, expected, strict=True)}

    def best_expected(self, n: int) -> Params:
        """Return the tried configuration with the best expected score."""
        if not n:
            return self._ranges(self.proposal).baseline()
        expected = self.expected(n)
        return self.cycles(n)[max(expected, key=lambda slot: self.sign * expected[slot])].params

    def finalists(self) -> list[int]:
        """Return the slots that are retrained beside the baseline."""
        cycles, ranges = self.cycles(N_TRIALS), self._ranges(self.proposal)
        expected = self.expected(N_TRIALS)
        others = {slot: score for slot, score in expected.items() if slot != BASELINE_SLOT}
        noise = _noise_of_neighbours(cycles, ranges, worst=self.study.diverged_value)
        tied = tie_group(others, noise, direction=self.study.direction)
        if len(tied) <= N_FINALISTS:
            return finalists(others, n=N_FINALISTS, direction=self.study.direction)
        places = {c.slot: ranges.position(c.params) for c in cycles}
        return _spread(tied[: 3 * N_FINALISTS], places)


def within_budgets(search: FormerSearch, *, budgets: Sequence[float] = BUDGETS) -> Answers:
    """Return the answers of a search that each budget fixes."""
    swept, answers = search.swept, {}
    for budget in budgets:
        n = max(0, int(budget - swept + 1e-9))
        answers[f"{budget:g}"] = Answer(search.best_expected(n), swept + n)
    return Answers(answers)


def to_the_end(search: FormerSearch) -> Answers:
    """Return the winner among the finalists and the baseline by fresh common seeds."""
    study, cycles, sign = search.study, search.cycles(N_TRIALS), search.sign
    scores = {
        slot: [
            search.counted.scores(
                cycles[slot].params.plan(study.cycle_steps),
                epochs=study.epochs,
                seed=run_seed_for(search.seed, "confirmation", 0, replicate),
            )
            for replicate in range(N_SEEDS)
        ]
        for slot in (BASELINE_SLOT, *search.finalists())
    }
    winner = max(scores, key=lambda slot: sign * fmean(pair[0] for pair in scores[slot]))
    shown = _shown([[pair[1] for pair in scores[slot]] for slot in (winner, BASELINE_SLOT)], sign)
    pick, baseline = cycles[winner].params, cycles[BASELINE_SLOT].params
    cost = search.swept + N_TRIALS + N_SEEDS * len(scores)
    return Answers(
        {CONFIRMED: Answer(pick, cost)},
        Compared(pick, baseline, "no" if winner == BASELINE_SLOT else shown, N_TRIALS),
    )


def _spread(slots: Sequence[int], places: Mapping[int, Sequence[float]]) -> list[int]:
    """Return the first of the slots, then each time the one farthest from those taken."""
    taken, left = list(slots[:1]), list(slots[1:])
    while left and len(taken) < N_FINALISTS:
        apart = {s: min(math.dist(places[s], places[t]) for t in taken) for s in left}
        taken.append(max(left, key=lambda slot: apart[slot]))
        left.remove(taken[-1])
    return taken


def _shown(scores: Sequence[Sequence[float]], sign: float) -> Shown:
    comparison = compare(*scores)
    if not comparison.shown:
        return "no"
    return "better" if sign * comparison.difference.mean > 0 else "worse"


def _noise_of_neighbours(
    cycles: Sequence[SimulatedCycle], ranges: Ranges, *, worst: float | None
) -> Noise | None:
    """Return the noise of a seed from the differences of nearest neighbours."""
    whole = [cycle for cycle in cycles if cycle.score != worst]
    if len(whole) < 3:
        return None
    points = np.array([ranges.position(cycle.params) for cycle in whole])
    scores = np.array([cycle.score for cycle in whole])
    apart = ((points[:, None] - points) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    differences = np.abs(scores - scores[apart.argmin(axis=1)])
    deviation = float(np.median(differences)) / (0.6745 * np.sqrt(2))
    return Noise(deviation, len(whole) // 2, "neighbours")


def expected_scores(
    scores: Sequence[float], positions: Sequence[Sequence[float]]
) -> Sequence[float]:
    """Return the posterior mean of a Gaussian process at each score; greater is better.

    Matern 5/2 with one scale and a noise of its own (scikit-learn), both fitted. Scores below the
    median by more than three times what the best lies above it stand as they are and count for no
    other; so do fewer than four.
    """
    if len(scores) < 4:
        return scores
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    every = np.array(scores)
    middle, best = float(np.median(every)), float(every.max())
    counts = every >= 4 * middle - 3 * best
    kernel = ConstantKernel(1.0, (0.05, 20)) * Matern(1.0, (0.2, 20), nu=2.5)
    kernel += WhiteKernel(0.3, (0.05, 2))
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    points = np.array(positions)[counts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a scale at its bound: all is flat
        process.fit(points, every[counts])
    expected = every.copy()
    expected[counts] = process.predict(points)
    found: list[float] = expected.tolist()
    return found
