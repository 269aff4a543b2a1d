"""The page of a finished study in a real Chromium."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, make_url, update

from search.stages.statistics import compare
from search.starting import catalog
from search.views.findings import findings
from search.views.page.report import write_report
from search.views.tiles import LOOKS
from studies.database import open_engine, transaction
from studies.tables import StudyRow, WorkRow
from tests.browser import Tab
from tests.conftest import FinishedStudy
from tests.finished_rows import NAME, TEST, put

pytestmark = pytest.mark.slow

OpenTab = Callable[..., Tab]
SLICES = ["slice-div_factor", "slice-max_lr", "slice-pct_start"]
FIGURES = [
    "confirmation",
    "curves",
    "importance",
    "map",
    "parallel",
    "range_test",
    "schedule",
    "search",
]


@pytest.fixture(scope="module")
def report(finished_digits: FinishedStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("report") / "digits.html"
    engine = open_engine(finished_digits.url)
    write_report(findings(engine, catalog.find(engine, "digits")), page)
    engine.dispose()
    return page


def opened(
    open_tab: OpenTab, page: Path, width: int = 1280, height: int = 800, **kind: Any
) -> Tab:
    tab = open_tab(viewport={"width": width, "height": height}, **kind)
    tab.page.goto(page.as_uri())
    return tab


def column(tab: Tab, number: int) -> list[str]:
    """Return the cells of a column of the table of trials, from above."""
    cells: list[str] = tab.page.evaluate(
        "n => [...document.querySelectorAll('.sortable tbody tr')].map(r => r.cells[n].innerText)",
        number,
    )
    return cells


def rising(values: list[float]) -> bool:
    return values == sorted(values) and len(set(values)) > 1


def test_it_draws_every_figure_and_asks_nothing_of_any_network(
    report: Path, open_tab: OpenTab
) -> None:
    tab = opened(open_tab, report)
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.reload()
    drawn = tab.page.locator(".figure:has(.main-svg)")
    assert sorted(f"{e.get_attribute('id')}" for e in drawn.all()) == [
        f"figure-{name}" for name in [*FIGURES, *SLICES]
    ]
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert tab.complaints == []


@pytest.mark.parametrize("width", [400, 1280])
def test_the_first_screen_answers(report: Path, open_tab: OpenTab, width: int) -> None:
    tab = opened(open_tab, report, width)
    for found in [*tab.page.locator(".values > div").all(), tab.page.locator(".verdict")]:
        box = found.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 800
    told = tab.page.locator(".values").inner_text()
    for words in (
        "max_lr",
        "pct_start",
        "div_factor",
        "minus baseline",
        "interval",
        " seeds",
    ):
        assert words in told.replace("\xa0", " ")
    assert "what it cost" in told


@pytest.mark.parametrize("width", [400, 1280, 1600])
def test_nothing_is_wider_than_the_screen(report: Path, open_tab: OpenTab, width: int) -> None:
    tab = opened(open_tab, report, width)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == width
    for figure in tab.page.locator(".figure").all():
        legend, plot = figure.locator(".legend .bg").first, figure.locator(".main-svg").first
        box, whole = legend.bounding_box(), plot.bounding_box()
        assert box is not None
        assert whole is not None
        assert box["x"] + box["width"] <= whole["x"] + whole["width"] + 1
        assert box["y"] >= whole["y"] - 1


EDGES = """() => {
    const tile = document.querySelector('.values .answer'), style = getComputedStyle(tile);
    return [style.borderLeftColor, style.borderLeftStyle, tile.innerText];
}"""


@pytest.mark.parametrize("kind", ["light", "dark", "print"])
def test_verdicts_differ_in_colour_edge_and_words(
    open_tab: OpenTab, tmp_path: Path, kind: str
) -> None:
    engine = open_engine(make_url(f"sqlite:///{tmp_path}/studies.db"))
    put(engine)
    found = findings(engine, catalog.find(engine, NAME))
    engine.dispose()
    seen = []
    for name, test in (("better", 0.02), ("alike", 0.0), ("worse", -0.02)):
        scores = [score + test + 0.001 * n for n, score in enumerate(TEST[0])]
        compared = compare(scores, [s + 0.001 * (n % 2) for n, s in enumerate(TEST[0])])
        result = replace(found.result, comparison=compared)
        write_report(replace(found, result=result), tmp_path / f"{name}.html")
        scheme = "dark" if kind == "dark" else "light"
        tab = opened(open_tab, tmp_path / f"{name}.html", color_scheme=scheme)
        tab.page.emulate_media(media="print" if kind == "print" else "screen", color_scheme=scheme)
        assert LOOKS[result.outcome].name == name
        seen.append(tab.page.evaluate(EDGES))
        assert tab.complaints == []
    for part in zip(*seen, strict=True):
        assert len(set(part)) == 3, part


def test_headings_sort_by_number_up_and_down_with_what_is_missing_last(
    report: Path, open_tab: OpenTab
) -> None:
    tab = opened(open_tab, report)
    tab.page.evaluate("document.querySelector('.sortable').rows[3].cells[2].innerText = ''")
    heading = tab.page.locator(".sortable th").nth(2)
    heading.get_by_role("button").click()
    scores = column(tab, 2)
    assert scores[-1] == ""
    assert rising([float(score) for score in scores[:-1]])
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    scores = column(tab, 2)
    assert scores[-1] == ""
    assert rising([float(score) for score in scores[-2::-1]])
    assert heading.get_attribute("aria-sort") == "descending"


def test_headings_are_buttons_of_the_keyboard(report: Path, open_tab: OpenTab) -> None:
    tab = opened(open_tab, report)
    tab.page.get_by_role("button", name="slot").focus()
    for _ in range(3):
        tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    assert rising([float(rate) for rate in column(tab, 3)])
    sorted_by = tab.page.locator("th[aria-sort]")
    assert [heading.inner_text() for heading in sorted_by.all()] == ["max_lr"]
    slots = sorted(int(slot.split()[0]) for slot in column(tab, 0))
    assert slots == list(range(len(slots)))
    assert len(slots) >= 6, "no search ends before"


def drawn_trial(tab: Tab) -> dict[str, list[list[float]]]:
    """Return x and y of what is drawn of the picked trial, by name."""
    found: dict[str, list[list[float]]] = tab.page.evaluate(
        """() => Object.fromEntries(document.getElementById("figure-curves").data
            .filter((trace) => trace.meta.trial)
            .map((trace) => [trace.meta.trial, [[...trace.x], [...trace.y]]]))"""
    )
    return found


def test_the_curves_of_any_trial_are_drawn_by_epoch_or_step(
    report: Path, open_tab: OpenTab
) -> None:
    tab = opened(open_tab, report)
    assert drawn_trial(tab)["score"] == [[], []]
    tab.page.locator("#pick-trial").select_option("1")
    by_epoch = drawn_trial(tab)
    epochs, scores = by_epoch["score"]
    assert epochs == list(range(1, 11))
    assert all(0 < score <= 100 for score in scores)
    assert len(by_epoch["validation"][0]) == 10
    assert len(by_epoch["train"][0]) == 50
    assert max(by_epoch["rate"][0]) == 10
    tab.page.locator("#pick-unit").select_option("step")
    by_step = drawn_trial(tab)
    steps = by_step["score"][0]
    assert steps == [epoch * steps[0] for epoch in range(1, 11)]
    assert by_step["train"][1] == by_epoch["train"][1]
    assert "optimizer step" in tab.page.locator("#figure-curves .xtitle").all_text_contents()
    tab.page.locator("table.sortable tbody tr").nth(3).click()
    slot = column(tab, 0)[3].split()[0]
    assert tab.page.locator("#pick-trial").input_value() == slot
    assert drawn_trial(tab)["score"][1] != by_step["score"][1]
    legend = tab.page.locator("#figure-curves .legendtext").all_text_contents()
    assert any(text.startswith(f"slot {slot}") for text in legend)
    assert tab.complaints == []


def luminance(color: str) -> float:
    red, green, blue = (int(part) for part in color.strip("rgb()").split(", "))
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def colours(tab: Tab) -> list[float]:
    """Return how light the page, its text and the ticks of its figures are."""
    styles: list[str] = tab.page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor,
                  getComputedStyle(document.body).color,
                  getComputedStyle(document.querySelector('.xtick text')).fill]"""
    )
    return [luminance(style) for style in styles]


