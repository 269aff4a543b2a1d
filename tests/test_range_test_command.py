"""The range test alone: `onecycle range-test` on the table study."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.conftest import TABLE_STUDY, Ended
from tests.rows import query

Main = Callable[..., Ended]
STUDY = ("--study", str(TABLE_STUDY))


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ONECYCLE_STORAGE", f"sqlite:///{tmp_path}/studies.db")
    return f"sqlite:///{tmp_path}/studies.db"


def test_it_prints_each_sweep_the_conclusion_a_chart_and_the_cost(
    storage: str, main_here: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = main_here("range-test", *STUDY, "--workers", "1")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == "range test: 2 sweeps of 60 steps, lr 1e-05 to 10"
    assert [line.split()[0] for line in lines[2:5]] == ["0", "1", "edge"]
    assert "median of n = 2 sweeps, a factor of 1.00 apart" in ended.out
    assert "drift" not in ended.out, "they agree, and no slow one was made"
    assert "lies within a factor of 4 of the proposal in 80 % of families" in ended.out
    assert "cost: 120 optimizer steps" in ended.out
    assert "training loss, smoothed, of n = 2 sweeps over the learning rate" in ended.out
    assert "\x1b" not in ended.out
    assert max(map(len, lines)) <= 100


def test_what_it_measured_is_read_again_and_the_search_goes_on_from_it(
    storage: str, main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "ledger"
    monkeypatch.setenv("TABLE_LEDGER", str(ledger))
    first = main_here("range-test", *STUDY, "--workers", "1", "--json")
    again = main_here("range-test", *STUDY, "--workers", "1", "--json")
    assert first.code == again.code == 0
    assert json.loads(first.out) == json.loads(again.out)
    trained = ledger.read_text().splitlines()
    in_study = query(make_url(storage), "SELECT stage, state, count(*) FROM work GROUP BY 1, 2")
    assert set(in_study) == {("range_test", "done", 2), ("search", "waiting", 12)}
    assert main_here("run", *STUDY, "--workers", "1").code == 0
    bracket = query(make_url(storage), "SELECT bracket_low, bracket_high, proposal FROM study")
    said = json.loads(first.out)["proposal"]
    assert bracket == [(said["low"], said["high"], said["max_lr"])]
    sweeps = "SELECT sum(token) FROM work WHERE stage = 'range_test'"
    assert query(make_url(storage), sweeps) == [(2,)], "no sweep was trained twice"
    assert len(trained) >= 2


def test_two_workers_do_its_sweeps_and_nothing_else(storage: str, onecycle: Main) -> None:
    ended = onecycle("range-test", *STUDY, "--workers", "2")
    assert ended.code == 0, ended.err
    rows = query(make_url(storage), "SELECT stage, state, count(*) FROM work GROUP BY 1, 2")
    assert set(rows) == {("range_test", "done", 2), ("search", "waiting", 12)}


def test_another_range_test_takes_a_name_and_a_search_goes_on_from_it(
    storage: str, main_here: Main
) -> None:
    refused = main_here("range-test", *STUDY, "--steps", "80")
    assert refused.code == 2
    assert refused.err.splitlines()[-1] == (
        "error: --steps 80: the range test of study 'table' has 60; another one needs a --name"
    )
    named = ("--name", "slower", "--workers", "1")
    ended = main_here("range-test", *STUDY, *named, "--steps", "80", "--sweeps", "2")
    assert ended.code == 0, ended.err
    assert "2 sweeps of 80 steps" in ended.out
    worker = main_here("worker", "--study", "slower", "--only", "range_test")
    assert worker.code == 0, worker.err
    run = main_here("run", *STUDY, *named)
    assert run.code == 0, run.err
    lengths = "SELECT sweep_steps, count(*) FROM work WHERE stage = 'range_test'"
    assert query(make_url(storage), f"{lengths} GROUP BY 1 ORDER BY 1") == [(80, 2)]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--start-lr", "20"), "start_lr must lie above 0 and below end_lr, got start_lr=20"),
        (("--steps", "10"), "n_steps must be a whole number of at least 50, got 10"),
        (("--sweeps", "0"), "n_sweeps=0 skips the range test, so the study must say"),
        (("--save", "curve.png"), "--save curve.png: must be a .html or .csv file in a folder"),
    ],
)
def test_bad_input_is_one_line_and_stores_nothing(
    storage: str, main_here: Main, flags: tuple[str, str], told: str
) -> None:
    ended = main_here("range-test", *STUDY, "--name", "other", *flags)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith("error: ")
    assert told in line
    assert not Path(storage.removeprefix("sqlite:///")).exists()


def test_every_step_and_the_page_of_curves_can_be_saved(
    storage: str, main_here: Main, tmp_path: Path
) -> None:
    points, page = tmp_path / "points.csv", tmp_path / "curve.html"
    for file in (points, page):
        ended = main_here("range-test", *STUDY, "--workers", "1", "--save", str(file))
        assert ended.code == 0, ended.err
    rows = list(csv.DictReader(points.read_text().splitlines()))
    assert [sum(row["sweep"] == name for row in rows) for name in "01"] == [60] * 2
    assert len(rows) == 120
    assert (float(rows[0]["lr"]), float(rows[59]["lr"])) == pytest.approx((1e-5, 10.0))
    assert all(row["finite"] == "True" and float(row["loss"]) > 0 for row in rows)
    assert "median of n = 2 sweeps" in page.read_text()


def test_sweeps_that_never_turn_are_shown_and_end_with_code_1(
    storage: str, main_here: Main
) -> None:
    named = ("--name", "low", "--workers", "1")
    ended = main_here("range-test", *STUDY, *named, "--end-lr", "0.01")
    assert ended.code == 1
    assert ended.out.count("reached end_lr") >= 3
    assert "raise end_lr (now 0.01)" in ended.err
