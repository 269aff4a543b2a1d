"""Limits of every field: one line, exit code 2, nothing stored, on SQLite and PostgreSQL."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from studies.definition import Confirmation, RangeTest, Screening
from tests.conftest import TABLE_STUDY, Ended, plain
from tests.rows import query
from tests.table_study import STUDY
from trainers.task import OwnLoop

Main = Callable[..., Ended]
STORED = "SELECT name FROM study"
FLAGS = [
    (["--trials", "3000000000"], ["trials", "at most 1,000,000", "got 3000000000"]),
    (["--trials", "+3000000000"], ["trials", "at most 1,000,000", "got +3000000000"]),
    (["--trials", "9" * 5000], ["trials", "at most 1,000,000"]),
    (["--trials", "0"], ["trials", "at least 1", "got 0"]),
    (["--seed", "-1"], ["seed", "between 0", "got -1"]),
    (["--seed", str(2**32)], ["seed", f"{2**32 - 1}"]),
    (["--name", "a/b"], ["name", "'a/b'"]),
    (["--name", "n" * 201], ["name", "at most 200"]),
    (["--name", "a\x1bb"], ["name", "plain text"]),
]
RUN_FLAGS = [
    (["--timeout-min", "nan"], ["timeout-min", "got nan"]),
    (["--timeout-min", "inf"], ["timeout-min", "at most", "got inf"]),
    (["--timeout-min", "1e308"], ["timeout-min", "at most", "got 1e+308"]),
    (["--budget", "1e400h"], ["--budget 1e400h", "allowed"]),
    (["--budget", "0h"], ["--budget 0h", "allowed"]),
    (["--budget", "-2h"], ["--budget -2h", "allowed"]),
    (["--budget", "nanh"], ["--budget nanh", "allowed"]),
    (["--budget", "9" * 38 + "h"], ["--budget", "more than 1,000,000"]),
    (["--budget", "9" * 400 + "h"], ["--budget", "at most 40"]),
    (["--budget", "0" * 40 + "1h"], ["--budget", "at most 40"]),
    (["--workers", "0"], ["workers", "at least 1", "got 0"]),
    (["--workers", "100000"], ["workers", "at most 1000", "got 100000"]),
]


def assert_refused(ended: Ended, words: list[str]) -> None:
    assert (ended.code, ended.out) == (2, ""), ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert len(ended.err) < 400
    for word in words:
        assert word in ended.err


@pytest.mark.parametrize(("flags", "words"), FLAGS + RUN_FLAGS, ids=lambda v: " ".join(v)[:24])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry"])
def test_run_refuses_a_value_that_nothing_could_hold(
    flags: list[str], words: list[str], dry: list[str], main_here: Main, tmp_path: Path
) -> None:
    database = tmp_path / "a.db"
    run = ("run", "--study", str(TABLE_STUDY), "--storage", f"sqlite:///{database}")
    ended = main_here(*run, *dry, *flags)
    assert_refused(ended, words)
    if database.exists():
        assert query(URL.create("sqlite", database=str(database)), STORED) == []


@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_dry_run_refuses_a_url_that_can_never_work(command: str, main_here: Main) -> None:
    flags = ("--study", str(TABLE_STUDY), "--storage", "postgresql:/u:pw@h/x", "--dry-run")
    ended = main_here(command, *flags)
    assert_refused(ended, ["storage", "allowed: sqlite:///FILE"])
    assert "pw" not in ended.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        *FLAGS,
        (["--workers", "100000"], ["workers", "at most 1000"]),
        (["--partition", "a\nb"], ["--partition", "one word"]),
    ],
    ids=lambda v: " ".join(v)[:24],
)
def test_submit_refuses_it_as_well_when_it_only_prints_its_script(
    flags: list[str], words: list[str], main_here: Main
) -> None:
    assert_refused(main_here("submit", "--study", "digits", "--dry-run", *flags), words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sweeps", "3000000000"], ["n_sweeps", "got 3000000000"]),
        (["--steps", "3000000000"], ["n_steps", "got 3000000000"]),
        (["--end-lr", "inf"], ["end_lr", "inf"]),
        (["--start-lr", "nan"], ["start_lr", "nan"]),
        (["--workers", "100000"], ["workers", "at most 1000"]),
        (["--timeout-min", "inf"], ["timeout-min", "got inf"]),
        (["--seed", "-1"], ["seed", "got -1"]),
    ],
    ids=lambda v: " ".join(v)[:24],
)
def test_a_range_test_refuses_it_as_well(
    flags: list[str], words: list[str], main_here: Main, tmp_path: Path
) -> None:
    storage = ("--storage", f"sqlite:///{tmp_path}/a.db")
    command = ("range-test", "--study", str(TABLE_STUDY), "--name", "other", *storage)
    assert_refused(main_here(*command, *flags), words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "m" * 41}, "metric .* 40 characters"),
        ({"metric": ""}, "metric"),
        ({"metric": "a\nb"}, "metric"),
        (
            {"diverged_value": float("nan")},
            "diverged_value must be a number of at most 1e.100, got nan",
        ),
        ({"diverged_value": 10**400}, "diverged_value must be a number of .*, got a number of"),
        ({"diverged_value": True}, "diverged_value"),
        ({"screening": Screening(n_trials=2**31, epochs=4)}, "n_trials .* got 2147483648"),
        ({"screening": Screening(n_trials=10**4000, epochs=4)}, "n_trials .* bits"),
        ({"screening": Screening(n_trials=4, epochs=2**31)}, "epochs"),
        ({"screening": Screening(n_trials=4, epochs=2**29)}, "epochs"),
        ({"range_test": RangeTest(n_sweeps=2**31)}, "n_sweeps"),
        ({"range_test": RangeTest(n_steps=2**31)}, "n_steps"),
        ({"confirmation": Confirmation(n_seeds=2**31)}, "n_seeds"),
        ({"confirmation": Confirmation(n_finalists=2**31)}, "n_finalists"),
        ({"confirmation": Confirmation(n_finalists=1000, n_seeds=1000)}, "n_seeds"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_study_refuses_what_a_column_could_not_hold(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        dataclasses.replace(STUDY, **changes)  # type: ignore[arg-type]
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("field", ["batch_size", "steps_per_epoch"])
def test_a_task_of_too_many_steps_or_too_great_batches_is_refused(field: str) -> None:
    sizes = {"batch_size": 10, "steps_per_epoch": 10, field: 2**31}
    task = OwnLoop(factory=STUDY.task.factory, **sizes)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(STUDY, task=task)


def test_the_greatest_values_are_stored_in_both_databases(url: URL, main_here: Main) -> None:
    """A name of 200 characters of four bytes, whose page's name is cut, runs to its end."""
    name = "\U0001f600" * 200
    budget = "0" * 30 + "150epochs"
    run = ("run", "--study", str(TABLE_STUDY), "--storage", plain(url), "--name", name)
    ended = main_here(*run, "--budget", budget, "--seed", str(2**32 - 1), "--workers", "1")
    assert ended.code == 0, ended.err
    assert query(url, "SELECT name, budget, seed FROM study") == [(name, budget, 2**32 - 1)]
    assert main_here("report", "--study", name, "--storage", plain(url)).code == 0
    assert main_here("status", "--study", "\udcff", "--storage", plain(url)).code == 2
