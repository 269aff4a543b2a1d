"""The statistics of the answer, held against scipy and closed forms."""

import math
from random import Random
from statistics import stdev

import numpy as np
import pytest
from scipy import stats

from search.stages.statistics import (
    Noise,
    choose,
    compare,
    estimate,
    finalists,
    noise_of_replicates,
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