def test_a_dark_page_has_light_text_and_is_printed_as_a_light_one(
    report: Path, open_tab: OpenTab
) -> None:
    tab = opened(open_tab, report, color_scheme="dark")
    page, *texts = colours(tab)
    assert page < 0.15
    assert min(texts) > 0.8
    tab.page.emulate_media(media="print")
    page, *texts = colours(tab)
    assert page > 0.95
    assert max(texts) < 0.2


def test_figures_take_the_width_of_paper_while_they_are_printed(
    report: Path, open_tab: OpenTab
) -> None:
    tab = opened(open_tab, report, 1600)
    widths = (
        "[...document.querySelectorAll('.main-svg')].map(s => s.getBoundingClientRect().width)"
    )
    tab.page.evaluate(f"() => addEventListener('beforeprint', () => {{ window.seen = {widths} }})")
    assert tab.page.pdf(format="A4").startswith(b"%PDF")
    assert max(tab.page.evaluate("window.seen")) <= 688  # A4 without its margins, at 96 dpi
    assert max(tab.page.evaluate(widths)) > 1000
    assert tab.complaints == []


SORTING = """number => {
    const table = document.querySelector(".sortable"), started = performance.now();
    table.querySelectorAll("th button")[number].click();
    const ended = performance.now();
    table.getBoundingClientRect();
    return ended - started;
}"""


