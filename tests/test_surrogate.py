"""The surrogate: a Gaussian process in range-test coordinates, and what it tells."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern

from search.belief.gains import expected_gain
from search.belief.kernel import Constants, LogNormal, Part, constants, folded, unfolded
from search.belief.surrogate import (
    Observations,
    Surrogate,
    metric_unit,
    surrogate,
    unit_is_guessed,
)
from studies.answer import Noise

UNIT = 0.01
KNOWN = constants()
NEVER = 1e6  # a scale of a coordinate that a process does not depend on


def places(n: int, seed: int, *, n_dimensions: int = 3) -> np.ndarray:
    """Return points of a bracket of 1.6 decades, and of the unit cube beyond the first three."""
    shares = np.random.default_rng(seed).random((n, n_dimensions))
    shares[:, :3] = shares[:, :3] * [1.6, 0.8, 2.0] + [-1.0, 0.1, 0.2]
    return shares


def observed(points: np.ndarray, scores: np.ndarray, n_seeds: int = 1) -> Observations:
    return Observations(points, scores, np.full(len(points), n_seeds))


def sure_of(noise: float, *, fold: float = 1e6) -> Constants:
    """Return the product's constants with one hypothesis: a scale of 1 point and that noise."""
    return Constants(
        scale=LogNormal(median=1.0, sd_of_log=1e-9),
        guessed_scale=LogNormal(median=1.0, sd_of_log=1e-9),
        noise_over_scale=LogNormal(median=noise, sd_of_log=1e-9),
        shared_by_seed=KNOWN.shared_by_seed,
        fold=fold,
        level=KNOWN.level,
        parts=KNOWN.parts,
    )


def as_sklearn(part: Part) -> Kernel:
    scales = [part.max_lr or NEVER, part.pct_start or NEVER, part.div_factor or NEVER]
    return ConstantKernel(part.sd**2) * Matern(scales, nu=2.5)


def dense_process(observations: Observations, noise: float) -> GaussianProcessRegressor:
    """Return scikit-learn's process of the same prior, in points below the best."""
    kernel = ConstantKernel(KNOWN.level**2)
    for part in KNOWN.parts[:3]:
        kernel += as_sklearn(part)
    process = GaussianProcessRegressor(
        kernel, alpha=noise**2 / observations.n_seeds, optimizer=None
    )
    best = observations.scores.max()
    return process.fit(observations.points, (observations.scores - best) / UNIT)


def test_the_posterior_of_one_hypothesis_is_the_dense_process_of_another_library() -> None:
    points, elsewhere = places(20, 1), places(30, 2)
    points[15:] = points[:5]  # measured twice
    scores = 0.6 + np.random.default_rng(3).normal(0, 0.01, 20)
    observations = Observations(points, scores, np.arange(1, 21))
    model = surrogate(observations, unit=UNIT, known=sure_of(0.5))
    mean, covariance = dense_process(observations, 0.5).predict(elsewhere, return_cov=True)
    assert model.mean(elsewhere) == pytest.approx(scores.max() + UNIT * mean, abs=1e-6)
    assert model.covariance(elsewhere) == pytest.approx(UNIT**2 * covariance, abs=1e-8)
    assert model.deviation(elsewhere) == pytest.approx(
        UNIT * np.sqrt(np.diag(covariance)), abs=1e-6
    )


def plateau(points: np.ndarray) -> np.ndarray:
    """An accuracy that is best a little above the proposal, and breaks half a decade above it."""
    scores = 0.65 - 0.01 * (2 * np.abs(points[:, 0] - 0.1) + 0.5 * (points[:, 1] - 0.4) ** 2)
    return np.where(points[:, 0] > 0.5, 0.1, scores)


def searched(n: int, seed: int, *, noise: float = 0.005) -> tuple[np.ndarray, np.ndarray]:
    points = places(n, seed)
    return points, plateau(points) + np.random.default_rng(seed).normal(0, noise, n)


def modelled(n: int = 20, seed: int = 1) -> Surrogate:
    return surrogate(observed(*searched(n, seed)), unit=UNIT)


