"""The tiles of the answer: verdicts told apart, the same on page and dashboard."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url

from search.errors import UsageError
from search.results.result import StudyResult
from search.stages.statistics import compare
from search.stages.verdict import Verdict
from search.starting import catalog
from search.views.dashboard.cards import Cards
from search.views.findings import Findings, findings
from search.views.page.report import page
from search.views.summary import summary
from search.views.terminal.answer import print_findings
from search.views.tiles import LOOKS, tiles
from studies.database import open_engine, transaction
from studies.tables import StudyRow
from tests.conftest import Finished
from tests.finished_rows import NAME, put

WORSE, BETTER, ALIKE = (0.93, 0.931, 0.932), (0.97, 0.98, 0.975), (0.97, 0.93, 0.96)
BASELINE = (0.95, 0.955, 0.96)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_engine(make_url(f"sqlite:///{tmp_path / 'studies.db'}"))
    put(engine)
    return engine


def with_test(result: StudyResult, scores: tuple[float, ...]) -> StudyResult:
    return replace(result, comparison=compare(scores, BASELINE))


@pytest.fixture
def by_verdict(engine: Engine) -> dict[Verdict, Findings]:
    """The same study with each of the verdicts."""
    found = findings(engine, catalog.find(engine, NAME))
    result = found.result
    results = {
        Verdict.BETTER: with_test(result, BETTER),
        Verdict.NO_DIFFERENCE: with_test(result, ALIKE),
        Verdict.WORSE: with_test(result, WORSE),
        Verdict.BASELINE_PICKED: replace(result, winner=result.baseline, comparison=None),
    }
    assert {verdict: each.outcome for verdict, each in results.items()} == {v: v for v in Verdict}
    return {verdict: replace(found, result=each) for verdict, each in results.items()}


def test_each_verdict_has_a_word_an_icon_and_a_look_of_its_own(
    by_verdict: dict[Verdict, Findings],
) -> None:
    for part in ("name", "icon", "word"):
        assert len({getattr(look, part) for look in LOOKS.values()}) == len(Verdict)
    for verdict, found in by_verdict.items():
        html, look = page(found), LOOKS[verdict]
        assert f'<div class="answer {look.name}' in html
        assert f"{look.icon} {look.word}" in html
        assert f'<p class="verdict answer {look.name}">' in html
        assert f".{look.name}" in html, "the style sheet knows it"


def test_the_first_tile_says_which_is_the_answer_also_where_it_is_the_default(
    by_verdict: dict[Verdict, Findings],
) -> None:
    for verdict, found in by_verdict.items():
        first, max_lr, *_ = tiles(found.result, ["TestChip"])
        assert first.label == "the answer"
        takes_pick = verdict is Verdict.BETTER
        assert first.value == ("slot 1" if takes_pick else "torch's defaults")
        assert max_lr.value == ("0.2" if takes_pick else "0.08")
        assert max_lr.note == ("baseline: 0.08" if takes_pick else "slot 1: 0.2")


def digits(text: str) -> list[str]:
    return re.findall(r"[-+]?\d[\d,.]*", unescape(re.sub(r"<[^>]*>", "", text)))


def test_the_dashboards_first_card_has_the_numbers_of_the_page_digit_by_digit(
    finished: Finished,
) -> None:
    engine = open_engine(make_url(finished.storage))
    row = catalog.find(engine, "table")
    html = page(findings(engine, row))
    shown = Cards(engine).of(row.id)
    engine.dispose()
    assert shown is not None
    (name, text), *_ = shown.figures.items()
    assert name == "onecycle-answer"
    labels, values, notes = json.loads(text)["data"][0]["cells"]["values"]
    block = html[html.index('<dl class="values">') : html.index("</dl>")]
    on_page = re.findall(
        r"<dt>(.*?)</dt><dd class=\"value\">(.*?)</dd>\s*<dd.*?>(.*?)</dd>", block
    )
    on_card = list(zip(labels, values, notes, strict=True))[:-1]
    assert len(on_page) == len(on_card) >= 5
    for there, here in zip(on_page, on_card, strict=True):
        assert list(map(digits, there)) == list(map(digits, here))
    assert any(digits(value) for _, value, _ in on_card)


def test_importances_are_told_nowhere_where_n_is_too_small(
    engine: Engine, by_verdict: dict[Verdict, Findings], capsys: pytest.CaptureFixture[str]
) -> None:
    found = by_verdict[Verdict.BETTER]
    reason = "2 configurations that did not break are too few to say which of 3 parameters matters"
    document = found.as_json()
    assert document["importances"] is None
    assert reason in document["no_importances"]
    print_findings(found, Path("page.html"), json=False)
    for text in (capsys.readouterr().out, summary(found)):
        assert reason in " ".join(text.replace("\\", "").split())
        assert "70%" not in text
    assert reason in page(found)
    assert 'id="figure-importance"' not in page(found)
    shown = Cards(engine).of("the-study")
    assert shown is not None
    assert "onecycle-importance" not in shown.figures
    with pytest.raises(UsageError, match="too few"):
        found.result.plot("importance")


def test_enough_configurations_tell_importances_with_an_interval(finished: Finished) -> None:
    engine = open_engine(make_url(finished.storage))
    found = findings(engine, catalog.find(engine, "table"))
    engine.dispose()
    assert found.result.no_importances == ""
    assert found.landscape is not None
    ends = found.landscape.importance_ends()
    assert set(ends) == set(found.result.shares)
    assert all(0 <= low <= high <= 1 for low, high in ends.values())
    assert sum(found.result.shares.values()) <= 1 + 1e-9


def test_a_study_that_ended_without_a_result_says_so_first(engine: Engine) -> None:
    with transaction(engine) as session:
        row = session.get_one(StudyRow, "the-study")
        row.stage, row.ending = "search", None
    shown = Cards(engine).of("the-study")
    assert shown is not None
    (name, text), *_ = shown.figures.items()
    assert name == "onecycle-answer"
    assert "98.00 %" in text
    assert "no answer, for the best of many is partly the luckiest" in text
