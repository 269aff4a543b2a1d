"""The cards and the note of a study on Optuna Dashboard."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, select, text

from search.results.result import load_result
from search.views.dashboard.cards import Cards, Shown
from search.views.wording import candidate_name
from studies.answer import NoAnswer
from studies.database import open_engine, reading, transaction
from studies.states import Stage
from studies.tables import StudyRow
from tests.conftest import Ended, Finished

Main = Callable[..., Ended]


@pytest.fixture
def engine(finished: Finished, tmp_path: Path) -> Iterator[Engine]:
    """A copy of the finished table study."""
    engine = open_engine(make_url(finished.copied_to(tmp_path)))
    yield engine
    engine.dispose()


def shown(engine: Engine, *, cards: Cards | None = None) -> Shown:
    """Return what the page of the Optuna study of ours gets."""
    with reading(engine) as session:
        row = session.scalars(select(StudyRow)).one()
    found = (cards or Cards(engine)).of(row.id)
    assert found is not None
    return found


def answer_name(engine: Engine) -> str:
    result = load_result(engine, "table")
    return candidate_name(result.recommended, result)


def figure(card: str, seen: Shown) -> dict[str, Any]:
    drawn: dict[str, Any] = json.loads(seen.figures[f"onecycle-{card}"])
    return drawn


def legend(drawn: dict[str, Any]) -> str:
    """Return all that the legend of a figure says."""
    items = [*drawn["data"], *drawn["layout"].get("shapes", [])]
    return "\n".join(item.get("name", "") for item in items)


def test_every_card_has_a_title_a_legend_below_and_the_height_of_its_box(engine: Engine) -> None:
    seen = shown(engine)
    titles = [json.loads(text)["layout"]["title"]["text"] for text in seen.figures.values()]
    held = f'<br><span style="font-size:12px">all else as in {answer_name(engine)}</span>'
    assert titles == [
        "The answer",
        "Confirmation with fresh seeds",
        "Search: cycles of 4 epochs",
        "Learning curves",
        f"max_lr{held}",
        f"pct_start{held}",
        f"div_factor{held}",
        f"max_lr and pct_start{held}",
        "All parameters side by side",
        "Importance",
        "Range test",
        "Schedules",
    ]
    for drawn in map(json.loads, seen.figures.values()):
        assert "height" not in drawn["layout"]
        assert drawn["layout"]["legend"]["yref"] == "container"
        assert drawn["layout"]["uirevision"]
    assert "proposed max_lr" in legend(figure("range-test", seen))
    assert "bracket" in legend(figure("search", seen))


def test_a_study_that_has_not_moved_on_is_not_drawn_again(engine: Engine) -> None:
    cards = Cards(engine)
    first = shown(engine, cards=cards)
    assert shown(engine, cards=cards) is first
    with transaction(engine) as session:
        row = session.scalars(select(StudyRow)).one()
        row.stage, row.n_trials = Stage.SEARCH, row.n_trials + 8
    later = shown(engine, cards=cards)
    assert later is not first
    assert list(later.figures)[:3] == ["onecycle-answer", "onecycle-search", "onecycle-curves"]
    assert "onecycle-confirmation" not in later.figures
    assert shown(engine, cards=cards) is later


def test_the_note_holds_verdict_values_seeds_cost_and_commands(engine: Engine) -> None:
    result = load_result(engine, "table")
    note = shown(engine).note
    assert result.verdict() in plain_text(note)
    for each in (result.recommended, result.alternative):
        assert each is not None
        assert f"{each.params.max_lr:.3g}" in note
        assert result.metric.interval(each.scores) in note
    assert "\N{EM SPACE}fresh seeds |" in note
    assert "- cost: range test 2 runs" in note
    assert result.plan.call(total_steps="epochs * len(train_loader)") in note
    assert "`onecycle report --study table`" in note
    protocol = "12 configurations, cycles of 4 epochs of 10 steps, seed 0, torch "
    assert protocol in note


def test_the_note_has_no_html_and_shows_its_words_as_they_are(engine: Engine) -> None:
    with transaction(engine) as session:
        row = session.scalars(select(StudyRow)).one()
        row.stage = Stage.FAILED
        row.ending = NoAnswer("<b>no</b> such *thing* | `x`\nnor $this$")
    note = shown(engine).note
    assert "**Ended without a result**" in note
    assert re.search(r"(?<!\\)[<>]", note) is None
    assert "<b>no</b> such *thing* | `x` nor $this$" in plain_text(note)
    assert "`onecycle status --study table`" in note


def plain_text(markdown: str) -> str:
    """Undo the escapes of Markdown."""
    return re.sub(r"\\(\W|_)", r"\1", markdown)


def begin_again(engine: Engine, *statements: str) -> None:
    """Put the study back to its range test, then run SQL."""
    with transaction(engine) as session:
        row = session.scalars(select(StudyRow)).one()
        row.stage, row.ending = Stage.RANGE_TEST, None
        row.edge = row.proposed_max_lr = row.bracket_low = row.bracket_high = None
        session.flush()
        for statement in statements:
            session.execute(text(statement))


def test_a_range_test_under_way_proposes_nothing_yet(engine: Engine) -> None:
    begin_again(
        engine,
        "DELETE FROM work WHERE stage != 'range_test'",
        "UPDATE work SET state = 'waiting' WHERE slot = 1",
        "DELETE FROM point WHERE work_id IN (SELECT id FROM work WHERE slot = 1)",
    )
    seen = shown(engine)
    assert list(seen.figures) == ["onecycle-answer", "onecycle-range-test"]
    cells = figure("answer", seen)["data"][0]["cells"]["values"]
    assert cells[1] == ["<b>range test</b>"]
    said = legend(figure("range-test", seen))
    assert "loss of a step (n = 1 sweep)" in said
    assert "proposed" not in said
    assert "| range test | \N{EM SPACE}1 | \N{EM SPACE}1 |" in seen.note
    assert "proposed" not in seen.note
    assert "Cards of the answer, its confirmation and schedules come" in seen.note


def test_a_search_under_way_is_drawn_as_far_as_it_has_come(engine: Engine) -> None:
    with transaction(engine) as session:
        row = session.scalars(select(StudyRow)).one()
        row.stage, row.ending = Stage.SEARCH, None
        session.execute(text("DELETE FROM work WHERE stage = 'confirmation'"))
        later = "WHERE stage = 'search' AND slot > 4"
        session.execute(text(f"UPDATE work SET state = 'waiting', score = NULL {later}"))
    seen = shown(engine)
    expected = [f"slice-{name}" for name in ("max_lr", "pct_start", "div_factor")]
    cards = ["answer", "search", "curves", *expected, "map", "parallel", "range-test"]
    assert list(seen.figures) == [f"onecycle-{card}" for card in cards]
    assert "no answer, for the best of many" in seen.figures["onecycle-answer"]
    learned = figure("curves", seen)
    assert "baseline (n = 1 seed)" in legend(learned)
    (menu,) = learned["layout"]["updatemenus"]
    assert len(menu["buttons"]) == 1 + 5, "those that have ended"
    drawn = figure("search", seen)
    assert drawn["layout"]["title"]["text"] == "Search: cycles of 4 epochs so far"
    assert "configuration (5, n = 1 seed each)" in legend(drawn)
    assert "baseline" in legend(drawn)
    assert "bracket" in legend(drawn)
    assert "answer" not in legend(drawn)


def test_a_study_without_a_finished_run_has_a_note_alone(engine: Engine) -> None:
    begin_again(engine, "DELETE FROM point", "DELETE FROM work")
    seen = shown(engine)
    assert list(seen.figures) == ["onecycle-answer"]
    assert "cost so far: nothing" in seen.note