def test_without_noise_the_mean_goes_through_every_score() -> None:
    points, scores = searched(12, 1)
    model = surrogate(observed(points, scores, 10**9), unit=UNIT)
    assert model.mean(points) == pytest.approx(scores, abs=1e-4)
    assert model.deviation(points).max() < 1e-3


def test_the_mean_of_four_seeds_is_worth_four_rows() -> None:
    points, scores = searched(6, 2)
    known, elsewhere = sure_of(0.5), places(10, 3)
    once = surrogate(observed(points, scores, 4), unit=UNIT, known=known)
    four = surrogate(
        observed(np.repeat(points, 4, 0), np.repeat(scores, 4)), unit=UNIT, known=known
    )
    assert once.mean(elsewhere) == pytest.approx(four.mean(elsewhere), abs=1e-7)
    assert once.covariance(elsewhere) == pytest.approx(four.covariance(elsewhere), abs=1e-9)


def test_mean_deviation_and_draws_agree_with_the_covariance() -> None:
    observations, elsewhere = observed(*searched(20, 1)), places(8, 5)
    model = surrogate(observations, unit=UNIT, known=replace(KNOWN, fold=1e6))
    covariance = model.covariance(elsewhere)
    draws = model.draws(elsewhere, 20_000, rng=np.random.default_rng(0))
    assert np.sqrt(np.diag(covariance)) == pytest.approx(model.deviation(elsewhere))
    assert draws.mean(axis=0) == pytest.approx(
        model.mean(elsewhere), abs=0.02 * math.sqrt(covariance.max())
    )
    assert np.cov(draws.T) == pytest.approx(covariance, rel=0.1, abs=0.05 * covariance.max())


def test_the_expected_gain_is_that_of_the_envelope_of_lines() -> None:
    random = np.random.default_rng(0)
    means, slopes = random.normal(0, 1, 40), random.normal(0, 1, (30, 40))
    z = np.linspace(-8, 8, 4_001)
    heights = (means[None, :, None] + slopes[:, :, None] * z).max(axis=1)
    exact = (heights * norm.pdf(z)).sum(axis=1) * (z[1] - z[0]) - means.max()
    assert expected_gain(means, slopes) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_the_gain_of_a_cycle_is_what_training_it_would_gain_on_average(noise: float) -> None:
    points, scores = searched(8, 4)
    observations, candidates = observed(points, scores), places(12, 5)
    model = surrogate(observations, unit=UNIT, known=sure_of(noise))
    gains, choices = model.gains(candidates), np.concatenate([points, candidates])
    candidate = candidates[[gains.argmax()]]
    now = dense_process(observations, noise)
    mean, deviation = now.predict(candidate, return_std=True)
    levels = np.linspace(-5, 5, 101)
    weights = norm.pdf(levels) / norm.pdf(levels).sum()
    after = []
    for level in levels:
        value = mean[0] + level * math.hypot(deviation[0], noise)
        more = np.append(scores, scores.max() + UNIT * value)
        added = observed(np.concatenate([points, candidate]), more)
        after.append((more.max() + UNIT * dense_process(added, noise).predict(choices)).max())
    gain = weights @ after - (scores.max() + UNIT * now.predict(choices)).max()
    assert gains.max() == pytest.approx(gain, rel=0.03)


def test_a_pending_point_is_worth_less_than_before() -> None:
    model, candidates = modelled(6), places(64, 6)
    before = model.gains(candidates)
    chosen = int(before.argmax())
    once = model.gains(candidates, pending=candidates[[chosen]])
    often = model.gains(candidates, pending=candidates[[chosen] * 30])
    assert once[chosen] < 0.8 * before[chosen]
    assert often[chosen] < 0.1 * before[chosen]
    assert model.gains(candidates, pending=candidates[:0]) == pytest.approx(before)


def test_gains_are_never_negative_and_vanish_where_all_is_known() -> None:
    points, scores = searched(20, 7)
    candidates = places(64, 8)
    gains = [
        surrogate(observed(points, scores, n), unit=UNIT).gains(points if n > 1 else candidates)
        for n in (1, 10_000)
    ]
    assert min(each.min() for each in gains) >= 0
    assert gains[1].max() < 0.01 * gains[0].max()


