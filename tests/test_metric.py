"""How scores are shown."""

import dataclasses

from search.metric import Metric
from search.result import StudyResult, load_result
from search.terminal import result_lines
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
    text = "\n".join([result.verdict(), *result_lines(result)])
    assert "points" not in text
    assert "noise of a seed: sd 0.0" in text


def finished_result(finished: Finished) -> StudyResult:
    from search.api import opened

    with opened(finished.storage) as engine:
        return load_result(engine, "table")
