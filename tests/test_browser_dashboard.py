"""The dashboard of a finished `digits` study as Chromium shows it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from search.results.result import load_result
from studies.database import open_engine
from tests.browser import Tab
from tests.conftest import ROOT, FinishedStudy, plain
from tests.rows import query

pytestmark = pytest.mark.slow

PASSWORD = "s3cret: ü"
SLICES = ("slice-max_lr", "slice-pct_start", "slice-div_factor")
DRAWN = ".scatterlayer .trace, .barlayer .trace, .table .column-cell"
PLOTS = ("confirmation", "search", "curves", *SLICES, "map", "parallel")
CARDS = ("answer", *PLOTS, "importance", "range-test", "schedules")


@contextmanager
def served(url: URL, *flags: str) -> Iterator[str]:
    """Where the command `dashboard` answers for a database; it ends with the block."""
    environment = {"ONECYCLE_STORAGE": plain(url), "ONECYCLE_DASHBOARD_PASSWORD": PASSWORD}
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "dashboard", "--port", "0", *flags],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"at (http://127\.0\.0\.1:\d+) ", line)
        assert found is not None, line
        yield found[1]
    finally:
        process.terminate()
        process.communicate(timeout=300)


@pytest.fixture(scope="module")
def address(finished_digits: FinishedStudy) -> Iterator[str]:
    """Where the dashboard of the finished study answers, for reading."""
    with served(finished_digits.url) as address:
        yield address


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    """A tab that knows the password."""
    return open_tab(http_credentials={"username": "anyone", "password": PASSWORD})


def test_every_card_is_drawn_in_the_order_of_the_search(tab: Tab, address: str) -> None:
    page = tab.page
    page.goto(f"{address}/dashboard/studies/1")
    for card in CARDS:
        plot = page.locator(f"[id='user-defined-plot:onecycle-{card}']")
        plot.locator(DRAWN).first.wait_for()
        box = plot.locator("svg.main-svg").first.bounding_box()
        assert box is not None
        assert box["width"] > 500
        assert box["height"] == 450
    shown = page.locator("[id^='user-defined-plot']").evaluate_all("all => all.map(e => e.id)")
    assert shown == [f"user-defined-plot:onecycle-{card}" for card in CARDS]
    titles = page.locator("[id^='user-defined-plot'] .gtitle").all_text_contents()
    assert [titles[0], titles[2]] == ["The answer", "Search: cycles of 10 epochs"]
    legend = " ".join(page.locator("[id^='user-defined-plot'] .legendtext").all_text_contents())
    for word in ("proposed max_lr", "edge", "rebound", "bracket", "baseline's validation mean"):
        assert word in legend
    page.set_viewport_size({"width": 1280, "height": 1066})
    page.locator(f"[id='user-defined-plot:onecycle-{CARDS[0]}']").evaluate(
        "card => window.scrollTo(0, card.getBoundingClientRect().top + window.scrollY - 84)"
    )
    tab.picture("dashboard")
    assert tab.complaints == []


def test_titles_legends_and_plots_of_the_cards_do_not_overlap(tab: Tab, address: str) -> None:
    tab.page.goto(f"{address}/dashboard/studies/1")
    for card in CARDS:
        plot = tab.page.locator(f"[id='user-defined-plot:onecycle-{card}']")
        plot.locator(DRAWN).first.wait_for()
        box = plot.bounding_box()
        assert box is not None
        ends_at = box["y"]
        for part in (".gtitle", ".nsewdrag", ".xtitle", ".legend"):
            found = plot.locator(part).first.bounding_box() if plot.locator(part).count() else None
            if found is not None:
                assert ends_at <= found["y"] + 1, f"{card}: {part}"
                ends_at = found["y"] + found["height"]
        assert ends_at <= box["y"] + box["height"]


@pytest.mark.parametrize("width", [400, 1200, 1600])
def test_our_card_is_the_first_on_the_page_and_says_what_best_trial_says(
    tab: Tab, address: str, finished_digits: FinishedStudy, width: int
) -> None:
    page = tab.page
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}/dashboard/studies/1")
    ours = page.locator("[id='user-defined-plot:onecycle-answer']")
    ours.locator(DRAWN).first.wait_for()
    page.get_by_text("Best Trial (number=").wait_for()
    tops = page.locator(".MuiCard-root").evaluate_all(
        "cards => cards.map(c => [c.getBoundingClientRect().top, c.innerText.slice(0, 40)])"
    )
    box = ours.bounding_box()
    assert box is not None
    cells = "all => Math.max(...all.map(e => e.getBoundingClientRect().bottom))"
    lowest = ours.locator(".table .cell-text").evaluate_all(cells)
    assert lowest <= box["y"] + box["height"], "the verdict, which is the last row, is cut"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    first = min(tops)
    # A label that wraps is read without its space.
    assert "theanswer" in first[1].lower().replace(" ", ""), sorted(tops)[:3]
    engine = open_engine(finished_digits.url)
    result = load_result(engine, "digits")
    engine.dispose()
    text = ours.text_content() or ""
    for value in result.recommended.params.texts().values():
        assert value in text
    best = page.locator(".MuiCard-root", has_text="Best Trial (number=").inner_text()
    assert f"{round(result.recommended.validation.mean, 6)}" in best
    assert tab.complaints == []


def test_the_note_reads_as_a_summary(
    tab: Tab, address: str, finished_digits: FinishedStudy
) -> None:
    engine = open_engine(finished_digits.url)
    result = load_result(engine, "digits")
    engine.dispose()
    page = tab.page
    page.goto(f"{address}/dashboard/studies/1/note")
    page.get_by_role("heading", name="Study digits: finished").wait_for()
    text = page.locator("main").inner_text()
    assert result.verdict() in text
    assert f"max_lr={result.recommended.params.max_lr:.6g}" in text
    assert "onecycle report --study digits" in text
    assert not re.search(r"\*\*|\\|\| *-|^##", text, re.MULTILINE)
    rows = page.locator("main table tr").all_inner_texts()
    assert len(rows) == 1 + len(result.candidates)
    assert result.metric.interval(result.ranked()[0].scores) in rows[1]
    assert tab.complaints == []


def test_a_trial_tells_who_trained_it_how_fast_and_how_it_ended(tab: Tab, address: str) -> None:
    page = tab.page
    page.goto(f"{address}/dashboard/studies/1/trials?numbers=0")
    page.get_by_text("images_per_s", exact=False).wait_for()
    text = page.locator("main").inner_text()
    for said in (
        r"worker \S+:\d+",
        r"device cpu",
        r"outcome completed",
        r"seconds \d+\.\d{1,3}$",
        r"images_per_s \d+$",
    ):
        assert re.search(said, text, re.MULTILINE), said
    assert tab.complaints == []


def test_nothing_is_shown_to_a_browser_without_the_password(
    open_tab: Callable[..., Tab], address: str
) -> None:
    for options in ({}, {"http_credentials": {"username": "anyone", "password": "wrong"}}):
        tab = open_tab(**options)
        with suppress(Exception):  # Chromium now calls it an error and now an answer
            tab.page.goto(f"{address}/dashboard/studies/1")
        assert f"GET {address}/dashboard/studies/1: 401" in tab.failed


def test_who_tries_to_delete_or_to_write_is_told_why_it_is_refused(
    tab: Tab, address: str, finished_digits: FinishedStudy
) -> None:
    page = tab.page
    page.goto(f"{address}/dashboard")
    page.get_by_label("delete").click()
    page.get_by_role("button", name="Yes").click()
    page.get_by_text("Failed to delete study (id=1)").wait_for()
    page.goto(f"{address}/dashboard/studies/1/note")
    page.get_by_test_id("EditIcon").click()
    page.locator("textarea").first.fill("mine")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("this dashboard is for reading").wait_for()
    assert tab.failed == [
        f"DELETE {address}/api/studies/1: 403",
        f"PUT {address}/api/studies/1/note: 403",
    ]
    assert query(finished_digits.url, "SELECT study_name FROM studies") == [("digits",)]
    assert query(finished_digits.url, "SELECT * FROM study_system_attributes") == []


def test_writes_that_are_allowed_succeed_and_a_note_by_hand_stays(
    tab: Tab, finished_digits: FinishedStudy, tmp_path: Path
) -> None:
    shutil.copy(str(finished_digits.url.database), tmp_path / "copy.db")
    page = tab.page
    with served(make_url(f"sqlite:///{tmp_path}/copy.db"), "--allow-writes") as address:
        page.goto(f"{address}/dashboard/studies/1/note")
        page.get_by_test_id("EditIcon").click()
        page.locator("textarea").first.fill("my **own** words")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Success to save the note").wait_for()
        page.reload()
        page.get_by_text("my own words").wait_for()
        page.goto(f"{address}/dashboard")
        page.get_by_label("delete").click()
        page.get_by_role("button", name="Yes").click()
        page.get_by_text("Success to delete a study").wait_for()
    assert tab.complaints == []