def test_another_unit_and_another_zero_change_nothing_else() -> None:
    points, scores = searched(15, 9)
    candidates, noise = places(20, 10), Noise(0.004, 6, "replicates")
    one = surrogate(observed(points, scores), unit=UNIT, deviation=noise)
    percent = Noise(0.4, 6, "replicates")
    other = surrogate(observed(points, 100 * scores + 7), unit=1.0, deviation=percent)
    assert other.mean(candidates) == pytest.approx(100 * one.mean(candidates) + 7)
    assert other.deviation(candidates) == pytest.approx(100 * one.deviation(candidates))
    assert other.gains(candidates) == pytest.approx(100 * one.gains(candidates), abs=1e-5)
    assert other.noise == pytest.approx(100 * one.noise)
    assert other.importance(candidates) == pytest.approx(one.importance(candidates))


def test_the_order_of_the_rows_is_of_no_matter() -> None:
    points, scores = searched(15, 11)
    candidates, order = places(20, 12), np.random.default_rng(0).permutation(15)
    one = surrogate(observed(points, scores), unit=UNIT)
    other = surrogate(observed(points[order], scores[order]), unit=UNIT)
    assert other.mean(candidates) == pytest.approx(one.mean(candidates))
    assert other.gains(candidates) == pytest.approx(one.gains(candidates), abs=1e-7)


def test_cycles_that_broke_do_not_bend_the_plateau() -> None:
    points, scores = searched(24, 13)
    here = places(200, 14)
    here = here[(here[:, 0] > -0.8) & (here[:, 0] < 0.2)]
    whole = points[:, 0] < 0.5
    assert not whole.all()
    with_broken = surrogate(observed(points, scores), unit=UNIT).mean(here)
    without = surrogate(observed(points[whole], scores[whole]), unit=UNIT).mean(here)
    assert np.abs(with_broken - without).max() < 0.5 * UNIT


def trained_again(luck: float, *, told: bool) -> float:
    """Return the lead of the three that were trained again over the others, in the mean.

    `luck` is what the search's common seed added; `told` whether the surrogate knows of it.
    """
    points, scores = searched(14, 34)
    best = np.argsort(-scores)[:3]
    every = Observations(
        np.concatenate([points, points[best]]),
        np.concatenate([scores + luck, plateau(points[best])]),
        np.array([1] * 14 + [6] * 3),
        np.arange(17) >= 14 if told else None,
    )
    means = surrogate(every, unit=UNIT, known=sure_of(0.5)).mean(points)
    return float(means[best].mean() - np.delete(means, best).mean())


def test_what_the_common_seed_added_is_no_loss_of_what_is_trained_again() -> None:
    moved_if_told = trained_again(0.004, told=True) - trained_again(0.0, told=True)
    moved_if_not = trained_again(0.004, told=False) - trained_again(0.0, told=False)
    assert moved_if_not < -0.001
    assert abs(moved_if_told) < 0.5 * abs(moved_if_not)


def test_a_common_seed_leaves_less_noise_between_configurations() -> None:
    points, scores = searched(10, 36)
    own = Noise(0.005, 40, "replicates")
    each, common = (
        surrogate(Observations(points, scores, np.ones(10, int), fresh), unit=UNIT, deviation=own)
        for fresh in (None, np.zeros(10, bool))
    )
    assert common.noise == pytest.approx(each.noise, rel=0.1)
    assert common.deviation(points).mean() < 0.95 * each.deviation(points).mean()


@pytest.mark.parametrize("deviation", [0.002, 0.012])
def test_a_deviation_from_pairs_narrows_the_noise(deviation: float) -> None:
    points, scores = searched(4, 15)
    told = Noise(deviation, 30, "replicates")
    model = surrogate(observed(points, scores), unit=UNIT, deviation=told)
    assert model.noise == pytest.approx(deviation, rel=0.2)


@pytest.mark.parametrize(
    "nothing", [Noise(math.nan, 0, "replicates"), Noise(0.05, 40, "neighbours"), None]
)
def test_a_deviation_that_says_nothing_new_is_not_used(nothing: Noise | None) -> None:
    observations = observed(*searched(8, 16))
    assert surrogate(observations, unit=UNIT, deviation=nothing).noise == pytest.approx(
        surrogate(observations, unit=UNIT).noise
    )


