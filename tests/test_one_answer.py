"""The answer is what the verdict recommends: every output of a study says the same call."""

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, select

from search.final.chosen import chosen
from search.results.export import Format
from search.results.result import load_result
from search.stages.statistics import compare
from search.stages.verdict import Verdict
from search.starting import catalog
from search.views.dashboard.cards import Cards
from search.views.figures.answer_figures import schedule_figure
from search.views.findings import findings
from search.views.page.report import page, says_answer, write_report
from studies.answer import Answer
from studies.database import open_engine, reading, transaction
from studies.digits import STUDY
from studies.tables import StudyRow, WorkRow
from tests.conftest import Ended
from tests.finished_rows import NAME, SEARCH, put

BEST = (0.97, 0.98, 0.975)
EVEN = (0.945, 0.965, 0.96)
LOW = (0.93, 0.94, 0.935)
DEFAULT = (0.95, 0.955, 0.96)


@dataclass(frozen=True)
class Case:
    """Scores of slot 1 over the seeds of the baseline's DEFAULT, and what follows from them.

    `test` is None where nothing was scored on a test split.
    """

    validation: tuple[float, ...]
    test: tuple[float, ...] | None
    verdict: Verdict
    recommended: int
    direction: str = "maximize"


CASES = {
    "better": Case(BEST, BEST, Verdict.BETTER, 1),
    "no difference": Case(BEST, EVEN, Verdict.NO_DIFFERENCE, 0),
    "worse": Case(BEST, LOW, Verdict.WORSE, 0),
    "baseline picked": Case(LOW, LOW, Verdict.BASELINE_PICKED, 0),
    "no test, better": Case(BEST, None, Verdict.BETTER, 1),
    "no test, no difference": Case((0.956, 0.951, 0.96), None, Verdict.NO_DIFFERENCE, 0),
    "a loss, better": Case(LOW, LOW, Verdict.BETTER, 1, "minimize"),
    "a loss, worse": Case(LOW, BEST, Verdict.WORSE, 0, "minimize"),
}


def answered(before: Answer, case: Case) -> Answer:
    """Return the stored answer of a case, as a confirmation concludes it."""
    picked = 0 if case.verdict is Verdict.BASELINE_PICKED else 1
    compared = picked == 1 and case.test is not None
    test = {} if case.test is None else {0: DEFAULT, **({1: case.test} if picked else {})}
    shown = (compare(case.test, DEFAULT),) if compared and case.test else ()
    return replace(before, winner=picked, comparisons=shown, compared=compared, test=test)


@dataclass(frozen=True)
class Stored:
    """A study of one verdict in a database."""

    case: Case
    engine: Engine

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--study", NAME, "--storage", f"sqlite:///{self.engine.url.database}")

    @property
    def answer(self) -> tuple[float, ...]:
        """max_lr, pct_start and div_factor of the answer."""
        return SEARCH[self.case.recommended][:3]

    @property
    def other(self) -> tuple[float, ...]:
        """The same of the other one."""
        return SEARCH[1 - self.case.recommended][:3]


@pytest.fixture(params=CASES)
def stored(request: pytest.FixtureRequest, sqlite_url: URL) -> Iterator[Stored]:
    case = CASES[request.param]
    engine = open_engine(sqlite_url)
    put(engine)
    with transaction(engine) as session:
        row = session.get_one(StudyRow, "the-study")
        assert row.answer is not None
        row.direction, row.ending = case.direction, answered(row.answer, case)
        row.metric = "accuracy" if case.direction == "maximize" else "loss"
        for work in session.scalars(select(WorkRow)):
            if work.stage == "search":
                work.trial_number, work.told = 10 + work.slot, True
            if work.stage == "confirmation" and work.replicate is not None:
                scores = DEFAULT if work.candidate == 0 else case.validation
                work.score = scores[work.replicate]
    yield Stored(case, engine)
    engine.dispose()


def calls_in(text: str) -> list[tuple[float, ...]]:
    """Return max_lr, pct_start and div_factor of each OneCycleLR call of a text."""
    calls = re.findall(r"OneCycleLR\((.*?)\n? *\)(?: with|\n|$|</pre>)", text, re.DOTALL)
    return [tuple(map(float, _numbers(each))) for each in calls]


