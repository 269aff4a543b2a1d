"""How scores are shown."""

import dataclasses
from pathlib import Path

import pytest
from sqlalchemy import make_url, update

from search.results.metric import Metric
from search.results.result import StudyResult, load_result
from search.results.trials import trials_of
from search.stages.statistics import Comparison, Estimate
from search.starting import catalog
from search.views.dashboard.cards import Cards
from search.views.tiles import so_far
from search.views.wording import fact_lines
from studies.answer import Looks
from studies.database import open_engine, reading, transaction
from studies.states import Stage
from studies.tables import StudyRow, WorkRow
from tests.conftest import Finished
from tests.finished_rows import NAME, put


def test_accuracies_are_percent_and_their_differences_points() -> None:
    metric = Metric("accuracy")
    assert metric.value(0.97654) == "97.65"
    assert metric.difference(0.0123, sign="+") == "+1.23 points"
    assert [metric.signed(each) for each in (0.00003, -0.0, 1e-9)] == ["+0.003", "-0.00", "+0.00"]
    assert metric.interval([0.5, 0.5]) == "50.00 ± 0.00"


def test_other_metrics_are_shown_as_they_are() -> None:
    metric = Metric("loss")
    assert metric.value(2.34567) == "2.346"
    assert metric.difference(-0.0123, sign="+") == "-0.0123"
    assert metric.title == "loss"


def test_accuracies_that_are_counted_to_100_are_percent_as_they_are() -> None:
    metric = Metric.of("accuracy", [10.0, 85.2])
    assert (metric.value(85.2), metric.unit) == ("85.20", " %")
    assert metric.difference(1.234, sign="+") == "+1.23 points"
    assert Metric.of("accuracy", [0.1, None, 1.0]) == Metric("accuracy")
    assert Metric.of("loss", [85.2]).value(85.2) == "85.2"


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
    ("direction", "low", "high", "taken"),
    [
        ("maximize", 0.01, 0.03, "pick"),
        ("maximize", -0.03, -0.01, "baseline"),
        ("minimize", -0.03, -0.01, "pick"),
        ("minimize", 0.01, 0.03, "baseline"),
        ("maximize", -0.01, 0.03, "neither"),
        ("minimize", -0.03, 0.01, "neither"),
    ],
)
def test_the_verdict_follows_the_interval_on_the_test_split(
    direction: str, low: float, high: float, taken: str, finished: Finished
) -> None:
    comparison = Comparison(Estimate((low + high) / 2, low, high, 5), detectable=0.02)
    result = dataclasses.replace(
        finished_result(finished), direction=direction, comparison=comparison
    )
    pick = next(c for c in result.candidates if not c.is_baseline)
    default, result = result.baseline, dataclasses.replace(result, winner=pick)
    defaults = f"torch's defaults at max_lr {default.params.texts()['max_lr']} (the baseline)"
    picked = f"slot {pick.slot} (max_lr {pick.params.texts()['max_lr']})"
    sentences = {
        "pick": f"Take {picked}: it is better than {defaults}",
        "baseline": f"Take {defaults}: they are better than slot {pick.slot}, which led on "
        "validation",
        "neither": f"Take {defaults}: no difference is shown on the test split",
    }
    first, _, rest = result.verdict().partition(f". Slot {pick.slot} minus baseline on the test ")
    assert first == sentences[taken]
    assert result.metric.estimate(comparison.difference) in rest
    assert ("would have shown 4 times out of 5" in rest) is (taken == "neither")
    assert result.recommended == (pick if taken == "pick" else default)
    assert result.alternative == (default if taken == "pick" else pick)


def test_a_baseline_that_nothing_was_confirmed_beside_says_so(finished: Finished) -> None:
    result = finished_result(finished)
    alone = dataclasses.replace(
        result,
        winner=result.baseline,
        candidates=(result.baseline,),
        comparison=None,
        challenge=None,
    )
    assert alone.verdict().endswith(": nothing else was confirmed beside them.")


def test_a_baseline_that_wins_is_the_answer(finished: Finished) -> None:
    result = finished_result(finished)
    won = dataclasses.replace(result, winner=result.baseline, comparison=None)
    assert ": no finalist is expected to score better, after a race" in won.verdict()
    assert won.verdict().endswith(" paired seeds.")
    assert won.recommended == result.baseline


def test_without_test_scores_the_comparison_on_validation_decides(finished: Finished) -> None:
    result = finished_result(finished)
    pick = next(c for c in result.candidates if not c.is_baseline)
    for low, high, taken in ((0.01, 0.03, pick), (-0.01, 0.03, result.baseline)):
        challenge = Comparison(Estimate(0.01, low, high, 3), detectable=0.02)
        unseen = dataclasses.replace(result, winner=pick, comparison=None, challenge=challenge)
        assert unseen.recommended == taken
        assert f" Slot {pick.slot} minus baseline on validation: " in unseen.verdict()
        assert "nothing was scored on a test split" in unseen.verdict()


def test_where_nothing_compares_the_pick_the_default_is_the_answer(finished: Finished) -> None:
    result = finished_result(finished)
    pick = next(c for c in result.candidates if not c.is_baseline)
    alone = dataclasses.replace(result, winner=pick, comparison=None, challenge=None)
    assert alone.recommended == result.baseline
    assert alone.verdict().endswith(": no difference is shown on validation.")


@pytest.mark.parametrize("futile", [False, True])
def test_a_comparison_that_could_stop_early_says_what_its_interval_allows_for(
    futile: bool, finished: Finished
) -> None:
    looks = Looks((3, 4, 5), n=2, boundary=2.5, deviation=0.01, freedom=8, futile=futile)
    result = finished_result(finished)
    pick = next(c for c in result.candidates if not c.is_baseline)
    comparison = Comparison(Estimate(0.01, -0.01, 0.03, 4), detectable=0.02, looks=looks)
    said = dataclasses.replace(result, winner=pick, comparison=comparison).verdict()
    assert "The pairs are of fresh seeds, and the interval holds under stopping early." in said
    assert " With 5 seeds a true difference of 2.00 points would have shown 4 times out " in said
    assert ("; after 4 there was hardly a chance left" in said) is futile
    same = Comparison(Estimate(0.0, 0.0, 0.0, 4), detectable=0.0, looks=looks)
    said = dataclasses.replace(result, winner=pick, comparison=same).verdict()
    assert said.endswith(
        "All pairs scored the same, which says nothing of what n could have shown."
    )


def test_a_study_under_way_whose_accuracies_are_counted_to_100_shows_none_100_times_as_large(
    tmp_path: Path,
) -> None:
    engine = open_engine(make_url(f"sqlite:///{tmp_path / 'studies.db'}"))
    put(engine)
    with transaction(engine) as session:
        session.execute(update(WorkRow).values(score=100 * WorkRow.score))
        session.execute(update(StudyRow).values(stage=Stage.SEARCH, ending=None))
    row = catalog.find(engine, NAME)
    with reading(engine) as session:
        best = so_far(row, trials_of(session, row))[1]
    shown = Cards(engine).of(row.id)
    engine.dispose()
    assert best.value == "98.00 %"
    assert shown is not None
    assert "Best so far: 98.00" in shown.note
    for card in shown.figures.values():
        assert "9800" not in card