def drawn_task(
    seed: int, *, n: int, n_elsewhere: int
) -> tuple[Observations, np.ndarray, np.ndarray]:
    """Return observations of a task drawn from the prior, points elsewhere, and their scores."""
    random = np.random.default_rng(seed)
    scale = KNOWN.scale.median * math.exp(KNOWN.scale.sd_of_log * random.standard_normal())
    noise = KNOWN.noise_over_scale.median
    noise *= math.exp(KNOWN.noise_over_scale.sd_of_log * random.standard_normal())
    points = places(n + n_elsewhere, seed)
    kernel = sum((as_sklearn(part) for part in KNOWN.parts[1:3]), as_sklearn(KNOWN.parts[0]))
    heights = random.multivariate_normal(np.zeros(len(points)), kernel(points))
    deficits = heights - heights.min()
    scores = 0.9 - UNIT * scale * unfolded(deficits, KNOWN.fold)
    noisy = deficits[:n] + noise * random.standard_normal(n)
    seen = 0.9 - UNIT * scale * unfolded(noisy, KNOWN.fold)
    return observed(points[:n], seen), points[n:], scores[n:]


def test_intervals_and_chances_hold_on_tasks_drawn_from_the_prior() -> None:
    inside, chances, within = [], [], []
    for seed in range(60):
        observations, elsewhere, scores = drawn_task(seed, n=10, n_elsewhere=20)
        model = surrogate(observations, unit=UNIT)
        draws = model.draws(elsewhere, 1_000, rng=np.random.default_rng(seed))
        low, high = np.quantile(draws, [0.1, 0.9], axis=0)
        inside.append((low <= scores) & (scores <= high))
        chances.append(model.chance_within(elsewhere, 0.2 * UNIT))
        within.append(scores >= scores.max() - 0.2 * UNIT)
    assert 0.7 < np.mean(inside) < 0.9
    told, true = np.concatenate(chances), np.concatenate(within)
    assert told.mean() == pytest.approx(true.mean(), abs=0.04)
    assert told[told > 0.4].mean() == pytest.approx(true[told > 0.4].mean(), abs=0.12)


def test_a_chance_within_nothing_sums_to_one_and_within_everything_is_one() -> None:
    model, points = modelled(), places(30, 17)
    assert model.chance_within(points, 0.0).sum() == pytest.approx(1)
    assert model.chance_within(points, 10.0) == pytest.approx(np.ones(30))
    assert model.chance_within(points, 0.002) == pytest.approx(model.chance_within(points, 0.002))


def test_of_many_points_the_chances_are_those_of_the_promising() -> None:
    model, points = modelled(), places(600, 18)
    chances = model.chance_within(points, 0.0)
    assert chances.sum() == pytest.approx(1)
    assert chances @ model.mean(points) > np.quantile(model.mean(points), 0.8)


def test_what_only_max_lr_decides_is_important_for_max_lr_alone() -> None:
    points = places(40, 19)
    scores = 0.6 - 0.02 * (points[:, 0] - 0.1) ** 2
    model = surrogate(observed(points, scores, 100), unit=UNIT)
    shares = model.importance(places(64, 20))
    assert shares[0] > 0.9
    assert 0.9 < shares.sum() < 1 + 1e-9


def test_the_importances_of_a_sum_are_the_shares_of_its_variances() -> None:
    points = places(150, 21)
    parts = np.stack([0.010 * points[:, 0], 0.012 * points[:, 1], 0.004 * points[:, 2]], axis=1)
    model = surrogate(observed(points, 0.6 + parts.sum(axis=1), 1_000), unit=UNIT)
    variances = (np.array([0.010, 0.012, 0.004]) * [1.6, 0.8, 2.0]) ** 2  # of evenly spread points
    assert model.importance(places(1_000, 22)) == pytest.approx(
        variances / variances.sum(), abs=0.05
    )


