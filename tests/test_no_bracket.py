"""Studies without a bracket: skipped sweeps, a range of one's own, sweeps that say nothing."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from search.views.dashboard.cards import Cards
from studies.database import open_engine, reading
from studies.tables import StudyRow
from tests.conftest import Ended
from tests.rows import query

Main = Callable[..., Ended]

HEAD = """
import math
from dataclasses import replace

from studies.definition import RangeTest, Screening, Space
from tests.table_study import STUDY as TABLE, STEPS_PER_EPOCH, Formula, Table, sweep_loss
from trainers.table import TableTrainer
from trainers.task import OwnLoop


class Losses(Formula):
    def losses(self, lrs, *, seed):
        return {losses}


class Loop(Table):
    def __init__(self, site):
        TableTrainer.__init__(self, Losses(), batch_size=10, steps_per_epoch=STEPS_PER_EPOCH)


STUDY = replace(
    TABLE,
    name="mine",
    task=OwnLoop(factory=Loop, batch_size=10, steps_per_epoch=STEPS_PER_EPOCH),
    screening=Screening(n_trials=6, epochs=4),
    range_test={range_test},
    space={space},
)
"""
FALLS = "[2.3 - 0.1 * math.log10(lr / 1e-5) for lr in lrs]"
TURNS = "Formula.losses(self, lrs, seed=seed)"
SWEPT, SKIPPED = "RangeTest(n_sweeps=3, n_steps=60)", "RangeTest(n_sweeps=0)"


def flags_of(
    folder: Path, *, losses: str = TURNS, range_test: str = SWEPT, space: str = "Space()"
) -> tuple[str, ...]:
    """Write a study; return a command's flags."""
    file = folder / "mine.py"
    file.write_text(HEAD.format(losses=losses, range_test=range_test, space=space))
    return ("--study", str(file), "--storage", f"sqlite:///{folder}/a.db", "--workers", "1")


def stored(folder: Path) -> StudyRow:
    engine = open_engine(make_url(f"sqlite:///{folder}/a.db"))
    with reading(engine) as session:
        row = session.query(StudyRow).one()
    engine.dispose()
    return row


def max_lrs(folder: Path) -> list[float]:
    rows = query(
        make_url(f"sqlite:///{folder}/a.db"),
        "SELECT params FROM work WHERE stage = 'search' ORDER BY slot",
    )
    return [json.loads(params)["max_lr"] for (params,) in rows]


@pytest.mark.parametrize(
    ("settings", "said", "low", "high", "baseline"),
    [
        (
            {"losses": FALLS, "space": "Space(max_lr=[0.02, 2])"},
            "own range 0.02 to 2, baseline's max_lr 0.2, the middle of the study's own range",
            0.02,
            2.0,
            0.2,
        ),
        (
            {"space": "Space(max_lr=(0.2, 0.5))"},
            "own range 0.2 to 0.5, proposed max_lr 0.2, cut off at the bound of the own range",
            0.2,
            0.5,
            0.2,
        ),
        (
            {"losses": FALLS},
            "wide range 0.001 to 6.4, baseline's max_lr 0.08, the middle of a wide range",
            0.001,
            6.4,
            None,
        ),
        (
            {"losses": "[2.3 if lr < 0.01 else math.nan for lr in lrs]"},
            "wide range 0.000112 to 0.0112",
            1.12e-4,
            0.0112,
            None,
        ),
    ],
)
def test_a_study_without_a_bracket_has_an_answer_and_says_whose_its_range_is(
    tmp_path: Path,
    main_here: Main,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, str],
    said: str,
    low: float,
    high: float,
    baseline: float | None,
) -> None:
    flags = flags_of(tmp_path, **settings)
    ended = main_here("run", *flags)
    assert ended.code == 0
    assert f"range test: {said}" in ended.out
    assert ("the search goes on: wide range" in caplog.text) == ("wide" in said)
    row = stored(tmp_path)
    assert (row.bracket_low, row.bracket_high) == pytest.approx((low, high), rel=0.02)
    assert row.proposed_max_lr == pytest.approx(baseline or math.sqrt(low * high), rel=0.02)
    assert row.bracket_low is not None
    assert row.bracket_high is not None
    rates = max_lrs(tmp_path)
    assert rates[0] == row.proposed_max_lr
    assert all(row.bracket_low <= rate <= row.bracket_high for rate in rates)


def test_a_skipped_range_test_shows_no_figure_and_says_whose_the_baseline_is(
    tmp_path: Path, main_here: Main
) -> None:
    study = flags_of(tmp_path, range_test=SKIPPED, space="Space(max_lr=(0.02, 2))")
    assert main_here("run", *study).code == 0
    counts = query(make_url(study[3]), "SELECT count(*) FROM work WHERE stage = 'range_test'")
    assert counts == [(0,)]
    page = (tmp_path / "a-mine.html").read_text()
    assert "figure-range_test" not in page
    assert "Own range 0.02 to 2, baseline&#39;s max_lr 0.2" in page
    assert "the middle (geometric mean) of the study&#39;s own range of max_lr" in page
    name = ("--study", "mine", *study[2:4])
    exported = main_here("export", *name, "--format", "torch").out
    assert "1cycle at the middle (geometric mean) of the study's own range" in exported
    assert "own range" in main_here("report", *name, "--markdown").out
    engine = open_engine(make_url(study[3]))
    shown = Cards(engine).of(stored(tmp_path).id)
    engine.dispose()
    assert shown is not None
    assert "onecycle-range-test" not in shown.figures
    assert "skipped: n_sweeps=0" in shown.note
    refused = main_here("range-test", *study)
    assert refused.code == 2
    assert "--sweeps 5 with another --name" in refused.err


@pytest.mark.parametrize(
    ("losses", "range_test", "why"),
    [
        (FALLS, "RangeTest(n_sweeps=3, n_steps=60, required=True)", "raise end_lr (now 10)"),
        ("[math.nan for _ in lrs]", SWEPT, "the loss is no number before the first step"),
    ],
)
def test_a_study_ends_where_no_rate_helps_or_a_bracket_is_required(
    tmp_path: Path, main_here: Main, losses: str, range_test: str, why: str
) -> None:
    ended = main_here("run", *flags_of(tmp_path, losses=losses, range_test=range_test))
    assert ended.code == 1
    assert why in ended.err
    assert max_lrs(tmp_path) == []


def test_the_range_test_alone_says_that_a_search_goes_on(tmp_path: Path, main_here: Main) -> None:
    flags = flags_of(tmp_path, losses=FALLS)
    ended = main_here("range-test", *flags)
    assert ended.code == 1
    assert "(3 reached end_lr): raise end_lr (now 10)" in ended.err
    assert "a search goes on: wide range 0.001 to 6.4" in ended.err
    assert main_here("run", *flags).code == 0
