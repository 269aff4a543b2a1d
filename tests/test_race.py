"""The race of finalists: what it believes, whom it trains, when it ends, what it picks."""

import math
from statistics import fmean

import numpy as np
import pytest

from search.stages.race import (
    AT_ONCE,
    GOOD_ENOUGH,
    MOST_EACH,
    SHARED,
    Racers,
    expected_loss,
    next_cycles,
)

Scores = dict[int, dict[int, float]]


def racers(*means: float, deviation: float = 0.5, spread: float = 0.25) -> Racers:
    return Racers(
        slots=tuple(range(len(means))),
        mean=np.array(means),
        covariance=np.eye(len(means)) * spread**2,
        deviation=deviation,
    )


def test_cycles_move_the_mean_as_precisions_say() -> None:
    after = racers(0.0, 1.0, spread=0.3).after({1: {0: 2.0, 1: 2.4}})
    # Two cycles with seeds of their own: a mean of variance deviation^2 / 2.
    share = 0.3**2 / (0.3**2 + 0.5**2 / 2)
    assert after.mean.tolist() == pytest.approx([0.0, 1.0 + share * 1.2])
    assert after.covariance[1, 1] == pytest.approx(0.3**2 * (1 - share))
    assert racers(0.0).after({}).mean.tolist() == [0.0]


def test_a_common_seed_tells_more_of_a_difference_than_seeds_of_their_own() -> None:
    start = racers(0.0, 0.0)
    common = start.after({0: {0: 0.3}, 1: {0: 0.3}}).variance_between(0, 1)
    own = start.after({0: {0: 0.3}, 1: {1: 0.3}}).variance_between(0, 1)
    # The difference of two scores has 2 (1 - SHARED) of a seed's variance, or 2 of it.
    for found, share in ((common, 1 - SHARED), (own, 1.0)):
        before, noise = 2 * 0.25**2, 2 * share * 0.5**2
        assert found == pytest.approx(before * noise / (before + noise))


def test_candidates_that_resemble_each_other_learn_from_each_other() -> None:
    alike = Racers(
        slots=(0, 4, 7),
        mean=np.zeros(3),
        covariance=np.array([[1.0, 0, 0], [0, 1.0, 0.9], [0, 0.9, 1.0]]),
        deviation=0.5,
    )
    after = alike.after({7: {0: 1.0}})
    assert after.leader == 7
    assert after.mean[1] > 0.5 > after.mean[0] == 0.0


def test_the_expected_loss_of_two_is_the_closed_form() -> None:
    behind, spread = 0.2, 0.25
    deviation = spread * math.sqrt(2)
    z = behind / deviation
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    beyond = 0.5 * math.erfc(z / math.sqrt(2))
    found = expected_loss(racers(0.0, -behind, spread=spread))
    assert found == pytest.approx(deviation * (density - z * beyond), rel=0.02)


def test_a_leader_far_ahead_loses_nothing() -> None:
    assert expected_loss(racers(0.0, 3.0, 1.0)) == 0.0
    assert expected_loss(racers(0.0)) == 0.0


def test_leader_and_challenger_are_trained_with_the_same_seed() -> None:
    assert sorted(next_cycles(racers(0.0, 0.5, -1.0, 0.4), {})) == [1, 3]


def test_who_was_trained_less_is_trained_next() -> None:
    scores: Scores = {1: {0: 0.5, 1: 0.5, 2: 0.5}, 3: {}}
    assert next_cycles(racers(0.0, 0.5, -1.0, 0.45), scores) == [3, 3]


def test_a_broken_cycle_of_the_baseline_says_nothing_good_of_who_shared_its_seed() -> None:
    before = racers(0.0, 0.0, 0.0)
    after = before.after({0: {0: -85.0}, 1: {0: 0.0}})
    assert after.mean[0] < -0.3
    assert abs(after.mean[1]) < 0.2


def picked(generator: np.random.Generator, *, error: float) -> tuple[int, float]:
    """Race four candidates whose true scores are drawn; return cycles, and how far below the best.

    `error`: the deviation of what is believed of each before the race.
    """
    n, true_sd, sd = 4, 0.3, 0.5
    truth = generator.normal(0, true_sd, n)
    share = true_sd**2 / (true_sd**2 + error**2)
    prior = Racers(
        slots=tuple(range(n)),
        mean=share * (truth + generator.normal(0, error, n)),
        covariance=np.eye(n) * share * error**2,
        deviation=sd,
    )
    noise = generator.normal(0, sd * math.sqrt(1 - SHARED), (n, 99))
    noise += generator.normal(0, sd * math.sqrt(SHARED), 99)
    scores: Scores = {slot: {} for slot in range(n)}
    n_cycles = 0
    while n_cycles + AT_ONCE <= MOST_EACH * n:
        if expected_loss(prior.after(scores)) < GOOD_ENOUGH:
            break
        for slot in next_cycles(prior, scores):
            replicate = len(scores[slot])
            scores[slot][replicate] = truth[slot] + noise[slot, replicate]
            n_cycles += 1
    return n_cycles, float(truth.max() - truth[prior.after(scores).leader])


@pytest.mark.parametrize(("error", "most"), [(0.25, 6.5), (5.0, 11.0)])
def test_a_race_picks_as_well_as_five_seeds_of_all_with_far_fewer_cycles(
    error: float, most: float
) -> None:
    """Four finalists with five seeds each, 20 cycles: within 0.2 of the best in .889."""
    n = 400
    races = [picked(np.random.default_rng(seed), error=error) for seed in range(n)]
    assert fmean(cycles for cycles, _ in races) < most
    within = fmean(below <= 0.2 for _, below in races)
    assert within > 0.889 - 2 * math.sqrt(0.889 * 0.111 / n)
