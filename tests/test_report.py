"""The page of a finished study, and the same as Markdown and JSON."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url

import search
from search.errors import UsageError
from search.starting import catalog
from search.views.figures.answer_figures import schedule_figure
from search.views.findings import Findings, findings
from search.views.page.report import default_path, page, write_report
from search.views.summary import summary
from search.views.wording import call_code
from studies.database import open_engine, transaction
from studies.tables import StudyRow
from tests.conftest import Ended, Finished
from tests.finished_rows import DIVERGED_STEP, NAME, put, run_row


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(make_url(f"sqlite:///{tmp_path / 'studies.db'}"))
    put(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def found(engine: Engine) -> Findings:
    return findings(engine, catalog.find(engine, NAME))


class Document(HTMLParser):
    """What a page would load, and its text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action"):
                self.loads.append(value or "")
            if name == "style":
                self.loads += re.findall(r"url\((.*?)\)", value or "")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.loads += re.findall(r"url\((.*?)\)|@import", data)
        elif self.inside != "script":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def one_line(text: str) -> str:
    return " ".join(text.split())


# the page


def test_the_page_loads_nothing_from_anywhere(found: Findings) -> None:
    html = page(found)
    assert [url for url in Document(html).loads if not url.startswith(("data:", "#"))] == []
    assert "default-src 'none'" in html
    assert html.count('class="figure"') == 4 + 3 + 2, "three parameters, their map, and lines"


def test_the_page_holds_the_verdict_the_call_and_the_sealed_test_scores(found: Findings) -> None:
    result = found.result
    text = Document(page(found)).text
    assert one_line(result.verdict()) in text
    assert one_line(call_code(result)) in text
    assert text.count("sealed") == 1
    third = replace(result.winner, slot=2, test=None)
    more = replace(result, candidates=(*result.candidates, third))
    assert Document(page(replace(found, result=more))).text.count("sealed") == 2


def test_the_head_of_the_page_has_the_values_the_gain_and_what_it_cost(found: Findings) -> None:
    text = Document(page(found)).text
    assert found.result.comparison is not None
    difference = found.result.comparison.difference
    head = text[: text.index("The alternative")]
    for words in (
        "max_lr 0.2 baseline: 0.08",
        "pct_start 0.40 baseline: 0.30",
        f"slot 1 minus baseline, test {100 * difference.mean:+.2f} points",
        f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}, n\xa0=\xa03 seeds",
        "16 s 11 runs, 70,400 training images, on TestChip",
    ):
        assert one_line(words) in head


def test_the_page_says_how_sure_the_edge_is_across_sweeps(found: Findings) -> None:
    assert found.result.proposal.interval is None, "two sweeps have no interval"
    text = Document(page(found)).text
    assert "median of n = 2 sweeps" in text
    assert "a factor of 1.59 apart; too few for an interval" in text


def test_a_study_name_is_shown_as_text_never_as_markup(found: Findings) -> None:
    html = page(found)
    assert f"study {NAME}: which max_lr, pct_start, div_factor?" in Document(html).text
    assert NAME not in html


def test_the_page_names_a_diverged_configuration_with_its_step_and_rate(found: Findings) -> None:
    text = Document(page(found)).text
    assert f"2 diverged 10.00 0.39 0.10 3 1.5 {DIVERGED_STEP} 0.31 TestChip" in text
    assert "1 of 3 diverged" in text


