"""How scores are shown."""

import dataclasses

import pytest

from search.results.metric import Metric
from search.results.result import StudyResult, load_result
from search.stages.statistics import Comparison, Estimate
from search.views.wording import fact_lines
from tests.conftest import Finished


def test_accuracies_are_percent_and_their_differences_points() -> None:
    metric = Metric("accuracy")
    assert metric.value(0.97654) == "97.65"
    assert metric.difference(0.0123, sign="+") == "+1.23 points"
    assert metric.interval([0.5, 0.5]) == "50.00 ± 0.00"


def test_other_metrics_are_shown_as_they_are() -> None:
    metric = Metric("loss")
    assert metric.value(2.34567) == "2.346"
    assert metric.difference(-0.0123, sign="+") == "-0.0123"
    assert metric.title == "loss"


def test_the_answer_of_a_loss_speaks_of_no_percent(finished: Finished) -> None:
    result = dataclasses.replace(finished_result(finished), metric=Metric("loss"))
    text = "\n".join([result.verdict(), *fact_lines(result)])
    assert "points" not in text
    assert "noise of a seed: sd 0.0" in text


def finished_result(finished: Finished) -> StudyResult:
    from search.starting.opening import opened

    with opened(finished.storage) as engine:
        return load_result(engine, "table")


@pytest.mark.parametrize(
    ("direction", "low", "high", "said"),
    [
        ("maximize", 0.01, 0.03, "The winner is better. "),
        ("maximize", -0.03, -0.01, "The baseline is better after all: take it. "),
        ("minimize", -0.03, -0.01, "The winner is better. "),
        ("minimize", 0.01, 0.03, "The baseline is better after all: take it. "),
        ("maximize", -0.01, 0.03, "No difference is shown. "),
    ],
)
def test_the_verdict_follows_the_interval_on_the_test_split(
    direction: str, low: float, high: float, said: str, finished: Finished
) -> None:
    comparison = Comparison(Estimate((low + high) / 2, low, high, 5), detectable=0.02)
    result = dataclasses.replace(
        finished_result(finished), direction=direction, comparison=comparison
    )
    assert result.verdict().startswith(f"{said}Winner minus baseline on the test split: ")


def test_a_baseline_that_wins_is_the_answer(finished: Finished) -> None:
    result = finished_result(finished)
    won = dataclasses.replace(result, winner=result.baseline, comparison=None)
    assert won.verdict().startswith("The baseline is the answer: ")
    assert won.verdict().endswith("n = 3 paired seeds.")


def test_a_winner_without_test_scores_is_not_called_the_baseline(finished: Finished) -> None:
    result = finished_result(finished)
    challenger = next(c for c in result.candidates if not c.is_baseline)
    unseen = dataclasses.replace(result, winner=challenger, comparison=None)
    assert unseen.verdict().startswith("The winner had the best mean validation score over 3 ")
    assert "nothing was scored on a test split" in unseen.verdict()
