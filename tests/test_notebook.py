"""A study in a notebook: a real kernel runs the cells of the documentation, and more."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search import api
from search.errors import UsageError
from search.results.trials import columns
from tests.browser import Tab
from tests.conftest import ROOT, Finished, unavailable
from tests.kernels import Kernel, Shown

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "notebook.md").read_text()
CELLS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel in an empty folder, as a user's; skipped where none is installed."""
    try:
        import ipykernel  # noqa: F401
    except ModuleNotFoundError:
        unavailable("ipykernel is not installed")
    folder = tmp_path_factory.mktemp("notebook")
    places = {"ONECYCLE_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    kernel = Kernel(cwd=str(folder), env={**os.environ, **places})
    yield kernel
    kernel.end()


@pytest.fixture(scope="module")
def shown(kernel: Kernel) -> list[Shown]:
    """What the cells of the page have shown, the search with two workers among them."""
    return [kernel.run(cell) for cell in CELLS]


def test_the_page_runs_in_a_kernel_with_two_workers(shown: list[Shown]) -> None:
    assert [cell.error for cell in shown] == [""] * 4
    assert [cell.text for cell in shown] == [""] * 4
    assert (
        shown[1]
        .value["text/plain"]
        .startswith("StudyResult line in a notebook: OneCycleLR(optimizer, max_lr=")
    )


def test_progress_is_one_output_that_is_written_anew(shown: list[Shown]) -> None:
    search = shown[1]
    assert search.n_outputs == 1
    first, *_, last = (picture["text/plain"] for picture in search.pictures)
    assert "line in a notebook: 2 worker(s) on cpu" in first
    assert "notebook.db" in first
    assert re.search(r"range test +\S+ +0/2\s", first)
    assert re.search(r"search +\S+ +0/at most 8\s", first)
    assert re.search(r"range test +\S+ +2/2\s", last)
    ended = re.search(r"search +\S+ +(\d+)/\1\s", last)
    assert ended is not None
    assert f" {ended[1]} trials of 3 epochs" in search.value["text/plain"]
    assert re.search(r"confirmation +\S+ +(\d+)/\1", last)
    assert "<pre" in search.pictures[-1]["text/html"]


def test_results_show_themselves_and_their_rows(shown: list[Shown]) -> None:
    _, search, table, sweeps = shown
    assert "<svg" in search.value["text/html"]
    assert "<svg" in sweeps.value["text/html"]
    assert sweeps.value["text/plain"].startswith("RangeTestResult: 2 sweeps of 100 steps")
    assert "max_lr" in table.value["text/plain"]


def test_the_same_cell_resumes_and_a_changed_function_is_refused_by_name(
    kernel: Kernel, shown: list[Shown]
) -> None:
    again = kernel.run(CELLS[0] + CELLS[1].replace("workers=2", "workers=2, progress=False"))
    assert again.value == shown[1].value
    assert again.pictures == []
    kernel.run("def squared_error(model, x, y): return (model(x)[:, 0] - y).abs().mean()")
    changed = kernel.run(CELLS[1])
    assert "'line in a notebook' was made with another code of squared_error; " in changed.error
    kernel.run(CELLS[0])


def test_an_interrupted_cell_leaves_the_kernel_and_resumes(kernel: Kernel) -> None:
    slow = """
import os; os.environ["TABLE_SLEEP_S"] = "0.005"
from search.api import run
from tests.table_study import STUDY as TABLE
kept = "still here"
run(TABLE, storage="sqlite:///table.db").n_trials
"""

    def once(n_pictures: int) -> None:
        if n_pictures == 2:
            kernel.interrupt()

    ended = kernel.run(slow, on_picture=once)
    assert ended.error == "KeyboardInterrupt: work given back; the same call resumes it"
    resumed = kernel.run(slow.replace("0.005", "0"))
    assert resumed.value["text/plain"] == "12"
    assert kernel.run("kept").value["text/plain"] == "'still here'"


def test_a_second_interrupt_ends_the_call_at_once_and_never_the_kernel(
    kernel: Kernel, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    stuck = f"""
import time
from dataclasses import replace
from pathlib import Path
from search.api import run
from tests.table_study import STUDY as TABLE, Table
class Stuck(Table):
    def fit(self, run):
        if run.plan.total_steps == TABLE.range_test.n_steps:
            Path({str(begun)!r}).touch()
            time.sleep(200)
        return super().fit(run)
kept = "here as well"
run(replace(TABLE, name="stuck", task=replace(TABLE.task, factory=Stuck)), storage="sqlite:///s.db")
"""
    sent = []

    def twice(n_pictures: int) -> None:  # pictures are a second apart, so these are two requests
        if begun.exists() and len(sent) < 2:
            sent.append(n_pictures)
            kernel.interrupt()

    ended = kernel.run(stuck, on_picture=twice)
    assert len(sent) == 2
    assert ended.error == "KeyboardInterrupt: "
    assert kernel.run("kept").value["text/plain"] == "'here as well'"


@pytest.mark.long
def test_run_works_in_a_coroutine_and_in_its_thread(kernel: Kernel, shown: list[Shown]) -> None:
    cell = """
import asyncio
from tests.table_study import STUDY as TABLE
there = await asyncio.to_thread(run, TABLE, storage="sqlite:///there.db", trials=2)
async def here(): return run(TABLE, storage="sqlite:///there.db", trials="+1")
(await here()).n_trials - there.n_trials
"""
    in_the_loop = kernel.run(cell)
    assert in_the_loop.error == ""
    assert in_the_loop.value["text/plain"] == "1"


def test_outside_of_a_notebook_progress_is_shown_where_asked(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, storage = finished.study_file, f"sqlite:///{tmp_path}/a.db"
    api.range_test(file, storage=storage)  # quiet where nobody asked
    assert capsys.readouterr().err == ""
    n = api.run(file, storage=storage, progress=True).n_trials
    assert f"search {n}/" in capsys.readouterr().err


def test_a_result_has_three_lines_and_a_table_of_its_trials(finished: Finished) -> None:
    result = api.run(finished.study_file, storage=finished.storage)
    call, score, verdict = repr(result).splitlines()
    assert f"max_lr={result.recommended.params.max_lr:.6g}" in call
    assert f"n = {result.recommended.validation.n} fresh seeds" in score
    assert verdict.strip() == result.verdict()
    table = result.to_dataframe()
    assert tuple(table.columns) == columns(result.parameters)
    assert list(table.score) == [trial.score for trial in result.trials]
    steps = result.measured.to_dataframe()
    assert len(steps) == result.measured.n_steps
    assert set(steps.sweep) == {"0", "1"}  # they agree: no third and no slow one


def test_a_figure_is_plotted_by_its_name(finished: Finished) -> None:
    result = api.run(finished.study_file, storage=finished.storage)
    assert result.plot() == result.plot("confirmation")
    assert result.plot("range_test") == result.measured.plot()
    assert result.plot("search") != result.plot("schedule")
    with pytest.raises(UsageError, match=r"plot\('loss'\): .* take confirmation, search"):
        result.plot("loss")
    with pytest.raises(UsageError, match="plot\\(64\\): no range test at that setting"):
        result.measured.plot(64)


def test_without_pandas_there_is_one_line_that_says_so(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = api.run(finished.study_file, storage=finished.storage)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"needs the package pandas; pip install .*\[notebook\]"):
        result.to_dataframe()


@pytest.mark.parametrize("width", [400, 1200])
def test_results_fit_a_page_of_any_width_without_scripts_and_network(
    width: int, finished: Finished, open_tab: Callable[..., Tab]
) -> None:
    result = api.run(finished.study_file, storage=finished.storage)
    html = result._repr_html_() + result.measured._repr_html_()
    assert "<script" not in html
    assert "http" not in html
    tab = open_tab(viewport={"width": width, "height": 800})
    tab.page.set_content(f"<body style='font-family:sans-serif'>{html}</body>")
    assert tab.complaints == []
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert result.winner.slot != result.recommended.slot
    pick = f"slot {result.winner.slot} (pick)"
    for text in ("baseline (answer)", pick, "learning rate", "proposed max_lr"):
        # The first of a figure's widest labels is the unseen one that makes the room.
        assert tab.page.get_by_text(text).last.is_visible()
