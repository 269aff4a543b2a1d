"""The study database: first starts, schema, transactions, passwords."""

import multiprocessing
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import optuna
import pytest
from sqlalchemy import URL, Engine, inspect, make_url, select, text, update
from sqlalchemy.exc import OperationalError

from studies.clock import database_now, now
from studies.database import (
    close_optuna,
    open_engine,
    optuna_storage,
    prepare,
    reading,
    transaction,
)
from studies.errors import DatabaseError, DatabaseUnreachableError
from studies.tables import HEAD, VERSION_TABLE, Base, StudyRow
from studies.urls import masked_text, storage_url
from tests.conftest import plain
from tests.postgres import PASSWORD, PostgresServer
from tests.rows import study_row

pytestmark = pytest.mark.first_start


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    engine = open_engine(url)
    prepare(engine)
    yield engine
    engine.dispose()


def test_migrations_make_exactly_the_tables_of_the_orm(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    ours = set(Base.metadata.tables)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": VERSION_TABLE,
                "include_object": lambda item, name, kind, *rest: kind != "table" or name in ours,
            },
        )
        assert compare_metadata(context, Base.metadata) == []


def test_head_is_the_last_migration() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "studies:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_optuna_and_we_keep_separate_version_tables(engine: Engine) -> None:
    names = set(inspect(engine).get_table_names())
    assert {"alembic_version", VERSION_TABLE, "studies", "study", "work"} <= names
    storage = optuna_storage(engine.url)
    assert storage.get_current_version() == storage.get_head_version()
    close_optuna(storage)


def test_a_second_start_changes_nothing(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(study_row())
    prepare(engine)
    with reading(engine) as session:
        assert session.query(StudyRow).count() == 1


def _add_a_study(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(study_row())


def _first_start(
    url: str, started: "multiprocessing.synchronize.Barrier", failed: list[str]
) -> None:
    try:
        engine = open_engine(make_url(url))
        started.wait()
        prepare(engine)
        engine.dispose()
    except BaseException as error:
        failed.append(repr(error))


def test_sixteen_processes_start_at_once_on_an_empty_database(url: URL) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(16)
    with context.Manager() as manager:
        failed = manager.list()
        text_url = url.render_as_string(hide_password=False)
        processes = [
            context.Process(target=_first_start, args=(text_url, barrier, failed))
            for _ in range(16)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert list(failed) == []
        assert [process.exitcode for process in processes] == [0] * 16


def test_a_database_of_another_version_is_refused(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match=f"schema 9999, this version needs {HEAD}"):
        prepare(engine)


def test_a_transaction_that_raises_writes_nothing(engine: Engine) -> None:
    def write_and_break() -> None:
        with transaction(engine) as session:
            session.add(study_row())
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_break()
    with reading(engine) as session:
        assert session.query(StudyRow).count() == 0


def test_moments_within_a_second_are_told_apart(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(study_row())
    written = list[datetime]()
    for _ in range(3):
        with transaction(engine) as session:
            session.execute(update(StudyRow).values(finished_at=now()))
        with reading(engine) as session:
            at = session.scalars(select(StudyRow.finished_at)).one()
            assert at is not None
            assert at <= database_now(session)
            written.append(at)
        time.sleep(0.02)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(written)]
    assert all(gap >= 0.01 for gap in gaps), written
    assert (datetime.now(UTC).replace(tzinfo=None) - written[0]).total_seconds() < 600


def test_sqlite_runs_in_wal_mode(sqlite_url: URL) -> None:
    engine = open_engine(sqlite_url)
    prepare(engine)
    engine.dispose()
    assert sqlite_url.database is not None
    with sqlite3.connect(sqlite_url.database) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_reader_does_not_wait_for_a_writer(engine: Engine) -> None:
    with transaction(engine) as writer:
        writer.add(study_row())
        writer.flush()
        with reading(engine) as reader:
            assert reader.query(StudyRow).count() == 0


def test_two_sqlite_writers_take_turns(sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(sqlite_url)
    prepare(engine)
    monkeypatch.setattr("studies.connections.BUSY_TIMEOUT_S", 0.05)
    impatient = open_engine(sqlite_url)
    with transaction(engine) as session:
        session.execute(text("SELECT 1"))  # a read: the turn is taken before anything is written
        with pytest.raises(DatabaseUnreachableError, match="locked"):
            _add_a_study(impatient)
    _add_a_study(impatient)
    engine.dispose()
    impatient.dispose()


def test_the_default_is_a_file_in_the_users_data_folder() -> None:
    url = storage_url(None)
    assert url.get_backend_name() == "sqlite"
    assert str(url.database).startswith(os.environ["XDG_DATA_HOME"])
    assert str(url.database).endswith("onecycle/studies.db")


def test_the_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONECYCLE_STORAGE", "sqlite:////tmp/from-environment.db")
    assert storage_url("sqlite:////tmp/from-flag.db").database == "/tmp/from-flag.db"
    assert storage_url(None).database == "/tmp/from-environment.db"


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true", "mysql://h/x"],
)
def test_what_cannot_hold_a_study_is_refused_by_name(url: str) -> None:
    with pytest.raises(DatabaseError, match="cannot hold a study; allowed: sqlite:///FILE"):
        storage_url(url)


def test_a_file_that_is_no_database_is_one_line(sqlite_url: URL) -> None:
    assert sqlite_url.database is not None
    Path(sqlite_url.database).write_bytes(b"not a database at all" * 100)
    engine = open_engine(sqlite_url)
    with pytest.raises(DatabaseError, match=r"used: file is not a database; it is another"):
        prepare(engine)
    engine.dispose()


def test_a_password_with_braces_percent_and_at_sign_works_and_is_never_shown(
    postgres_server: PostgresServer,
) -> None:
    written = plain(postgres_server.url)
    url = storage_url(written)
    assert url.password == PASSWORD
    assert PASSWORD not in masked_text(url)
    storage = optuna_storage(url)
    assert optuna.get_all_study_names(storage) == []
    close_optuna(storage)


def test_an_unreachable_server_is_one_masked_line(postgres_server: PostgresServer) -> None:
    engine = open_engine(postgres_server.url.set(port=1))
    with pytest.raises(DatabaseUnreachableError) as caught:
        prepare(engine)
    message = str(caught.value)
    assert "\n" not in message
    assert "does not answer" in message
    assert PASSWORD not in message
    assert ":***@127.0.0.1:1/" in message


def test_a_statement_that_is_refused_is_not_an_outage(sqlite_url: URL) -> None:
    engine = open_engine(sqlite_url)
    prepare(engine)
    with pytest.raises(OperationalError, match="no such column"):
        _ask_nonsense(engine)
    engine.dispose()


def _ask_nonsense(engine: Engine) -> None:
    with reading(engine) as session:
        session.execute(text("SELECT missing_column FROM study"))
