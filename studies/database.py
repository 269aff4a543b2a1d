"""The study database: where it lies, transactions, first start; every error translated here."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, inspect, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from studies.columns import missing_columns
from studies.connections import (
    BUSY_TIMEOUT_S,
    engine_arguments,
    made_engine,
    own_transactions,
    ping_after_rest,
)
from studies.errors import DatabaseError, cause_line
from studies.mounts import file_system_here, is_network
from studies.tables import HEAD, VERSION_TABLE
from studies.translation import translated
from studies.urls import POSTGRESQL_FORM, masked_text, sqlite_file

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

_LOCK_NAME = "onecycle-schema"
UPGRADE = "run `onecycle db upgrade`, with the same --storage"


def open_engine(url: URL) -> Engine:
    """Return an engine on the database at `url`; nothing is connected yet.

    Raises DatabaseError for a SQLite file in a place where it cannot be, or would be damaged.
    """
    file = sqlite_file(url)
    if file is not None:
        refuse_network(file)
    try:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                raise DatabaseError(
                    f"database {masked_text(url)} cannot be used: it is a folder; "
                    "name a file in it"
                )
    except OSError as error:
        raise DatabaseError(f"no database at {file}: {error.strerror or error}") from error
    engine = made_engine(url, **engine_arguments(url))
    own_transactions(engine)
    return engine


def refuse_network(file: Path) -> None:
    """Raise DatabaseError where `file` lies on a network file system.

    In WAL mode all users of a file must share memory (https://sqlite.org/wal.html).
    """
    file_system = file_system_here(file)
    if file_system is not None and is_network(file_system):
        raise DatabaseError(
            f"SQLite file {file} is on a network file system ({file_system}), where studies get "
            f"damaged: use a local folder, or PostgreSQL as --storage {POSTGRESQL_FORM}"
        )


@contextmanager
def looking(url: URL) -> Iterator[Engine]:
    """Give an engine for reading() that leaves no trace in the database.

    A SQLite file that nobody has open is read as immutable: opening it otherwise, even
    read-only, makes -wal and -shm files.
    """
    file = sqlite_file(url)
    options: dict[str, Any] = {"connect_args": engine_arguments(url)["connect_args"]}
    if file is not None:
        alone = not Path(f"{file}-wal").exists()
        uri = f"{file.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"
        options = {"creator": lambda: sqlite3.connect(uri, uri=True, timeout=5)}
    engine = made_engine(url, poolclass=NullPool, **options)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One unit of work that writes: committed at the end, rolled back on an exception."""
    with _session(engine) as session:
        yield session


@contextmanager
def one_statement(engine: Engine) -> Iterator[Session]:
    """One statement that writes and is its own transaction: one round trip in place of three."""
    if engine.dialect.name == "sqlite":  # transaction() takes the write lock at its beginning
        with transaction(engine) as session:
            yield session
        return
    with _session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A look at the database that blocks no writer; one consistent look on SQLite.

    PostgreSQL shows each statement what is committed as it begins, in a transaction too; so there
    is none, which saves two round trips.
    """
    options: dict[str, Any] = {"onecycle_reading": True}
    if engine.dialect.name != "sqlite":
        options["isolation_level"] = "AUTOCOMMIT"
    with _session(engine.execution_options(**options)) as session:
        yield session


@contextmanager
def _session(engine: Engine) -> Iterator[Session]:
    with (
        translated(engine.url),
        Session(engine, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


def prepare(engine: Engine) -> None:
    """Make the schemas on the first start; afterwards check that ours is the one we know.

    Any number of processes may start at once on an empty database. Raises DatabaseError for a
    database that does not answer, or holds another version of our tables, or not all of it.
    """
    if not _is_prepared(engine):
        with schema_lock(engine):
            if not _is_prepared(engine):
                _create_schemas(engine)
    with reading(engine) as session:
        found = session.execute(
            text(f"SELECT version_num FROM {VERSION_TABLE}")
        ).scalar_one_or_none()
        missing = missing_columns(session.connection())
    if found != HEAD:
        advice = UPGRADE if found is None or found < HEAD else "upgrade onecycle-search"
        raise DatabaseError(
            f"database {masked_text(engine.url)} has schema {found}, this version needs {HEAD}: "
            f"{advice}"
        )
    if missing:
        raise DatabaseError(
            f"database {masked_text(engine.url)} says schema {found} but has no "
            f"{', '.join(missing)}: {UPGRADE}"
        )


def _is_prepared(engine: Engine) -> bool:
    look = engine.execution_options(onecycle_reading=True)
    with translated(engine.url, starting=True), look.connect() as connection:
        names = set(inspect(connection).get_table_names())
    return {VERSION_TABLE, "studies", "trial_heartbeats", "alembic_version"} <= names


def _use_wal(file: Path) -> None:
    """Turn a SQLite file to write-ahead logging, once for ever; readers then block no writer.

    Tried again while others look at the file: of all statements, this one does not wait for them.
    """
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)
    until = time.monotonic() + BUSY_TIMEOUT_S
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise DatabaseError(
                        f"database {file} cannot be used: {cause_line(error)}"
                    ) from error
                time.sleep(0.02)
    finally:
        connection.close()


def _create_schemas(engine: Engine) -> None:
    file = sqlite_file(engine.url)
    if file is not None:
        _use_wal(file)
    close_optuna(optuna_storage(engine.url))
    with translated(engine.url, starting=True), engine.begin() as connection:
        migrate(connection)


def migrate(connection: Connection) -> None:
    """Bring our tables to HEAD in the transaction of `connection`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "studies:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def schema_lock(engine: Engine) -> Iterator[None]:
    """Hold the one lock under which schemas and studies are made; a killed holder frees it."""
    file = sqlite_file(engine.url)
    if file is not None:
        from filelock import FileLock

        lock_file = FileLock(f"{file}.lock")
        try:
            lock_file.acquire()
        except OSError as error:
            raise DatabaseError(
                f"database {file} cannot be used: no lock {file}.lock: "
                f"{error.strerror or error}; its folder must be writable"
            ) from error
        try:
            yield
        finally:
            lock_file.release()
        return
    lock = made_engine(
        engine.url,
        poolclass=NullPool,
        connect_args=engine_arguments(engine.url)["connect_args"],
    )
    # A transaction's lock, not a session's, which would not pass a pooler of transactions.
    with translated(engine.url), lock.begin() as connection:
        key = {"name": _LOCK_NAME}
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), key)
        yield


