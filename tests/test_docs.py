"""What the documents tell people to do works as written."""

import importlib.util
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sqlalchemy import URL

from benchmarks.diagnose import matrix
from tests.conftest import ROOT, Ended, plain
from trainers.calls.pitfalls import PITFALLS


@pytest.mark.slow
def test_the_loop_of_your_own_runs_as_pasted(
    tmp_path: Path, sqlite_url: URL, onecycle: Callable[..., Ended]
) -> None:
    page = (ROOT / "docs" / "your-own-loop.md").read_text()
    _, source = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    study = tmp_path / "line.py"
    study.write_text(source)
    ended = onecycle(
        "run", "--study", str(study), "--storage", plain(sqlite_url), "--workers", "1"
    )
    assert ended.code == 0, ended.err
    told = " ".join(ended.out.split())  # a heading is as wide as its table
    assert "line: squared error ± half of its 95 % interval over fresh seeds" in told
    assert "points" not in ended.out


def test_the_range_test_alone_runs_as_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    section = (ROOT / "docs" / "library.md").read_text()
    (source,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        if "range_test" in code
    ]
    model = torch.nn.Linear(8, 2)
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(x, (x.sum(1) > 0).long())
    yours = {
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters()),
        "train_loader": torch.utils.data.DataLoader(data, batch_size=32, shuffle=True),
    }
    exec(source, yours)
    assert re.match(r"range test: [2-5] sweeps of 200 steps, lr ", capsys.readouterr().out)


def test_the_page_of_commands_names_every_command_and_no_other(
    onecycle: Callable[..., Ended],
) -> None:
    listed = set(
        re.findall(r"^│ ([a-z][\w-]*) ", onecycle("--help", COLUMNS="100").out, re.MULTILINE)
    )
    table = (ROOT / "docs" / "commands.md").read_text()
    rows = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z][\w-]*)`", row)} == listed


def test_the_page_of_pitfalls_is_the_table_that_the_lint_reads() -> None:
    rows = [
        f"| {p.number} | `{p.name}` | {p.what} | {p.why} | {', '.join(p.seen) or 'a search'} |"
        for p in PITFALLS
    ]
    page = (ROOT / "docs" / "pitfalls.md").read_text()
    assert [line for line in page.splitlines() if re.match(r"\| \d+ \|", line)] == rows


def anchors_of(page: Path) -> set[str]:
    """Return what the headings of a page are linked by, as forges spell it."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors_of(linked), f"{page.name}: {target}#{anchor}"


LONG_TABLES = sorted((ROOT / "docs" / "benchmarks").glob("*.md"))


def rows_of(text: str) -> list[Counter[str]]:
    """Return the cells of each row of the tables of a page."""
    return [
        Counter(cell.strip() for cell in line.strip("|").split("|"))
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]


def test_each_row_of_a_short_table_is_part_of_a_long_one_that_its_section_links() -> None:
    compared = 0
    for section in (ROOT / "docs" / "benchmarks.md").read_text().split("\n## ")[1:]:
        linked = re.findall(r"\]\((benchmarks/[\w-]+\.md)\)", section)
        known = [row for page in linked for row in rows_of((ROOT / "docs" / page).read_text())]
        for row in rows_of(section) if linked else ():
            assert any(row <= each for each in known), f"{section.splitlines()[0]}: {dict(row)}"
            compared += 1
    assert compared > 50


def test_the_differences_told_are_those_of_the_trained_answers() -> None:
    section = (ROOT / "docs" / "search.md").read_text().partition("## What was measured")[2]
    table = [row for row in rows_of(section.partition("\n## ")[0]) if "plain TPE" in row]
    trained = rows_of((ROOT / "docs" / "benchmarks" / "trained.md").read_text())
    ours_minus_plain = [row for row in trained if "ours minus b without pruner" in row]
    assert len(table) == len(ours_minus_plain) == 2
    for row, long in zip(table, ours_minus_plain, strict=True):
        assert Counter(cell for cell in row if "[" in cell) <= long


@pytest.mark.parametrize("page", LONG_TABLES, ids=lambda page: page.stem)
def test_a_page_of_long_tables_names_the_command_that_writes_it(page: Path) -> None:
    marker = page.read_text().splitlines()[2]
    written = re.fullmatch(r"Written by `python -m ([\w.]+) (.*)`; not edited by hand\.", marker)
    assert written is not None
    assert importlib.util.find_spec(written[1]) is not None
    assert written[2].endswith(f"--write docs/benchmarks/{page.name}")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_page_of_diagnose_is_what_it_says_today() -> None:
    assert matrix(50) in (ROOT / "docs" / "benchmarks" / "diagnose.md").read_text()