def test_a_configuration_that_was_given_up_has_no_numbers(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(run_row("search", 3, state="failed", outcome=None, failure="memory"))
    assert (
        "3 memory 1.5 TestChip"
        in Document(page(findings(engine, catalog.find(engine, NAME)))).text
    )


def test_a_baseline_that_won_is_called_the_answer(found: Findings) -> None:
    won = replace(found.result, winner=found.result.baseline, comparison=None)
    text = Document(page(replace(found, result=won))).text
    assert "Take torch's defaults at max_lr 0.08 (the baseline): no finalist had a better" in text
    assert "max_lr 0.08 slot 1: 0.2" in text
    assert "slot 1 minus baseline, validation" in text
    names = ["baseline (answer)", "slot 1"]
    assert [line.name for line in schedule_figure(won).data] == names


def test_the_page_says_where_its_numbers_come_from(engine: Engine) -> None:
    versions = {"Python": "3.99", "torch": "2.99.1", "optuna": "5.9"}
    with transaction(engine) as session:
        row = session.get_one(StudyRow, "the-study")
        assert row.answer is not None
        row.ending = replace(row.answer, versions=versions)
    text = Document(page(findings(engine, catalog.find(engine, NAME)))).text
    assert "Python 3.99, torch 2.99.1, optuna 5.9" in text
    assert "TestChip (11 runs)" in text
    assert f"database sqlite:///{engine.url.database}" in text
    assert "study seed 7;" in text
    assert "range_test.n_steps 120" in text
    assert "--study digits --name 'a<b>-2' --seed 7 --trials 3 --storage sqlite:///" in text


def test_a_study_without_importances_has_no_figure_of_them(found: Findings) -> None:
    few = page(found)
    told = replace(found.result, importances={}, no_importances="")
    equal = page(replace(found, result=told))
    for html, words in (
        (few, "2 configurations that did not break are too few"),
        (equal, "nothing to explain"),
    ):
        assert 'id="figure-importance"' not in html
        assert words in html


# the same as Markdown and JSON


def test_markdown_is_what_github_makes_tables_and_code_of(found: Findings) -> None:
    from markdown_it import MarkdownIt

    result = replace(found.result, name="a|b_c *d* <e>")
    text = summary(replace(found, result=result))
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    seen = Document(html).text
    assert "Study a|b_c *d* <e>" in seen
    assert one_line(result.verdict()) in seen
    tables = html.split("<table>")[1:]
    assert [table.count("</tr>") for table in tables] == [1 + 2, 1 + 3]
    for table in tables:
        columns = table[: table.index("</tr>")].count("</th>")
        assert table.count("</td>") == columns * (table.count("</tr>") - 1)
    assert 'align:right">' in tables[0]
    assert "pct_start" in seen
    assert f"{result.plan.call(total_steps='epochs * len(train_loader)')}" in text
    assert "<details>" in html


def test_json_has_what_to_try_next_and_where_the_numbers_come_from(found: Findings) -> None:
    document = json.loads(json.dumps(found.as_json()))
    assert document["winner"] == 1
    assert document["provenance"]["devices"] == {"TestChip": 11}
    assert document["provenance"]["seed"] == 7
    assert [hint["about"] for hint in document["next"]] == [hint.about for hint in found.hints]
    assert document["challenge"]["difference"]["n"] == 3


def test_the_report_command_writes_markdown_to_stdout_and_the_page_beside_it(
    finished: Finished, tmp_path: Path, main_here: Callable[..., Ended]
) -> None:
    where = ("--study", "table", "--storage", finished.storage)
    page_at = tmp_path / "page.html"
    ended = main_here("report", *where, "--markdown", "--html", str(page_at))
    assert ended.code == 0, ended.err
    assert ended.out.startswith("## Study table\n")
    assert ended.err.splitlines()[-1] == f"report: {page_at}"
    assert page_at.is_file()
    both = main_here("report", *where, "--markdown", "--json")
    assert both.code == 2
    assert "take one of the two flags" in both.err


# where it goes


def test_a_page_lies_beside_the_sqlite_file_it_was_made_from() -> None:
    assert default_path(make_url("sqlite:////a/b.db"), "digits") == Path("/a/b-digits.html")


def test_the_folders_of_a_page_are_made_and_no_draft_stays(
    found: Findings, tmp_path: Path
) -> None:
    path = tmp_path / "some" / "folder" / "page.html"
    write_report(found, path)
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert list(path.parent.iterdir()) == [path]


def test_a_page_that_cannot_be_written_is_a_usage_error_with_path_and_reason(
    found: Findings, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "page.html"
    with pytest.raises(
        UsageError, match=rf"{re.escape(str(path))}: (Not a directory|File exists)"
    ):
        write_report(found, path)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UsageError, match=re.escape(f"{folder}: Is a directory")):
        write_report(found, folder)
    assert not list(tmp_path.glob(".*draft"))


def test_a_full_disk_leaves_the_old_page_and_no_draft(found: Findings, tmp_path: Path) -> None:
    path = tmp_path / "pages" / "page.html"
    path.parent.mkdir()
    path.write_text("the old page", encoding="utf-8")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(UsageError, match="File too large"):
            write_report(found, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text(encoding="utf-8") == "the old page"
    assert list(path.parent.iterdir()) == [path]


KILLED_MIDWAY = """
import resource, signal, sys
from pathlib import Path
from sqlalchemy import make_url
from search.starting.catalog import find
from search.views.findings import findings
from search.views.page.report import write_report
from studies.database import open_engine
engine = open_engine(make_url(sys.argv[1]))
found = findings(engine, find(engine, sys.argv[2]))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the write that passes 1 MiB kills
write_report(found, Path(sys.argv[3]))
"""


def test_a_write_killed_midway_leaves_the_old_page(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("the old page", encoding="utf-8")
    paths = [str(Path(search.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_MIDWAY, str(engine.url), NAME, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    assert ended.returncode == -signal.SIGXFSZ
    assert path.read_text(encoding="utf-8") == "the old page"


def test_the_table_of_very_many_trials_holds_the_best_and_says_how_many_there_are(
    found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.views.page.report.MOST_ROWS", 2)
    text = page(found)
    assert "The best 2 of 3" in text
    assert "onecycle trials --csv" in text
    table = text[text.index('id="trials"') : text.index('id="next"')]
    assert table.count("<tr") == 3
    assert "0 baseline" in table
    assert "1 answer" in table
    assert "The best 2 of" not in page(replace(found, trials=found.trials[:2]))
