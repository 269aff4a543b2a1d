"""Every table at 60, 80, 100 and 160 columns, with what strains it: no heading is cut, no line is
longer than the terminal, and what has no room is named."""

import dataclasses
import io
import re
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from search.params import Params
from search.results.curves import EpochPoint, StepPoint
from search.results.status import Overview, overview, plan_of, stored_definition
from search.results.trials import Trial, trials
from search.starting.catalog import find
from search.starting.cost import Started, costs
from search.starting.doctor import Check
from search.starting.opening import opened
from search.views.findings import Findings, findings
from search.views.terminal.answer import print_findings, print_studies
from search.views.terminal.checks import print_checks
from search.views.terminal.live_view import View
from search.views.terminal.plan import plan_text
from search.views.terminal.tables import Column, blocks_of, columns_of, wrapped
from search.views.terminal.trials import print_trials
from studies.registry import Definition
from studies.states import RunState, Stage
from tests.conftest import Ended, Finished
from tests.table_study import STUDY

WIDTHS = (60, 80, 100, 160)
LONG = "a-study-with-a-name-that-is-longer-than-any-terminal-should-be-" * 3
WIDE = "学習率の検索"
MANY = {
    "dropout": 0.1234,
    "label_smoothing": 0.05,
    "number_of_attention_heads": 16,
    "optimizer": "adamw_with_decoupled_decay",
    "weight_decay": 0.00123,
    "augmentation_strength_of_images": 0.75,
    "seed_of_shuffling": 7,
}


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A terminal of so many columns, without colours."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("NO_COLOR", "1")
    return int(request.param)


@pytest.fixture
def found(finished: Finished) -> Findings:
    with opened(finished.storage) as engine:
        return findings(engine, find(engine, "table"))