@pytest.mark.long
def test_a_page_of_3000_trials_opens_within_5_s_and_20_mb(
    tmp_path: Path, open_tab: OpenTab
) -> None:
    engine = open_engine(make_url(f"sqlite:///{tmp_path}/studies.db"))
    put(engine)
    with transaction(engine) as session:
        session.execute(update(StudyRow).values(n_trials=3000))
        session.execute(insert(WorkRow), [trial(slot) for slot in range(3, 3000)])
    page, started = tmp_path / "page.html", time.process_time()
    write_report(findings(engine, catalog.find(engine, NAME)), page)
    made_s = time.process_time() - started
    engine.dispose()
    tab = open_tab()
    clock = tab.page.context.new_cdp_session(tab.page)
    clock.send("Performance.enable", {"timeDomain": "threadTicks"})
    tab.page.goto(page.as_uri())
    metrics = {m["name"]: m["value"] for m in clock.send("Performance.getMetrics")["metrics"]}
    opened_s = metrics["TaskDuration"]
    assert tab.page.locator(".sortable tbody tr").count() == 3000
    sorted_s = max(tab.page.evaluate(SORTING, number) for number in (3, 2, 3)) / 1000
    size_mb = page.stat().st_size / 1e6
    print(f"{size_mb:.1f} MB; made in {made_s:.1f} s, opened in {opened_s:.1f} s of CPU time")
    print(f"sorted in {sorted_s:.2f} s")
    assert made_s < 5
    assert opened_s < 5
    assert sorted_s < 1
    assert size_mb < 20
    assert tab.complaints == []


def trial(slot: int) -> dict[str, object]:
    share = slot / 3000
    return {
        "study_id": "the-study",
        "stage": "search",
        "round": 0,
        "epochs": 4,
        "slot": slot,
        "state": "done",
        "outcome": "diverged" if slot % 9 == 0 else "completed",
        "diverged_step": 41 if slot % 9 == 0 else None,
        "diverged_lr": 0.3 if slot % 9 == 0 else None,
        "score": 0.1 if slot % 9 == 0 else 0.9 + 0.08 * (slot * 7919 % 3000) / 3000,
        "params": {
            "max_lr": 0.025 * 16**share,
            "pct_start": 0.05 + 0.55 * (slot * 31 % 3000) / 3000,
            "div_factor": 2 + 98 * (slot * 17 % 3000) / 3000,
        },
        "n_steps": 100,
        "n_images": 6400,
        "seconds": 1.5,
        "device": "TestChip",
    }
