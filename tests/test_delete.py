"""Deleting a study that is worked on: asked for twice, and its workers end in words."""

import os
import subprocess
from collections.abc import Callable

import optuna
import pytest
from sqlalchemy import URL

from search.history.optuna_study import History
from search.queue.presence import at_work
from search.queue.roster import process_identity
from search.starting import catalog
from studies.database import close_optuna, open_engine, optuna_storage, prepare, transaction
from studies.errors import StudyDeletedError
from studies.tables import WorkerRow, WorkRow
from tests.conftest import SQLITE_SLOWLY, TABLE_STUDY, Ended, plain
from tests.rows import query, study_row
from tests.waits import wait_for

Start = Callable[..., "subprocess.Popen[str]"]
RUNNING = "SELECT count(*) FROM work WHERE state = 'running'"


def wait_for_runs(url: URL, n: int, *workers: "subprocess.Popen[str]") -> None:
    def are_running() -> bool:
        assert all(worker.poll() is None for worker in workers)
        return int(str(query(url, RUNNING)[0][0])) >= n

    wait_for(are_running)


@SQLITE_SLOWLY
@pytest.mark.parametrize("n_workers", [pytest.param(1, marks=pytest.mark.long), 3])
@pytest.mark.slow
def test_who_works_on_a_study_is_named_and_ends_in_words_when_it_is_deleted(
    url: URL, n_workers: int, start_onecycle: Start, onecycle: Callable[..., Ended]
) -> None:
    storage = ("--storage", plain(url))
    run = ("run", "--study", str(TABLE_STUDY), *storage, "--trials", "60", "--device", "cpu")
    searching = start_onecycle(*run, "--workers", str(n_workers), TABLE_SLEEP_S="0.02")
    wait_for_runs(url, n_workers, searching)
    delete = ("delete", "--study", "table", *storage, "--yes")
    refused = onecycle(*delete)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    (owner,) = query(url, "SELECT min(owner) FROM work WHERE state = 'running'")[0]
    for word in ("'table'", "--force", str(owner).partition(":")[0]):
        assert word in refused.err
    assert query(url, "SELECT name FROM study") == [("table",)]

    assert onecycle(*delete, "--force").code == 0
    out, err = searching.communicate(timeout=300)
    assert searching.returncode == 2, err
    assert "study 'table' was deleted" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert out == ""
    for table in ("study", "work", "worker", "studies", "trials"):
        assert query(url, f"SELECT * FROM {table}") == []


def test_a_study_whose_workers_are_silent_is_deleted_without_force(
    sqlite_url: URL, onecycle: Callable[..., Ended]
) -> None:
    engine = open_engine(sqlite_url)
    prepare(engine)
    old = "2020-01-01 00:00:00"
    with transaction(engine) as session:
        session.add(study_row(id="s", name="quiet"))
        session.flush()
        session.add(WorkerRow(name="far:1:x", study_id="s", process=None, device="cpu"))
        session.add(
            WorkRow(study_id="s", stage="search", round=0, epochs=4, slot=0, state="running")
        )
    with transaction(engine) as session:
        session.connection().exec_driver_sql(f"UPDATE worker SET seen_at = '{old}'")
        session.connection().exec_driver_sql(
            f"UPDATE work SET owner = 'far:1:x', beat_at = '{old}'"
        )
    engine.dispose()
    ended = onecycle("delete", "--study", "quiet", "--storage", plain(sqlite_url), "--yes")
    assert ended.code == 0, ended.err
    assert query(sqlite_url, "SELECT * FROM study") == []


def test_a_deletion_that_was_killed_midway_is_finished_by_the_next(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(url)
    prepare(engine)
    with transaction(engine) as session:
        session.add(study_row(name="half"))

    def killed(history: History) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(History, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            catalog.delete(engine, "half")
    assert catalog.find(engine, "half").stage == "failed"
    catalog.delete(engine, "half")
    assert catalog.stored(engine, "half") is None
    engine.dispose()


def test_an_optuna_study_deleted_by_something_else_is_said_with_a_way_on(sqlite_url: URL) -> None:
    prepare(engine := open_engine(sqlite_url))
    engine.dispose()
    storage = optuna_storage(sqlite_url)
    history = History(storage, name="ours", study_id="s")
    history.create("maximize")
    assert history.importances() == {}
    optuna.delete_study(study_name="ours", storage=storage)
    with pytest.raises(StudyDeletedError, match=r"'ours' was deleted .*onecycle delete"):
        history.tell(0, 0.5, {})
    close_optuna(storage)


def test_a_worker_row_is_no_reason_once_its_process_is_gone(sqlite_url: URL) -> None:
    dead = subprocess.Popen(["sleep", "0"])
    dead.wait()
    engine = open_engine(sqlite_url)
    prepare(engine)
    here = process_identity()
    row = study_row(id="s")
    with transaction(engine) as session:
        session.add(row)
        session.flush()
        session.add(WorkerRow(name="here:1:x", study_id="s", process=here, device="cpu"))
        gone = here and here.replace(f"/{os.getpid()}/", f"/{dead.pid}/")
        session.add(WorkerRow(name="here:2:x", study_id="s", process=gone, device="cpu"))
    assert at_work(engine, row) == ["here:1:x"]
    engine.dispose()
