"""What an ended study knows of its answer: closed forms of the gain, and what a study stores."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sqlalchemy import Engine, make_url, select

from search.results.result import load_result
from search.stages.believed import Belief, belief_of
from search.stages.outlook import (
    CLOSE,
    _says_nothing,
    calibrated,
    chances_near_best,
    gain_of_cycles,
    gain_of_scores,
)
from search.stages.search import cycles_of
from search.views.wording import importance_text
from studies.database import open_engine, reading
from studies.registry import load
from studies.tables import StudyRow
from tests.conftest import Finished


def gain(means: list[float], sds: list[float], n_seeds: list[float]) -> float:
    """Return the gain at independent normal points, where a score has the deviation 1."""
    rng = np.random.default_rng(0)
    draws = np.array(means) + np.array(sds) * rng.standard_normal((100_000, len(means)))
    return gain_of_scores(draws, noise=1.0, n_seeds=np.array(n_seeds), rng=rng)


@pytest.mark.parametrize(("behind", "n_seeds"), [(0.0, 1.0), (0.5, 1.0), (0.5, 4.0), (1.5, 9.0)])
def test_scores_at_one_point_gain_what_the_closed_form_says(behind: float, n_seeds: float) -> None:
    """Of a rival with sd 1: E max(0, X) of its mean afterwards, X normal."""
    sd = 1 / math.sqrt(1 + 1 / n_seeds)
    u = -behind / sd
    expected = sd * (norm.pdf(u) + u * norm.cdf(u))
    assert gain([1.0, 1.0 - behind], [0.0, 1.0], [0.0, n_seeds]) == pytest.approx(
        expected, rel=0.05
    )


def test_to_know_two_equal_points_exactly_gains_the_mean_of_the_greater() -> None:
    found = gain([0.0, 0.0], [1.0, 1.0], [1e9, 1e9])
    assert found == pytest.approx(1 / math.sqrt(math.pi), rel=0.05)


def test_more_cycles_gain_more_and_what_is_known_gains_nothing() -> None:
    gains = [gain([0.0, -0.2], [0.5, 0.5], [n / 2, n / 2]) for n in (1, 4, 16, 64)]
    assert gains == sorted(gains)
    assert gains[-1] > 2 * gains[0]
    assert gain([0.0, -1.0], [1e-9, 1e-9], [5.0, 5.0]) == pytest.approx(0.0, abs=1e-6)


@pytest.fixture(scope="module")
def engine(finished: Finished) -> Iterator[Engine]:
    engine = open_engine(make_url(finished.storage))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def belief(finished: Finished, engine: Engine) -> Belief:
    study = load(str(finished.study_file)).study
    with reading(engine) as session:
        row = session.scalars(select(StudyRow)).one()
        found = belief_of(row, study, cycles_of(session, row))
    assert found is not None
    return found


def test_a_finished_study_says_how_near_the_best_its_answer_is(engine: Engine) -> None:
    result = load_result(engine, "table")
    assert result.chance is not None
    assert 0 <= result.chance <= 1
    assert result.margin == pytest.approx(CLOSE * 0.01)
    assert result.one_more_hour is not None
    assert result.one_more_hour.n_cycles == 200, "a table takes no time"
    assert result.one_more_hour.gain >= 0


def test_optunas_importances_of_few_configurations_are_said_to_say_little(engine: Engine) -> None:
    result = load_result(engine, "table")
    assert "(which says little of so few)" in importance_text(result)
    assert "so few" not in importance_text(replace(result, n_trials=60))


@pytest.mark.parametrize(
    ("metric", "n", "nothing"),
    [("MSE", 1, True), ("MSE", 3, True), ("MSE", 4, False), ("accuracy", 1, False)],
)
def test_too_few_scores_to_guess_what_a_point_is_give_no_chance(
    belief: Belief, metric: str, n: int, nothing: bool
) -> None:
    assert _says_nothing(replace(belief, tried=belief.tried[:n]), metric) is nothing


def test_the_best_that_was_tried_has_a_better_chance_than_the_worst(belief: Belief) -> None:
    chances = chances_near_best(belief, seed=0)
    scores = {each.slot: each.scores[0] for each in belief.tried}
    best, worst = max(scores, key=scores.__getitem__), min(scores, key=scores.__getitem__)
    assert chances.keys() == scores.keys()
    assert chances[best] > chances[worst]


def test_the_gain_of_more_cycles_lies_below_that_of_knowing_all(belief: Belief) -> None:
    points = np.array([belief.ranges.coordinates(each) for each in belief.candidates])
    draws = belief.surrogate.draws(points, 2000, rng=np.random.default_rng(1))
    means = belief.surrogate.mean(points)
    everything = draws.max(axis=1).mean() - means.max()
    few, many = (gain_of_cycles(belief, n, seed=0) for n in (4, 64))
    assert 0 <= few <= many + 0.0005
    assert many <= 1.1 * everything


def test_the_chance_keeps_its_order_and_is_never_certain() -> None:
    shown = [calibrated(chance) for chance in (0.0, 0.0005, 0.05, 0.3, 0.8, 0.9995, 1.0)]
    assert shown == sorted(shown)
    assert 0.01 < shown[0] < 0.05
    assert 0.95 < shown[-1] < 1
    assert calibrated(0.05) > 0.2, "the surrogate's own chance is far too low there"
