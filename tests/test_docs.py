"""What the documents tell people to do works as written."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sqlalchemy import URL

from tests.conftest import ROOT, Ended, plain
from trainers.calls.pitfalls import PITFALLS


def test_the_loop_of_your_own_runs_as_pasted(
    tmp_path: Path, sqlite_url: URL, onecycle: Callable[..., Ended]
) -> None:
    page = (ROOT / "docs" / "your-own-loop.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    study = tmp_path / "line.py"
    study.write_text(source)
    ended = onecycle(
        "run", "--study", str(study), "--storage", plain(sqlite_url), "--workers", "1"
    )
    assert ended.code == 0, ended.err
    assert "line: squared error ± half of its 95 % interval, n = 5 fresh seeds" in ended.out
    assert "points" not in ended.out


def test_the_range_test_of_the_readme_runs_as_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    section = (ROOT / "README.md").read_text().partition("## As a library")[2]
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
    assert capsys.readouterr().out.startswith("range test: 5 sweeps of 200 steps, exponential")


def test_the_readme_names_every_command_and_no_other(onecycle: Callable[..., Ended]) -> None:
    listed = set(
        re.findall(r"^│ ([a-z][\w-]*) ", onecycle("--help", COLUMNS="100").out, re.MULTILINE)
    )
    table = (ROOT / "README.md").read_text().partition("## Commands")[2]
    rows = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z][\w-]*)`", row)} == listed


def test_the_page_of_pitfalls_is_the_table_that_the_lint_reads() -> None:
    rows = [
        f"| {p.number} | `{p.name}` | {p.what} | {p.why} | {', '.join(p.seen) or 'a search'} |"
        for p in PITFALLS
    ]
    page = (ROOT / "docs" / "pitfalls.md").read_text()
    assert [line for line in page.splitlines() if re.match(r"\| \d+ \|", line)] == rows


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