def _numbers(call: str) -> list[str]:
    given = dict(re.findall(r"(\w+)=([\d.e-]+)", call))
    # torch's defaults may be left out.
    return [given["max_lr"], given.get("pct_start", "0.3"), given.get("div_factor", "25")]


def test_the_verdict_of_each_case_is_the_one_that_is_meant(stored: Stored) -> None:
    result = load_result(stored.engine, NAME)
    assert result.outcome is stored.case.verdict
    assert result.recommended.slot == stored.case.recommended
    assert result.alternative is not None
    assert result.alternative.slot == 1 - stored.case.recommended


def test_every_output_of_a_study_has_the_same_call_and_never_the_other(
    stored: Stored, main_here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # nothing of the table is folded
    engine, slot = stored.engine, stored.case.recommended
    result, found = load_result(engine, NAME), findings(engine, catalog.find(engine, NAME))
    with reading(engine) as session:
        row = session.get_one(StudyRow, "the-study")
    shown = Cards(engine).of("the-study")
    assert shown is not None
    forms: tuple[Format, ...] = ("torch", "lightning", "transformers")
    texts = {
        "status": main_here("status", *stored.flags).out,
        "report": main_here("report", *stored.flags).out,
        "markdown": main_here("report", *stored.flags, "--markdown").out,
        "page": page(found).partition("<script>")[0],
        "note": shown.note,
        "print": repr(result),
        "notebook": result._repr_html_(),
        **{form: main_here("export", *stored.flags, "--format", form).out for form in forms},
    }
    for name, text in texts.items():
        assert calls_in(text) == [pytest.approx(stored.answer, rel=1e-5)], name

    first = found.result.verdict().partition(". ")[0]
    for name in ("report", "markdown", "page", "note", "print", "notebook", "status"):
        plain = html.unescape(" ".join(texts[name].split()))
        assert first in re.sub(r"\\(\W|_)", r"\1", plain), name

    marked = ("baseline (answer)", "slot 1 (answer)")
    for name in ("report", "markdown", "page", "note"):
        assert marked[slot] in texts[name], name
        assert marked[1 - slot] not in texts[name], name
    assert next(iter(schedule_figure(result).data)).name == marked[slot]
    tiles = re.findall(r'class="value">([^<]*)<', texts["page"])
    assert [float(tile) for tile in tiles[1:4]] == pytest.approx(stored.answer)

    for document in documents(main_here, stored):
        assert told(document) == (slot, *stored.answer)
    assert shown.answer is not None
    assert shown.answer.trial_number == 10 + slot
    assert shown.answer.score == result.recommended.validation.mean
    assert "best so far" not in texts["status"]
    by_default = chosen(engine, row, STUDY, slot=None, baseline=False)
    assert (by_default.slot, by_default.params.max_lr) == (slot, stored.answer[0])


def documents(main_here: Callable[..., Ended], stored: Stored) -> list[dict[str, Any]]:
    """Return what programs read: of the report and of the export."""
    return [
        json.loads(main_here(*words).out)
        for words in (
            ("report", *stored.flags, "--json"),
            ("export", *stored.flags, "--format", "json"),
        )
    ]


def told(document: dict[str, Any]) -> tuple[float, ...]:
    call = document["onecycle_lr"]
    return document["recommended"], call["max_lr"], call["pct_start"], call["div_factor"]


def test_programs_of_before_still_read_the_winner_of_the_validation(
    stored: Stored, main_here: Callable[..., Ended]
) -> None:
    document, _ = documents(main_here, stored)
    assert document["winner"] == (0 if stored.case.verdict is Verdict.BASELINE_PICKED else 1)
    assert {document["recommended"], document["alternative"]} == {0, 1}
    assert [each["slot"] for each in document["candidates"]] == [0, 1]


def test_a_page_of_another_verdict_is_not_taken_for_this_answers(
    stored: Stored, tmp_path: Path
) -> None:
    found = findings(stored.engine, catalog.find(stored.engine, NAME))
    path = tmp_path / "page.html"
    assert not says_answer(path, found.result)
    write_report(found, path)
    assert says_answer(path, found.result)
    other = compare((0.1, 0.2, 0.3), (0.7, 0.7, 0.7))
    assert not says_answer(path, replace(found.result, comparison=other))
