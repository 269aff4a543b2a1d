"""Workers enter and leave; a SQLite file is worked on from one host alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import URL, Engine, select

from search.queue.roster import Roster, process_identity
from studies.database import open_engine, prepare, reading, transaction
from studies.errors import DatabaseError
from studies.tables import StudyRow, WorkerRow, WorkRow
from tests.rows import study_row

ELSEWHERE = "another-boot/pid:[1]/7/1"


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    engine = open_engine(url)
    prepare(engine)
    with transaction(engine) as session:
        session.add(study_row(id="s", beat_s=0.05))
    yield engine
    engine.dispose()


def roster(engine: Engine, name: str, process: str | None = None) -> Roster:
    with reading(engine) as session:
        study = session.get_one(StudyRow, "s")
    return Roster(engine, study, name=name, process=process, device="cpu")


def names(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return list(session.scalars(select(WorkerRow.name).order_by(WorkerRow.name)))


def row(engine: Engine, name: str) -> WorkerRow:
    with reading(engine) as session:
        return session.get_one(WorkerRow, name)


def age(engine: Engine, name: str, seconds: float) -> None:
    with transaction(engine) as session:
        then = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)
        session.get_one(WorkerRow, name).seen_at = then


def test_a_worker_is_there_from_joining_to_leaving(engine: Engine) -> None:
    first, second = roster(engine, "a:1:x"), roster(engine, "a:2:y")
    first.join()
    second.join()
    assert names(engine) == ["a:1:x", "a:2:y"]
    first.leave()
    assert names(engine) == ["a:2:y"]


def test_who_waits_says_why_and_shows_life(engine: Engine) -> None:
    worker = roster(engine, "a:1:x")
    worker.join()
    worker.wait("3 runs")
    assert row(engine, "a:1:x").waits_for == "3 runs"
    age(engine, "a:1:x", 50)
    before = row(engine, "a:1:x").seen_at
    while row(engine, "a:1:x").seen_at == before:
        worker.wait("3 runs")
    worker.wait("2 runs")
    assert row(engine, "a:1:x").waits_for == "2 runs"


def test_who_waits_learns_how_many_wait(engine: Engine) -> None:
    first, second, third = (roster(engine, f"a:{number}:x") for number in range(3))
    for each in (first, second, third):
        each.join()
    assert first.wait("3 runs") == 1
    assert second.wait("3 runs") == 2
    assert first.wait("3 runs") == 1, "not asked before the next beat"
    assert first.wait("2 runs") == 2
    age(engine, "a:1:x", 50)
    assert third.wait("2 runs") == 2, "the second has been at work since, or is gone"


def test_joining_drops_the_killed_of_this_host_and_no_one_else(engine: Engine) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    roster(engine, "a:killed", process_identity(process.pid)).join()
    roster(engine, "a:living", process_identity(os.getpid())).join()
    roster(engine, "a:unknown", None).join()
    process.kill()
    process.communicate()
    roster(engine, "a:new", None).join()
    assert names(engine) == ["a:living", "a:new", "a:unknown"]


def test_a_sqlite_file_in_use_on_another_host_is_refused(engine: Engine) -> None:
    roster(engine, "far:1:x", ELSEWHERE).join()
    worker = roster(engine, "near:1:y", process_identity())
    if engine.dialect.name != "sqlite":
        worker.join()
        assert names(engine) == ["far:1:x", "near:1:y"]
        return
    with pytest.raises(DatabaseError, match=r"in use by far:1:x .* postgresql://USER:PASSWORD@H"):
        worker.join()
    assert names(engine) == ["far:1:x"], "nothing was entered"
    age(engine, "far:1:x", 31)
    worker.join()


def test_a_worker_elsewhere_is_seen_by_the_beats_of_its_run(sqlite_url: URL) -> None:
    engine = open_engine(sqlite_url)
    prepare(engine)
    run = WorkRow(study_id="s", stage="search", round=0, epochs=4, slot=0, state="running")
    run.owner, run.beat_at = "far:1:x", datetime.now(UTC).replace(tzinfo=None)
    with transaction(engine) as session:
        session.add(study_row(id="s"))
        session.flush()
        session.add(run)
    roster(engine, "far:1:x", ELSEWHERE).join()
    age(engine, "far:1:x", 3600)
    with pytest.raises(DatabaseError, match="in use by far:1:x"):
        roster(engine, "near:1:y", process_identity()).join()
    engine.dispose()