def optuna_storage(
    url: URL, *, any_version: bool = False, only_reads: bool = False
) -> "RDBStorage":
    """Return Optuna's storage on the same database, under the same rules of connection.

    Raises DatabaseError for tables of another version, unless `any_version` is asked for. One
    that `only_reads` takes no lock of a SQLite file, so that it blocks no writer.

    Optuna formats the URL as a template, so braces in a password must stay percent-encoded;
    SQLAlchemy's rendering does that.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Its constructor asks the database more than once, and wraps only some of what goes wrong.
    with translated(url, starting=True, also=optuna_errors()):
        storage = optuna.storages.RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs=engine_arguments(url),
            skip_compatibility_check=True,
        )
        if not any_version:
            _check_optuna_schema(storage, url)
    ping_after_rest(storage.engine)
    if url.get_backend_name() == "sqlite":
        storage.engine.dispose()  # the connection that the constructor opened has no listeners
        if not only_reads:
            own_transactions(storage.engine)
    return storage


def optuna_errors() -> tuple[type[Exception], ...]:
    """Return what Optuna's storage raises over an error of SQLAlchemy's."""
    from optuna.exceptions import StorageInternalError

    return (StorageInternalError,)


_optuna_head: list[str] = []  # kept, for Optuna reads all its migrations to say it


def _check_optuna_schema(storage: "RDBStorage", url: URL) -> None:
    if not _optuna_head:
        _optuna_head.append(storage.get_head_version())
    found, head = storage.get_current_version(), _optuna_head[0]
    if found != head:
        advice = UPGRADE if found in storage.get_all_versions() else "upgrade optuna"
        close_optuna(storage)
        raise DatabaseError(
            f"database {masked_text(url)} has Optuna's schema {found}, the installed Optuna needs "
            f"{head}: {advice}"
        )


def close_optuna(storage: "RDBStorage") -> None:
    """Give back the connections of Optuna's storage, this thread's session first."""
    storage.remove_session()
    storage.engine.dispose()
