"""What a database holds is not trusted: hostile values in every text column, in every view."""

import ast
import csv
import html
import io
import json
import re
import shlex
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from sqlalchemy import URL, Engine

from search.results.export import exported
from search.results.result import load_result
from search.results.status import overview
from search.results.trials import trials
from search.starting import catalog
from search.text import file_name, printable, shell_line
from search.views.dashboard.cards import Cards
from search.views.findings import Findings, findings
from search.views.markdown import code, literal
from search.views.page.report import default_path, page
from search.views.summary import summary
from search.views.terminal import answer as terminal
from search.views.terminal.status import status_lines
from search.views.terminal.trials import print_trials
from studies.database import open_engine, prepare, transaction
from studies.states import FailureKind
from studies.tables import StudyRow, WorkerRow, WorkRow
from tests import finished_rows

HOSTILE = {
    "newline": "x\nimport os; os.abort()\n#",
    "escape": "x\x1b[2J\x1b]0;owned\x07\r\x08",
    "markup": "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "markdown": "`x` **b** [a](javascript:alert(1)) | <b> ```\n# h",
    "shell": "'; rm -rf ~; $(touch owned) `touch owned` \"\\",
    "path": "../../etc/x",
    "bidi": "a\u202etxt.exe\u2066",
    "rich": "[/][bold red]x[/]",
    "formula": "=HYPERLINK(1)",
}


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE.keys())
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(sqlite_url: URL, text: str) -> Iterator[Engine]:
    """The small finished study with `text` in every text column but those of states."""
    engine = open_engine(sqlite_url)
    prepare(engine)
    finished_rows.put(engine)
    with transaction(engine) as session:
        row = session.get_one(StudyRow, "the-study")
        row.name = row.spec = row.source = row.metric = row.budget = text
        row.declared = {**row.declared, "task.optimizer": text, "torch": text, text: text}
        row.resolved = {"precision": text, text: text}
        assert row.answer is not None
        row.ending = replace(row.answer, versions={text: text})
        for work in session.query(WorkRow):
            work.device = work.owner = work.process = work.traceback = text
            work.failure, work.failures = FailureKind.BUG, 1
            if work.stage == "search" and work.outcome != "diverged":
                work.outcome = text
        worker = WorkerRow(name=text, study_id=row.id, process=text, device=text, waits_for=text)
        session.add(worker)
    yield engine
    engine.dispose()


@pytest.fixture
def found(engine: Engine, text: str) -> Findings:
    return findings(engine, catalog.find(engine, text))


def assert_harmless(lines: str) -> None:
    """Assert that no character moves the cursor or turns the direction of writing."""
    bad = {c for c in lines if c != "\n" and unicodedata.category(c)[0] == "C"}
    assert not bad, sorted(map(ascii, bad))


def test_the_terminal_shows_it_without_moving_the_cursor(
    engine: Engine, found: Findings, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.print_findings(found, Path("page.html"), json=False)
    terminal.print_studies(catalog.listing(engine))
    print_trials(trials(engine, text), csv=False)
    print("\n".join(status_lines(overview(engine, text))))
    out = capsys.readouterr().out
    assert_harmless(out)
    n_lines = out.count("\n")
    assert n_lines < 120
    terminal.print_findings(found, Path("page.html"), json=True)
    assert json.loads(capsys.readouterr().out)["name"] == text


def test_exported_code_is_the_same_code_whatever_the_names_are(engine: Engine, text: str) -> None:
    result = load_result(engine, text)
    for form in ("torch", "lightning", "transformers"):
        source = exported(result, form)  # type: ignore[arg-type]
        assert_harmless(source)
        assert [line[0] for line in source.splitlines()[:2]] == ["#", "#"]
        statements = {type(node).__name__ for node in ast.parse(source).body}
        assert statements <= {"Import", "ImportFrom", "FunctionDef", "ClassDef"}
    assert json.loads(exported(result, "json"))["study"] == text


def test_the_page_escapes_it(found: Findings) -> None:
    text = page(found)
    body = text[: text.index("<script>")]
    assert body.count("<img") == 0
    assert "alert(1)</script>" not in body
    assert_harmless(body)
    drawings = text[text.rindex("const drawings") :]
    assert drawings.count("</script>") == 1
    for title in re.findall(r'"title":\{"text":"(.*?)"\}', drawings):
        assert "<" not in html.unescape(title.encode().decode("unicode_escape")) or "&lt;" in title


def test_markdown_shows_it_as_text(engine: Engine, found: Findings, text: str) -> None:
    shown = Cards(engine).of("the-study")
    assert shown is not None
    for source in (summary(found), shown.note):
        assert_harmless(source)
        own = source.replace("<details><summary>Provenance</summary>", "").replace(
            "</details>", ""
        )
        tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(own)
        kinds = {token.type for token in tokens} | {
            child.type for token in tokens for child in token.children or ()
        }
        assert not kinds & {"html_block", "html_inline", "link_open", "image"}


def test_a_formula_is_text_in_a_spreadsheet(
    engine: Engine, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_trials(trials(engine, text), csv=True)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == len(finished_rows.SEARCH)
    for row in rows:
        assert not row["device"].startswith(("=", "+", "@", "\t", "\r"))
        assert float(row["max_lr"]) > 0


def test_a_page_lies_where_it_should_whatever_the_name_is(tmp_path: Path, text: str) -> None:
    path = default_path(URL.create("sqlite", database=str(tmp_path / "a.db")), text)
    assert path.resolve().parent == tmp_path.resolve()
    path.write_text("")
    assert path.name.isprintable()


def test_a_command_to_paste_gives_the_name_back_and_does_nothing_else(
    tmp_path: Path, text: str
) -> None:
    line = shell_line("printf", "%s", text)
    assert "\n" not in line
    assert_harmless(line)
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode() == text
    assert list(tmp_path.iterdir()) == []
    if text.isprintable():
        assert shlex.split(line)[-1] == text


@pytest.mark.parametrize("name", ["digits", "a<b>", "lr sweep (2)", "über-5", "a.b", "$x"])
def test_names_as_people_give_them_are_file_names_as_they_are(name: str) -> None:
    assert file_name(name) == name


def test_file_names_are_short_apart_and_lead_nowhere(tmp_path: Path) -> None:
    names = ["é" * 130, "é" * 131, "x" * 200, "\U0001f600" * 200, "..", ".", "", "/etc/x", "a/b"]
    names += ["a\\b", "a\0b", "a\nb", "-rf", "\udcff"]
    found = [file_name(name) for name in names]
    assert len({*found}) == len(names)
    for name in found:
        assert len(name.encode()) <= 200
        (tmp_path / f"studies-{name}.html").write_text("")
    assert len(list(tmp_path.iterdir())) == len(names)


def test_code_and_literal_keep_backticks_and_entities_as_they_are() -> None:
    for text in ("a`b", "``", "a ``` b", "&lt;b&gt;", "x_y_", "**b**"):
        for written in (code(text), literal(text)):
            inline = MarkdownIt().render(f"a {written} z")
            assert html.unescape(re.sub("<.*?>", "", inline)).strip() == f"a {text} z"
    assert printable("a\x1b[2J\u202e") == "a [2J "
