"""A database that version 0006 wrote: upgraded, then read with the values that it holds."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection

from search.queue.rows import params_of
from search.starting.catalog import find
from studies.database import close_optuna, open_engine, optuna_storage, reading
from studies.errors import ProtocolError
from studies.protocol import compare, declared
from studies.registry import load
from studies.tables import HEAD, StudyRow, WorkRow
from tests.conftest import TABLE_STUDY, Ended, plain
from tests.rows import query

pytestmark = pytest.mark.first_start

Main = Callable[..., Ended]

SEARCH = [(0.08, 0.3, 25.0, 0.90), (0.2, 0.4, 10.0, 0.95), (0.3, 0.1, 3.0, 0.1)]
"""max_lr, pct_start, div_factor and score at the full length; the last one broke."""
TUNED = [(5e-4, 64), (1e-3, 128), (2e-3, 128)]
VALIDATION = {0: (0.90, 0.91, 0.89), 1: (0.95, 0.96, 0.97)}
TEST = {0: (0.88, 0.89, 0.90), 1: (0.94, 0.95, 0.93)}
SWEEP_STEPS = 60
RANGE_TEST = {
    "range_test": "RangeTest",
    "range_test.n_sweeps": "1",
    "range_test.n_steps": str(SWEEP_STEPS),
    "range_test.start_lr": "1e-05",
    "range_test.end_lr": "10.0",
}


@dataclass(frozen=True)
class Old:
    """The tables as version 0006 knows them, in a database without rows."""

    connection: Connection
    tables: sa.MetaData

    def insert(self, table: str, **values: Any) -> int:
        """Put a row into a table; return its key, where that is a number."""
        made = self.connection.execute(self.tables.tables[table].insert().values(**values))
        key = made.inserted_primary_key
        return int(key[0]) if key is not None and str(key[0]).isdigit() else 0

    def study(self, name: str, **values: Any) -> str:
        columns: dict[str, Any] = {
            "id": name,
            "name": name,
            "spec": "digits",
            "source": "",
            "declared": {"torch": "2.99", "screening.share": "0.5", "readings": "None"}
            | RANGE_TEST,
            "seed": 7,
            "direction": "maximize",
            "metric": "accuracy",
            "diverged_value": 0.1,
            "batch_size": 64,
            "steps_per_epoch": 14,
            "n_trials": len(SEARCH),
            "beat_s": 5.0,
            "grace_s": 30.0,
            "stage": "finished",
            "bugs_in_a_row": 0,
            "edge": 1.1,
            "bracket_low": 0.02,
            "bracket_high": 0.32,
            "proposal": 0.08,
            "result": None,
            "lengths": [4],
            "batch_sizes": None,
        }
        self.insert("study", **{**columns, **values})
        return name

    def work(self, study: str, stage: str, length: int, slot: int, **values: Any) -> int:
        columns: dict[str, Any] = {
            "study_id": study,
            "stage": stage,
            "round": 0,
            "length": length,
            "slot": slot,
            "state": "done",
            "token": 1,
            "attempts": 1,
            "failures": 0,
            "beat": 0,
            "told": stage == "search",
            "outcome": "completed",
            "n_steps": 10 * length,
            "n_images": 640 * length,
            "seconds": 1.5,
            "device": "OldChip",
        }
        return self.insert("work", **{**columns, **values})

    def sweeps(self, study: str, *batch_sizes: int | None) -> None:
        """Put a sweep and a slow one of each batch size; the last loss is not finite."""
        slot = 0
        for size in batch_sizes:
            for n_steps in (SWEEP_STEPS, 2 * SWEEP_STEPS):
                key = self.work(study, "range_test", n_steps, slot, batch_size=size)
                slot += 1
                rates = [1e-5 * 1e6 ** (step / (n_steps - 1)) for step in range(n_steps)]
                for step, lr in enumerate(rates):
                    finite = step < n_steps - 1
                    loss = sweep_loss(lr) if finite else None
                    self.insert("point", work_id=key, step=step, lr=lr, loss=loss, finite=finite)

    def search(self, study: str, length: int, *, tuned: bool = False, n: int = 3) -> None:
        for slot, (max_lr, pct_start, div_factor, score) in enumerate(SEARCH[:n]):
            key = self.work(
                study,
                "search",
                length,
                slot,
                trial_number=slot,
                score=score if length == 4 else score - 0.3,
                outcome="diverged" if score == 0.1 else "completed",
                max_lr=max_lr,
                pct_start=pct_start,
                div_factor=div_factor,
                weight_decay=TUNED[slot][0] if tuned else None,
                batch_size=TUNED[slot][1] if tuned else None,
            )
            self.insert("reading", work_id=key, step=5, loss=0.5, accuracy=0.8, seconds=0.1)
            for epoch in range(1, length + 1):
                self.epoch(key, epoch)

    def epoch(self, work_id: int, epoch: int) -> None:
        said = {"lr_first": 0.1, "lr_last": 0.2, "train_loss": 2 / epoch, "train_accuracy": 0.5}
        said |= {"validation_loss": 3 / epoch, "validation_accuracy": 0.1 * epoch}
        self.insert("epoch", work_id=work_id, epoch=epoch, **said, seconds=1.0, images_per_s=640.0)

    def confirmation(self, study: str, *, this_round: int = 0, tuned: bool = False) -> None:
        for index, (slot, scores) in enumerate(VALIDATION.items()):
            max_lr, pct_start, div_factor, _ = SEARCH[slot]
            for seed, score in enumerate(scores):
                self.work(
                    study,
                    "confirmation",
                    4,
                    3 * index + seed,
                    round=this_round,
                    candidate=slot,
                    replicate=seed,
                    score=score,
                    sealed_score=TEST[slot][seed],
                    max_lr=max_lr,
                    pct_start=pct_start,
                    div_factor=div_factor,
                    weight_decay=TUNED[slot][0] if tuned else None,
                    batch_size=TUNED[slot][1] if tuned else None,
                )


def sweep_loss(lr: float) -> float:
    x = math.log10(lr)
    return 2.3 - 1.8 / (1 + 10 ** (-2 * (x + 2))) + 10 ** (2 * x)


def result(**changes: Any) -> dict[str, Any]:
    """Return an answer as version 0006 wrote it."""
    said: dict[str, Any] = {
        "winner": 1,
        "comparisons": [
            {"difference": {"mean": 0.05, "low": 0.02, "high": 0.08, "n": 3}, "detectable": 0.03}
        ],
        "test": {str(slot): list(scores) for slot, scores in TEST.items()},
        "compared": True,
        "search_noise": {"deviation": 0.004, "freedom": 1, "source": "neighbours"},
        "schedules": {"0": [[0, 0.003], [39, 3e-7]], "1": [[0, 0.02], [39, 8e-7]]},
        "versions": {"Python": "3.99", "torch": "2.99.1", "optuna": "5.9"},
        "importances": {"max_lr": 0.7, "pct_start": 0.2, "div_factor": 0.1},
    }
    return {**said, **changes}


def fill(old: Old) -> None:
    """Put in what the product left behind in a few months."""
    old.study("plain", result=result())
    old.sweeps("plain", None)
    old.search("plain", 4)
    old.confirmation("plain")

    sizes = {
        "64": {"steps_per_epoch": 14, "edge": 1.1, "proposal": 0.08},
        "128": {"steps_per_epoch": 7, "edge": 1.4, "proposal": 0.12},
    }
    old.study("tuned", batch_sizes=sizes, result=result())
    old.sweeps("tuned", 64, 128)
    old.search("tuned", 4, tuned=True)
    old.confirmation("tuned", tuned=True)

    first = result(winner=0, comparisons=[], compared=False)
    old.study("lengths", lengths=[2, 4], result=first)
    old.sweeps("lengths", None)
    old.search("lengths", 2)
    old.search("lengths", 4, n=2)
    old.confirmation("lengths")

    compared = result()["comparisons"]
    old.study("extended", result=result(comparisons=compared * 2))
    old.sweeps("extended", None)
    old.search("extended", 4)
    old.confirmation("extended")
    old.confirmation("extended", this_round=1)

    old.study("broken", stage="failed", result={"reason": "each sweep was given up"})
    nothing = {"edge": None, "bracket_low": None, "bracket_high": None, "proposal": None}
    old.study("begun", stage="search", result=sa.null())
    old.work(
        "begun", "search", 4, 0, state="waiting", outcome=None, token=3, attempts=3, score=None
    )
    old.study("new", stage="range_test", **nothing)


def make_old(url: URL, put: Callable[[Old], object]) -> None:
    """Make the tables as version 0006 did, and put rows into them."""
    close_optuna(optuna_storage(url))
    engine = open_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "studies:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        tables = sa.MetaData()
        tables.reflect(connection)
        put(Old(connection, tables))
    engine.dispose()


@pytest.fixture
def upgraded(url: URL, main_here: Main) -> URL:
    """A database of version 0006 with studies in it, brought to this version."""
    make_old(url, fill)
    refused = main_here("report", "--study", "plain", "--storage", plain(url))
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"has schema 0006, this version needs {HEAD}: run `onecycle db upgrade`" in refused.err
    ended = main_here("db", "upgrade", "--storage", plain(url))
    assert ended.code == 0, ended.err
    assert f"onecycle schema: from 0006 to {HEAD}\n" in ended.out
    return url


def answer(main_here: Main, url: URL, name: str) -> dict[str, Any]:
    ended = main_here("report", "--study", name, "--storage", plain(url), "--json")
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def trials(main_here: Main, url: URL, name: str) -> list[dict[str, str]]:
    ended = main_here("trials", "--study", name, "--storage", plain(url), "--csv")
    assert ended.code == 0, ended.err
    return list(csv.DictReader(io.StringIO(ended.out)))


def test_a_finished_study_is_reported_with_the_values_that_it_had(
    upgraded: URL, main_here: Main
) -> None:
    said = answer(main_here, upgraded, "plain")
    assert (said["winner"], said["epochs"], said["batch_size"]) == (1, 4, 64)
    winner = next(each for each in said["candidates"] if each["slot"] == 1)
    assert winner["params"] == {"max_lr": 0.2, "pct_start": 0.4, "div_factor": 10.0}
    assert tuple(winner["scores"]) == VALIDATION[1]
    assert tuple(winner["test"]) == TEST[1]
    assert said["comparison"]["difference"]["mean"] == 0.05
    assert said["importances"] is None, "of three configurations"
    assert said["search_noise"] == result()["search_noise"]
    assert said["schedules"]["1"] == [[0, 0.02], [39, 8e-7]]
    assert said["provenance"]["versions"] == result()["versions"]
    assert (said["n_trials"], said["n_diverged"], said["n_comparisons"]) == (3, 1, 1)
    swept = said["range_test"]
    frozen = {"edge": 1.1, "low": 0.02, "high": 0.32, "max_lr": 0.08}
    assert {name: swept[name] for name in frozen} == pytest.approx(frozen)
    assert said["range_tests"] == {}
    assert [(s["stage"], s["n_runs"]) for s in said["spent"]] == [
        ("range_test", 2),
        ("search", 3),
        ("confirmation", 6),
    ]


def test_the_epochs_of_an_old_study_are_its_curves(upgraded: URL, main_here: Main) -> None:
    storage = ("--storage", plain(upgraded))
    ended = main_here("trials", "--study", "tuned", *storage, "--curves")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert {row["by"] for row in rows} == {"epoch"}, "no steps were kept"
    second = [row for row in rows if row["slot"] == "1"]
    assert [(int(r["epoch"]), int(r["step"]), float(r["train_loss"])) for r in second] == [
        (n, 7 * n, pytest.approx(2 / n)) for n in range(1, 5)
    ], "of 7 steps at its batch size"
    assert [float(r["score"]) for r in second] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_searched_batch_sizes_and_weight_decays_are_parameters_by_name(
    upgraded: URL, main_here: Main
) -> None:
    said = answer(main_here, upgraded, "tuned")
    winner = next(each for each in said["candidates"] if each["slot"] == 1)
    assert winner["params"] == {
        "max_lr": 0.2,
        "pct_start": 0.4,
        "div_factor": 10.0,
        "weight_decay": 1e-3,
        "batch_size": 128,
    }
    assert (said["batch_size"], said["steps_per_epoch"]) == (128, 7)
    assert {size: swept["max_lr"] for size, swept in said["range_tests"].items()} == {
        "64": 0.08,
        "128": pytest.approx(0.12),
    }
    rows = trials(main_here, upgraded, "tuned")
    assert [(float(row["weight_decay"]), int(row["batch_size"])) for row in rows] == TUNED
    sweeps = query(
        upgraded,
        "SELECT epochs, sweep_steps, params FROM work WHERE stage = 'range_test' "
        "AND study_id = 'tuned' ORDER BY slot",
    )
    assert [(epochs, steps) for epochs, steps, _ in sweeps] == [(None, 60), (None, 120)] * 2
    held = [json.loads(p) if isinstance(p, str) else p for *_, p in sweeps]
    assert held == [{"batch_size": size} for size in (64, 64, 128, 128)]


def test_of_several_lengths_the_full_one_is_read_and_the_shorter_cycles_are_kept(
    upgraded: URL, main_here: Main
) -> None:
    said = answer(main_here, upgraded, "lengths")
    assert (said["epochs"], said["n_trials"], said["winner"]) == (4, 2, 0)
    assert (said["comparison"], said["n_comparisons"]) == (None, 0)
    assert [c["search_score"] for c in said["candidates"]] == [SEARCH[0][3], SEARCH[1][3]]
    rows = trials(main_here, upgraded, "lengths")
    assert [(row["slot"], row["epochs"], float(row["score"])) for row in rows] == [
        ("0", "4", SEARCH[0][3]),
        ("1", "4", SEARCH[1][3]),
    ]
    kept = query(
        upgraded,
        "SELECT epochs, count(*) FROM work WHERE stage = 'search' "
        "AND study_id = 'lengths' GROUP BY epochs ORDER BY epochs",
    )
    assert kept == [(2, 3), (4, 2)]
    assert sum(s["n_runs"] for s in said["spent"] if s["stage"] == "search") == 5, "all are paid"


def test_an_extended_study_keeps_its_rounds_and_comparisons(
    upgraded: URL, main_here: Main
) -> None:
    said = answer(main_here, upgraded, "extended")
    assert said["n_comparisons"] == 2
    assert next(s["n_runs"] for s in said["spent"] if s["stage"] == "confirmation") == 12
    assert all(len(c["scores"]) == 3 for c in said["candidates"]), "of the last round alone"


def test_a_study_without_an_answer_still_says_why(upgraded: URL, main_here: Main) -> None:
    storage = ("--storage", plain(upgraded))
    report = main_here("report", "--study", "broken", *storage)
    assert report.code == 1
    assert "ended without a result: each sweep was given up" in report.err
    status = json.loads(main_here("status", "--study", "broken", *storage, "--json").out)
    assert (status["stage"], status["reason"]) == ("failed", "each sweep was given up")


@pytest.mark.parametrize(
    ("name", "stage", "searched"),
    [("plain", "finished", 3), ("lengths", "finished", 5), ("begun", "search", 0)],
)
def test_every_study_has_a_status(
    upgraded: URL, main_here: Main, name: str, stage: str, searched: int
) -> None:
    ended = main_here("status", "--study", name, "--storage", plain(upgraded), "--json")
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert (said["stage"], said["proposal"]) == (stage, 0.08)
    assert next(s["done"] for s in said["stages"] if s["stage"] == "search") == searched
    if name == "plain":
        best = {"max_lr": 0.2, "pct_start": 0.4, "div_factor": 10.0}
        assert (said["best"]["slot"], said["best"]["params"]) == (1, best)


def test_what_has_not_asked_yet_has_no_parameters(upgraded: URL, main_here: Main) -> None:
    engine = open_engine(upgraded)
    with reading(engine) as session:
        begun = session.scalars(sa.select(WorkRow).where(WorkRow.study_id == "begun")).one()
        swept = session.scalars(
            sa.select(WorkRow).where(WorkRow.study_id == "plain", WorkRow.params.is_(None))
        ).all()
        assert session.get_one(StudyRow, "new").ending is None
        assert session.get_one(StudyRow, "begun").ending is None
        assert session.get_one(StudyRow, "begun").exact, "all its configurations are trained"
        assert session.get_one(StudyRow, "begun").search_end is None
        assert (begun.params, params_of(begun), begun.length) == (None, None, 4)
        assert begun.had_owner
    engine.dispose()
    assert [row.stage for row in swept] == ["range_test"] * 2, "NULL, not JSON's null"
    (row,) = trials(main_here, upgraded, "begun")
    assert (row["slot"], row["state"], row["score"], row["epochs"]) == ("0", "waiting", "", "4")


DEFINITION = load(str(TABLE_STUDY))
OLD_FIELDS = {"screening.share": "0.5", "readings": "None"}


@pytest.mark.parametrize(
    ("stored", "refused"),
    [
        ({}, None),
        (OLD_FIELDS, None),
        ({**OLD_FIELDS, "readings": "Readings(times=10)"}, "readings"),
        ({**OLD_FIELDS, "screening.epochs": "(2, 4)"}, "screening.epochs"),
    ],
    ids=["now", "old", "with readings", "of two lengths"],
)
def test_a_definition_of_before_matches_unless_it_asked_for_what_is_gone(
    sqlite_url: URL, main_here: Main, stored: dict[str, str], refused: str | None
) -> None:
    now = declared(DEFINITION.study, DEFINITION.source)
    fields = {**now, **stored}
    make_old(sqlite_url, lambda old: old.study("table", stage="search", declared=fields))
    assert main_here("db", "upgrade", "--storage", plain(sqlite_url)).code == 0
    engine = open_engine(sqlite_url)
    found = find(engine, "table").declared
    engine.dispose()
    if refused is None:
        assert found == now
        compare("table", found, now)
        return
    with pytest.raises(ProtocolError, match=refused):
        compare("table", found, now)