Shown = Callable[[Callable[[], object]], list[str]]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Return the lines that something prints on a terminal."""

    def call(prints: Callable[[], object]) -> list[str]:
        capsys.readouterr()
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        prints()
        text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert "…" not in text
        return text.splitlines()

    return call


def assert_fits(lines: list[str], width: int) -> None:
    too_long = [line for line in lines if cell_len(line) > width]
    # Commands are left whole, for whoever pastes them.
    assert [line for line in too_long if not line.startswith(("    ", "report: "))] == []


def headings_in(lines: list[str]) -> str:
    """Return what stands over the rules of tables, one after the other."""
    kept = []
    for number, line in enumerate(lines):
        if re.fullmatch("─+", line.strip()):
            above = [each for each in lines[:number] if each.strip()]
            kept += above[-4:]
    return " ".join(" ".join(kept).split())


def assert_headings(lines: list[str], *headings: str) -> None:
    """Each word of each heading stands in one line, whole."""
    text = headings_in(lines)
    for heading in headings:
        for word in re.split("[_ ]", heading):
            assert re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text), (word, text)


def strained(found: Findings, **changes: Any) -> Findings:
    """Return an answer with many parameters and long names."""
    result = found.result
    candidates = tuple(
        dataclasses.replace(each, params=Params(**{**each.params, **MANY}))
        for each in result.candidates
    )
    by_slot = {each.slot: each for each in candidates}
    changed = {
        "candidates": candidates,
        "winner": by_slot[result.winner.slot],
        "parameters": (*result.parameters, *MANY),
        **changes,
    }
    return dataclasses.replace(found, result=dataclasses.replace(result, **changed))


def test_an_answer_fits(found: Findings, width: int, shown: Shown) -> None:
    lines = shown(lambda: print_findings(found, Path("page.html"), json=False))
    assert_fits(lines, width)
    assert_headings(lines, "seeds", "validation", "test", "cost", "runs", "training samples")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": LONG},
        {"name": WIDE * 12},
        {"metric": "mean_squared_error_of_the_logarithms_per_pixel", "direction": "minimize"},
    ],
    ids=["long", "wide", "minimised"],
)
def test_an_answer_with_many_parameters_and_long_names_fits(
    changes: dict[str, Any], found: Findings, width: int, shown: Shown
) -> None:
    if "metric" in changes:
        metric = type(found.result.metric)(changes["metric"])
        changes = {**changes, "metric": metric}
    answer = strained(found, **changes)
    lines = shown(lambda: print_findings(answer, Path("page.html"), json=False))
    assert_fits(lines, width)
    assert_headings(lines, "seeds", "validation", "test")
    text = " ".join(" ".join(lines).split())
    for name, value in answer.result.winner.params.texts().items():
        assert f"{name} {value}" in text, "no parameter is lost"


def test_a_heading_that_broke_in_its_word_is_whole(found: Findings, shown: Shown) -> None:
    lines = shown(lambda: print_findings(found, Path("page.html"), json=False))
    assert not any(line.strip() in ("configuratio", "n") for line in lines)


def test_trials_with_many_parameters_fit_and_say_what_is_not_shown(
    finished: Finished, width: int, shown: Shown
) -> None:
    with opened(finished.storage) as engine:
        rows = trials(engine, "table")
    rows = [
        dataclasses.replace(row, params=Params(**{**(row.params or {}), **MANY})) for row in rows
    ]
    lines = shown(lambda: print_trials(rows, csv=False))
    assert_fits(lines, width)
    names = [*(rows[0].params or {})]
    assert_headings(lines, "slot", "score", *names)
    hidden = " ".join(lines).partition("not shown")[2]
    for column in ("epochs", "state", "outcome", "seconds"):
        assert column in headings_in(lines).split() or column in hidden, column
    assert not hidden or "--csv" in " ".join(lines)
    text = "\n".join(lines)
    assert text.count("adamw_with_decoupled_decay") == len(rows), "no value is cut"


def test_trials_that_fit_are_one_table(finished: Finished, shown: Shown, width: int) -> None:
    with opened(finished.storage) as engine:
        rows = trials(engine, "table")
    lines = shown(lambda: print_trials(rows, csv=False))
    assert_fits(lines, width)
    assert sum("slot" in line.split() for line in lines) == 1


def test_the_list_of_studies_fits(width: int, shown: Shown) -> None:
    at = datetime(2026, 1, 2, 3, 4)
    rows = [
        (LONG, Stage.CONFIRMATION, 1234, 100_000, at),
        (WIDE * 20, Stage.RANGE_TEST, 0, 24, at),
        ("digits", Stage.FINISHED, 24, 24, at),
    ]
    lines = shown(lambda: print_studies(rows))
    assert_fits(lines, width)
    assert_headings(lines, "study", "stage", "configurations", "created (UTC)")
    first = "".join(line.split("  ")[0].strip() for line in lines[2:])
    assert LONG in first
    assert WIDE * 20 in first


def running(now: Overview) -> Overview:
    """Return a look at a study of many runs, workers and failures."""
    from search.results.status import Failures, Running, Worker
    from studies.states import FailureKind

    params = Params(max_lr=0.123, pct_start=0.3, div_factor=25.0, **MANY)
    values: dict[str, Any] = {"length": 40, "params": params, "images_per_s": 1234.5}
    owner = f"{'a-host-with-a-long-name.' * 4}example.org:123456:abcdef"
    runs = tuple(
        Running(
            stage=Stage.SEARCH,
            name="search",
            slot=slot,
            epoch=3,
            owner=owner,
            silent_s=2.0,
            stale=slot == 1,
            step=70,
            total_steps=200,
            by_epoch=(EpochPoint(1, 50, 0.2, 1.0, None, 1.0, 0.7),),
            by_step=(StepPoint(40, 0.1, 2.0), StepPoint(70, 0.2, 1.0)),
            **values,
        )
        for slot in range(3)
    )
    worker = Worker(
        name=owner,
        host="h",
        device="cuda (NVIDIA H200 NVL with a long name)",
        silent_s=3.0,
        stale=False,
        waits_for="2 search run(s) of other workers",
    )
    failure = Failures(
        kind=FailureKind.BUG, n_runs=2, n_attempts=3, last_line=f"ValueError: {WIDE * 20}"
    )
    return dataclasses.replace(
        now,
        study=LONG,
        stage=Stage.SEARCH,
        ended=False,
        running=runs,
        workers=(worker,),
        failures=(failure,),
        answer=None,
        time_left="about 40 s (20 s to 2 min) left",
        stages=tuple(
            dataclasses.replace(stage, at_most=True, total=100_000) for stage in now.stages
        ),
    )


@pytest.fixture
def now(finished: Finished) -> Overview:
    with opened(finished.storage) as engine:
        row = find(engine, "table")
        return running(overview(engine, "table", plan_of(row, stored_definition(row))))


def test_the_status_of_a_study_fits(now: Overview, width: int) -> None:
    from search.views.terminal.status import _fitted, status_lines

    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    lines = _fitted(console, now)
    assert_fits(lines, width)
    text = " ".join(" ".join(lines).split())
    for word in ("done", "running", "waiting", "given up", "total", "stale", "left", "ValueError"):
        assert word in text
    assert max(map(len, status_lines(now)[1:5])) <= 60, "the counts fit the narrowest"


def test_the_live_picture_fits_and_names_what_it_leaves_out(now: Overview, width: int) -> None:
    parts: dict[str, Any] = {"row": None, "site": None, "trainer": None, "costs": ()}
    view = View.__new__(View)
    view.started = Started(
        definition=Definition(STUDY, "", ""),
        **{
            **parts,
            "row": dataclasses.make_dataclass("Row", ["steps_per_epoch", "batch_size"])(10, 10),
        },
        n_workers=2,
        images_per_s=10.0,
    )
    view.now = now
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(view.picture(height=24, width=width))
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert_fits(lines, width)
    assert "…" not in file.getvalue()
    text = " ".join(" ".join(lines).split())
    for name in ("running", "epoch", "samples/s", "left", "max_lr", "dropout", *MANY):
        short = {"label_smoothing": "smooth", "weight_decay": "decay"}.get(name, name)
        assert name in text or short in text, name


def test_a_plan_fits(width: int) -> None:
    row: Any = dataclasses.make_dataclass("Row", ["name"])(LONG + WIDE)
    site: Any = dataclasses.make_dataclass("Site", ["device"])("cpu")
    started = Started(
        row=row,
        definition=Definition(STUDY, "", ""),
        site=site,
        trainer=None,  # type: ignore[arg-type]
        costs=costs(STUDY, n_trials=100_000, exact=False),
        n_workers=2,
        images_per_s=1e-3,
        run_s=12.0,
    )
    lines = plan_text(started, width=width).splitlines()
    assert_fits(lines, width)
    text = " ".join(" ".join(lines).split())
    for words in ("range test", "search", "confirmation", "at most", "training samples", "in all"):
        assert words in text


def test_checks_fit(width: int, shown: Shown) -> None:
    checks = [
        Check("our schema", "ok", "0010, current"),
        Check("checkpoints", "to do", f"/home/{'long' * 40}/{WIDE}: cannot be written"),
    ]
    lines = shown(lambda: print_checks(checks, json=False))
    assert_fits(lines, width)
    assert WIDE in "".join(lines)


@pytest.mark.parametrize(
    "command",
    [
        (
            "schedule",
            "--max-lr",
            "0.0123456789",
            "--epochs",
            "200",
            "--steps-per-epoch",
            "12345"[:3],
        ),
        ("schedule", "--max-lr", "0.1", "--total-steps", "3910", "--lr", "0.5"),
    ],
)
def test_a_schedule_fits(
    command: tuple[str, ...], width: int, shown: Shown, main_here: Callable[..., Ended]
) -> None:
    out: list[Ended] = []
    shown(lambda: out.append(main_here(*command)))
    lines = out[0].out.splitlines()
    assert out[0].code == 0
    assert_fits(lines, width)
    head = next(line for line in lines if "highest" in line)
    assert {"first", "highest", "last", "momentum"} <= set(head.split())


def test_columns_without_room_side_by_side_stand_below_each_other() -> None:
    columns = columns_of(["slot", *(f"parameter_{n}" for n in range(9))], [["1"] * 10], folds=0)
    blocks = blocks_of(columns, 40)
    assert len(blocks) > 1
    headings = [str(column.header) for block in blocks for column in block.columns]
    assert headings.count("slot") == len(blocks)
    assert len(headings) == len(blocks) + 9


def test_a_heading_wider_than_its_cells_is_broken_between_words_alone() -> None:
    column = Column(heading="number_of_attention_heads", cells=["16"])
    assert column.least == len("attention")


@pytest.mark.parametrize("line", ["a b " * 40, "x" * 200, f"  {WIDE * 9} {WIDE}", "", "    "])
@pytest.mark.parametrize("width", [20, 60])
def test_wrapping_keeps_every_character_but_spaces(line: str, width: int) -> None:
    parts = wrapped(line, width)
    assert all(cell_len(part) <= width for part in parts)
    assert "".join("".join(parts).split()) == "".join(line.split())


def test_rows_of_trials_that_have_not_run_fit(width: int, shown: Shown) -> None:
    empty: dict[str, Any] = dict.fromkeys(Trial.__slots__)
    row = Trial(**{**empty, "slot": 3, "epochs": 4, "state": RunState.WAITING})
    assert_fits(shown(lambda: print_trials([row], csv=False)), width)
