"""Expected scores: less lucky than the best single score, and no cliff leads them astray."""

import tracemalloc
from statistics import fmean

import numpy as np
import pytest

from search.stages.expected import _MOST_POINTS, _groups, expected_scores


def slope(points: np.ndarray, *, cliff: float = 1.0) -> np.ndarray:
    """Two points of accuracy along the first axis, up to a cliff."""
    return np.where(points[:, 0] < cliff, 0.58 + 0.02 * points[:, 0], 0.3)


def drawn(seed: int, *, n: int = 40, cliff: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return points of the unit cube and their scores, with a noise of half a point."""
    generator = np.random.default_rng(seed)
    points = generator.random((n, 3))
    return points, slope(points, cliff=cliff) + generator.normal(0, 0.005, n)


def best(scores: dict[int, float]) -> int:
    return max(scores, key=scores.__getitem__)


@pytest.mark.parametrize("cliff", [1.0, 0.8])
def test_the_best_expected_score_loses_less_than_the_best_single_score(cliff: float) -> None:
    lost = []
    for seed in range(20):
        points, values = drawn(seed, cliff=cliff)
        scores = dict(enumerate(values.tolist()))
        expected = expected_scores(scores, dict(enumerate(points)), direction="maximize")
        truth = slope(points, cliff=cliff)
        lost.append((truth.max() - truth[best(expected)], truth.max() - truth[best(scores)]))
    by_expected, by_score = (fmean(each) for each in zip(*lost, strict=True))
    assert by_expected < 0.6 * by_score


def test_losses_that_are_minimised_give_the_mirror_image() -> None:
    points, values = drawn(1)
    places = dict(enumerate(points))
    up = expected_scores(dict(enumerate(values.tolist())), places, direction="maximize")
    down = expected_scores(dict(enumerate((-values).tolist())), places, direction="minimize")
    assert [down[slot] for slot in up] == pytest.approx([-value for value in up.values()])


def test_a_cycle_that_broke_moves_no_other_and_stands_as_it_is() -> None:
    points, values = drawn(2)
    values[7] = 0.1
    scores, places = dict(enumerate(values.tolist())), dict(enumerate(points))
    found = expected_scores(scores, places, direction="maximize")
    assert found.pop(7) == 0.1
    del scores[7]
    alone = expected_scores(scores, places, direction="maximize")
    assert found == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("scores", [{0: 0.5, 3: 0.6, 4: 0.1}, dict.fromkeys(range(6), 0.5), {}])
def test_few_scores_or_equal_ones_are_as_they_are(scores: dict[int, float]) -> None:
    places = {slot: (0.1 * slot, 0.5, 0.5) for slot in scores}
    assert expected_scores(scores, places, direction="maximize") == pytest.approx(scores)


def test_scores_after_those_that_are_fitted_count_as_well() -> None:
    points, _ = drawn(3, n=700)
    points = points[points[:, 0].argsort()]  # the last 200 lie where none of the first does
    values = slope(points) + np.random.default_rng(4).normal(0, 0.005, 700)
    found = expected_scores(
        dict(enumerate(values.tolist())), dict(enumerate(points)), direction="maximize"
    )
    errors = np.array([found[slot] for slot in range(700)]) - slope(points)
    assert np.abs(errors[500:]).max() < 0.004
    assert np.std(values[500:] - slope(points)[500:]) > 0.004


def test_of_very_many_scores_groups_of_neighbours_are_gone_through_in_little_memory() -> None:
    n = 20_000
    points, values = drawn(5, n=n)
    scores = dict(enumerate(values.tolist()))
    tracemalloc.start()
    found = expected_scores(scores, dict(enumerate(points)), direction="maximize")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500e6, "all of them took 12 GB"
    errors = np.array([found[slot] for slot in range(n)]) - slope(points)
    assert np.abs(errors).max() < 0.004
    assert np.abs(errors).mean() < 0.001


@pytest.mark.parametrize("n", [2_001, 3_999, 20_000])
def test_the_groups_hold_every_point_once_and_are_no_more_than_are_gone_through(n: int) -> None:
    points = np.random.default_rng(6).random((n, 3))
    points[: n // 3, 2] = 0.5  # as a batch size is
    groups = _groups(points)
    assert sorted(np.concatenate(groups).tolist()) == list(range(n))
    assert len(groups) <= _MOST_POINTS
    assert np.mean([np.ptp(points[group], axis=0).max() for group in groups]) < 0.2
