"""The statistics of the answer, held against scipy and closed forms."""

import itertools
import math
from random import Random
from statistics import median, stdev

import numpy as np
import pytest
from scipy import stats

from search.stages.statistics import (
    Noise,
    choose,
    compare,
    estimate,
    finalists,
    noise_of_neighbours,
    noise_of_replicates,
    spread_finalists,
    tie_group,
)


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_estimate_is_scipys_t_interval(n: int) -> None:
    random = Random(n)
    values = [random.gauss(0.6, 0.02) for _ in range(n)]
    with np.errstate(invalid="ignore"):
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = estimate(values)
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), n)


def test_a_single_value_has_no_interval() -> None:
    assert estimate([0.5]).half_width == math.inf


def test_comparison_is_scipys_paired_t_test() -> None:
    random = Random(1)
    baseline = [random.gauss(0.60, 0.02) for _ in range(6)]
    winner = [b + random.gauss(0.01, 0.003) for b in baseline]
    found = compare(winner, baseline)
    reference = stats.ttest_rel(winner, baseline)
    with np.errstate(invalid="ignore"):
        interval = reference.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(interval))
    assert found.shown == (reference.pvalue < 0.05)


def test_equal_scores_show_no_difference() -> None:
    found = compare([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert not found.shown
    assert found.detectable == 0


def test_a_true_difference_of_the_detectable_size_is_shown_about_four_times_out_of_five() -> None:
    generator = np.random.default_rng(0)
    n, sd, shown = 5, 0.01, 0
    quantiles = stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.8, n - 1)
    true_difference = quantiles * sd / math.sqrt(n)
    for _ in range(400):
        noise = generator.normal(true_difference, sd, n)
        shown += compare(noise.tolist(), [0.0] * n).shown
    assert 0.74 < shown / 400 < 0.92


def test_intervals_hold_the_truth_nineteen_times_out_of_twenty() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        found = estimate(generator.normal(0.6, 0.02, 5).tolist())
        held += found.low <= 0.6 <= found.high
    assert 0.93 < held / 1000 < 0.97


def test_finalists_are_the_best_in_the_studys_direction() -> None:
    scores = {1: 0.5, 2: 0.9, 3: 0.7, 4: 0.9}
    assert finalists(scores, n=3, direction="maximize") == [2, 4, 3]
    assert finalists(scores, n=2, direction="minimize") == [1, 3]
    assert finalists(scores, n=9, direction="minimize") == [1, 3, 2, 4]


def test_the_baseline_wins_a_tie() -> None:
    assert choose({3: [0.6, 0.6], 0: [0.5, 0.7]}, direction="maximize") == 0


def test_the_winner_has_the_best_mean_not_the_best_seed() -> None:
    assert choose({0: [0.6, 0.6], 5: [0.9, 0.2]}, direction="maximize") == 0


def test_noise_of_replicates_is_the_pooled_deviation_within_configurations() -> None:
    first, second = [0.1, 0.2, 0.3], [0.8, 0.8, 0.9, 0.9]
    pooled = math.sqrt((2 * stdev(first) ** 2 + 3 * stdev(second) ** 2) / 5)
    found = noise_of_replicates({0: first, 1: second})
    assert (found.deviation, found.freedom) == (pytest.approx(pooled), 5)


def line(*scores: float) -> tuple[dict[int, float], dict[int, tuple[float, ...]]]:
    """Return scores and positions of configurations in a row, evenly apart."""
    return dict(enumerate(scores)), {n: (n / len(scores),) for n in range(len(scores))}


def test_the_noise_of_neighbours_is_that_of_a_plateau_and_no_cliff_moves_it() -> None:
    random = Random(0)
    scores, places = line(*(random.gauss(0.6, 0.01) for _ in range(400)))
    found = noise_of_neighbours(scores, places)
    assert found is not None
    assert found.deviation == pytest.approx(0.01, rel=0.15)
    cliff = {slot: score if slot < 300 else 0.1 for slot, score in scores.items()}
    beside = noise_of_neighbours(cliff, places)
    assert beside is not None
    assert beside.deviation < 0.01


def test_two_configurations_say_nothing_of_noise() -> None:
    assert noise_of_neighbours(*line(0.5, 0.6)) is None


def test_the_tie_group_reaches_as_far_as_a_t_test_of_two_single_scores() -> None:
    noise = Noise(0.01, 8, "replicates")
    margin = stats.t.ppf(0.95, 8) * math.sqrt(2) * 0.01
    scores = {0: 0.9, 1: 0.9 - 0.99 * margin, 2: 0.9 - 1.01 * margin, 3: 0.895}
    assert tie_group(scores, noise, direction="maximize") == [0, 3, 1]
    assert tie_group({s: -v for s, v in scores.items()}, noise, direction="minimize") == [0, 3, 1]
    assert tie_group(scores, None, direction="maximize") == [0]


def test_the_truly_best_is_in_the_tie_group_nearly_always() -> None:
    generator, noise = np.random.default_rng(0), Noise(0.01, 1000, "replicates")
    truth = np.linspace(0.57, 0.6, 12)
    held = sum(
        11
        in tie_group(dict(enumerate(generator.normal(truth, 0.01))), noise, direction="maximize")
        for _ in range(500)
    )
    assert held / 500 > 0.9


def test_finalists_are_spread_over_the_tie_group_best_first() -> None:
    scores, places = line(0.9, 0.899, 0.898, 0.897, 0.896, 0.2)
    noise = Noise(0.01, 8, "replicates")
    spread_over = spread_finalists(scores, places, noise, n=3, direction="maximize")
    assert spread_over == [0, 4, 2], "the best, the farthest from it, the one between"
    few = spread_finalists(scores, places, Noise(1e-6, 8, "replicates"), n=3, direction="maximize")
    assert few == [0, 1, 2], "a small tie group is filled up with the next best"


@pytest.mark.parametrize("kind", ["drawn", "grid", "twins"])
def test_neighbours_are_those_that_a_look_at_all_pairs_finds(kind: str) -> None:
    generator = Random(3)
    if kind == "grid":
        places = dict(enumerate(itertools.product((0.0, 0.5, 1.0), repeat=4)))
    else:
        places = {n: tuple(generator.random() for _ in range(4)) for n in range(120)}
    if kind == "twins":
        places |= {200 + n: places[n] for n in range(40)}
    scores = {slot: generator.random() for slot in places}
    apart = []
    for slot in scores:
        others = [other for other in scores if other != slot]
        near = min(others, key=lambda other: math.dist(places[other], places[slot]))
        apart.append(abs(scores[slot] - scores[near]))
    found = noise_of_neighbours(scores, places)
    assert found is not None
    assert found.deviation == median(apart) / (0.6745 * math.sqrt(2))