def test_another_parameter_that_matters_is_found() -> None:
    points = places(24, 23, n_dimensions=5)
    scores = 0.6 - 0.06 * (points[:, 4] - 0.7) ** 2
    scores += np.random.default_rng(0).normal(0, 0.002, 24)
    model = surrogate(observed(points, scores), unit=UNIT)
    candidates = places(256, 24, n_dimensions=5)
    assert model.importance(candidates).argmax() == 4
    assert candidates[model.mean(candidates).argmax(), 4] == pytest.approx(0.7, abs=0.2)


@pytest.mark.parametrize(
    "scores",
    [
        [0.5] * 8,
        [0.1] * 8,
        [1e300] + [0.5] * 7,
        [-1e300] + [0.5] * 7,
        [1e308, -1e308] * 4,
        [0.0] * 7 + [5e-324],
    ],
)
def test_odd_scores_give_finite_answers_between_them(scores: list[float]) -> None:
    points = places(8, 25)
    model = surrogate(observed(points, np.array(scores)), unit=UNIT)
    candidates = places(16, 26)
    means = model.mean(candidates)
    assert np.isfinite(means).all()
    assert np.isfinite(model.deviation(candidates)).all()
    assert np.isfinite(model.gains(candidates)).all()
    assert np.isfinite(model.importance(candidates)).all()
    assert np.isfinite(model.chance_within(candidates, 0.002)).all()
    if len(set(scores)) == 1:
        assert means == pytest.approx(scores[0])


def test_one_observation_leaves_the_prior_as_it_was() -> None:
    model = surrogate(observed(places(1, 27), np.array([0.6])), unit=UNIT)
    candidates = places(16, 28)
    assert model.mean(candidates) == pytest.approx(0.6)
    assert 0.005 < model.deviation(candidates).min() < model.deviation(candidates).max() < 0.06
    assert model.gains(candidates).max() > 0.001


def test_a_point_measured_twice_is_known_better() -> None:
    points = np.repeat(places(1, 29), 2, axis=0)
    known = sure_of(0.5)
    twice = surrogate(observed(points, np.array([0.60, 0.61])), unit=UNIT, known=known)
    assert twice.mean(points[:1])[0] == pytest.approx(0.605, abs=1e-4)
    assert twice.deviation(points[:1])[0] == pytest.approx(0.5 * UNIT / math.sqrt(2), rel=0.02)


def test_the_groups_of_many_rows_say_what_the_rows_said() -> None:
    points, scores = searched(900, 30)
    here = places(100, 31)
    here = here[here[:, 0] < 0.3]
    model = surrogate(observed(points, scores), unit=UNIT)
    assert np.abs(model.mean(here) - plateau(here)).max() < 0.4 * UNIT
    assert 0.004 < model.noise < 0.008  # slopes within a group count as noise


def test_twenty_thousand_finished_trials_take_no_five_seconds() -> None:
    observations, candidates = observed(*searched(20_000, 32)), places(256, 33)
    start = time.process_time()
    model = surrogate(observations, unit=UNIT)
    model.gains(candidates)
    model.chance_within(candidates, 0.002)
    assert time.process_time() - start < 5


def test_a_fold_keeps_what_is_near_and_is_undone_exactly() -> None:
    deficits = np.array([-2.0, 0.0, 1.4, 1.5, 3.0, 50.0, 1e6])
    values = folded(deficits, 1.5)
    assert values[:4] == pytest.approx(deficits[:4])
    assert values[4:] == pytest.approx(1.5 + np.log1p(deficits[4:] - 1.5))
    assert unfolded(values, 1.5) == pytest.approx(deficits)


def test_the_unit_of_a_metric_is_a_point_of_an_accuracy_and_a_guess_of_any_other() -> None:
    assert metric_unit("accuracy", [0.6, 0.7], 0.1) == 0.01
    assert metric_unit("accuracy", [60.0, 70.0], 10.0) == 1.0
    assert not unit_is_guessed("acc")
    assert unit_is_guessed("perplexity")
    losses = [-0.50, -0.52, -0.51, -0.6]
    assert metric_unit("cross-entropy", losses, -2.5) == pytest.approx(0.02 * 2.0)
    assert metric_unit("perplexity", losses, -1e9) == pytest.approx(0.15)
    assert metric_unit("perplexity", [-1e9, -1e9], -1e9) > 0
