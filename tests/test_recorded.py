"""The table of recorded runs, and the world that searches are judged on."""

import math
from random import Random
from statistics import fmean

import numpy as np
import pytest
from scipy.stats import qmc

from benchmarks.plan import WIDE_MAX_LR
from benchmarks.recorded_task import Recorded, RecordedCycle
from benchmarks.records import CycleRecord, Journal
from benchmarks.replay import RECORDED, RecordedWorld
from search.params import Params
from search.stages.space import Ranges, baseline
from trainers.errors import TaskError
from trainers.onecycle import OneCycle
from trainers.run import Run
from trainers.sweeps.sweep import Sweep
from trainers.table import TableTrainer


def height(max_lr: float) -> float:
    return 0.6 - 0.1 * math.log10(max_lr / 0.2) ** 2


def recorded(n: int = 60, deviation: float = 0.002) -> Recorded:
    """Return a table of n configurations with two seeds each, at 4 epochs."""
    random = Random(0)
    cycles = []
    for _ in range(n):
        place = {
            "max_lr": 10 ** random.uniform(-2, 0.5),
            "pct_start": random.uniform(0.05, 0.6),
            "div_factor": 10 ** random.uniform(0.3, 2),
        }
        for _ in range(2):
            score = height(place["max_lr"]) + random.gauss(0, deviation)
            cycles.append(RecordedCycle(**place, epochs=4, score=score, test_score=score - 0.01))
    return Recorded(cycles, [[2.3, 1.0, math.nan], [2.2, 1.1, 1.0]])


@pytest.fixture(scope="module")
def table() -> Recorded:
    return recorded()


def test_the_surrogate_follows_what_was_recorded_and_states_its_error(table: Recorded) -> None:
    seen = [Params(max_lr=lr, pct_start=0.3, div_factor=20.0) for lr in (0.02, 0.1, 0.3, 1.5)]
    truth = table.truth(seen, epochs=4)
    assert truth == pytest.approx([height(p.max_lr) for p in seen], abs=0.005)
    assert table.lengths == (4,)
    every, better = table.held_out[4]
    assert 0.0005 < better <= every < 0.006


@pytest.mark.parametrize("task", ["cifar-small", "cifar-residual"])
def test_the_surrogate_of_what_was_recorded_promises_no_more_than_was_seen(task: str) -> None:
    world = RecordedWorld(task)
    cycles = Journal(RECORDED / f"{task}.cycles.jsonl").records.values()
    scores: dict[Params, list[float]] = {}
    for cycle in cycles:
        if isinstance(cycle, CycleRecord) and cycle.work.length == world.study.epochs:
            scores.setdefault(cycle.params, []).append(cycle.score or 0.0)
    best_mean = max(fmean(each) for each in scores.values() if len(each) == 2)
    unit = qmc.Sobol(3, scramble=True, seed=0).random_base2(10).tolist()
    wide = Ranges(others=world.study.parameters, bracket=WIDE_MAX_LR, proposed_max_lr=0.1)
    best = max(world.truth([wide.at(point) for point in unit]))
    assert best_mean - 0.01 < best < best_mean + 0.002


def test_scores_are_a_function_of_configuration_length_and_seed_with_the_recorded_noise(
    table: Recorded,
) -> None:
    cycle = OneCycle(max_lr=0.2, total_steps=40)
    assert table.scores(cycle, epochs=4, seed=1) == table.scores(cycle, epochs=4, seed=1)
    drawn = [table.scores(cycle, epochs=4, seed=seed) for seed in range(300)]
    validation, test = np.array(drawn).T
    assert validation.std() == pytest.approx(0.002, rel=0.6)
    assert validation.mean() - test.mean() == pytest.approx(0.01, abs=0.002)
    assert abs(np.corrcoef(validation, test)[0, 1]) < 0.2, "two draws, not one"


def pairs(*, plateau: int, cliff: int) -> Recorded:
    """Return a table in which two seeds differ by 0.004 on a plateau, by 0.2 beside a cliff."""
    cycles = [
        RecordedCycle(
            max_lr=0.1 if number < plateau else 2.0,
            pct_start=0.05 + number / 100,
            div_factor=10.0,
            epochs=4,
            score=0.6 + side * (0.002 if number < plateau else 0.1),
            test_score=0.6,
        )
        for number in range(plateau + cliff)
        for side in (-1, 1)
    ]
    return Recorded(cycles)


def drawn(table: Recorded, max_lr: float) -> list[float]:
    cycle = OneCycle(max_lr=max_lr, total_steps=40)
    return [table.scores(cycle, epochs=4, seed=seed)[0] for seed in range(300)]


def test_beside_a_cliff_a_seed_may_fail_badly_but_none_excels() -> None:
    scores = drawn(pairs(plateau=40, cliff=12), 2.0)
    assert min(scores) < 0.3
    assert max(scores) < 0.62


def test_one_pair_over_a_cliff_does_not_make_a_plateau_noisy() -> None:
    scores = drawn(pairs(plateau=10, cliff=1), 0.1)
    assert np.std(scores) < 0.01


def test_a_length_or_a_sweep_that_was_not_recorded_is_named(table: Recorded) -> None:
    with pytest.raises(TaskError, match=r"5 epochs; recorded: 4"):
        table.scores(OneCycle(max_lr=0.2, total_steps=50), epochs=5, seed=0)
    with pytest.raises(TaskError, match=r"7 steps; recorded: 3"):
        table.losses([0.1] * 7, seed=0)


def test_a_recorded_sweep_that_broke_breaks_again(table: Recorded) -> None:
    trainer = TableTrainer(table, batch_size=10, steps_per_epoch=10)
    outcomes = set()
    for seed in range(2):
        run = Run(plan=Sweep(start_lr=0.1, end_lr=1.0, total_steps=3), seed=seed, split=None)
        outcomes.add(trainer.fit(run).outcome)
    assert outcomes == {"completed", "diverged"}


def test_what_is_recorded_so_far_makes_a_world_to_search() -> None:
    world = RecordedWorld("cifar-small")
    curve = world.curve(baseline(0.2), seed=1)
    assert len(curve) == world.study.epochs
    assert (
        curve[-1]
        == world.table.scores(
            baseline(0.2).plan(world.study.cycle_steps), epochs=world.study.epochs, seed=1
        )[0]
    )
    assert "held-out error" in world.described()
