"""The study database: engine, transactions, first start; every error translated here."""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    TimeoutError,
)
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from studies.errors import DatabaseError
from studies.mounts import file_system_here, is_network
from studies.tables import HEAD, VERSION_TABLE

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

TRANSIENT = (OperationalError, InterfaceError, TimeoutError)
_BUSY_TIMEOUT_S = 60
_LOCK_NAME = "onecycle-schema"
UPGRADE = "run `onecycle db upgrade`, with the same --storage"
POSTGRESQL_FORM = "postgresql://USER:PASSWORD@HOST/NAME"


class DatabaseUnreachableError(DatabaseError):
    """The database does not answer, or is locked; trying again may help."""


def default_url() -> URL:
    """Return the database that is used where none is named: a SQLite file of the user's."""
    path = platformdirs.user_data_path("onecycle") / "studies.db"
    return URL.create("sqlite", database=str(path))


def storage_url(flag: str | None) -> URL:
    """Return the database to use: `flag`, else ONECYCLE_STORAGE, else a SQLite file.

    Raises DatabaseError for a URL that is not SQLite (a file) or PostgreSQL.
    """
    given = flag or os.environ.get("ONECYCLE_STORAGE")
    if given is None:
        return default_url()
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as error:
        masked = re.sub(r"//.*@", "//***@", given)
        raise DatabaseError(
            f"storage {masked!r} is no database URL; allowed: sqlite:///FILE, {POSTGRESQL_FORM}"
        ) from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    in_memory = url.database in (None, "", ":memory:") or "memory" in url.query.values()
    if backend != "sqlite" or in_memory:
        raise DatabaseError(
            f"storage {url.render_as_string().replace('%3A', ':')!r} cannot hold a study; "
            f"allowed: sqlite:///FILE, {POSTGRESQL_FORM}"
        )
    return url


def masked_text(url: URL) -> str:
    """Return the URL as text with the password as ***."""
    if "password" in url.query:
        url = url.update_query_dict({"password": "***"})
    masked = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)
    return masked.replace("password=%2A%2A%2A", "password=***")


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL, None for a server."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _engine_arguments(url: URL) -> dict[str, Any]:
    """Return what our engine and Optuna's have in common."""
    if url.get_backend_name() == "sqlite":
        return {"pool_size": 2, "connect_args": {"timeout": _BUSY_TIMEOUT_S}}
    return {
        "pool_size": 2,
        "pool_pre_ping": True,
        "pool_recycle": 1800,
        "connect_args": {
            "connect_timeout": 5,
            "keepalives": 1,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "options": "-c timezone=UTC",
        },
    }


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("onecycle_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _own_transactions(engine: Engine) -> None:
    """Make every writing transaction of a SQLite engine take the write lock when it begins.

    Without it two processes read the same free row before either writes.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)


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
        engine = create_engine(url, **_engine_arguments(url))
    except OSError as error:
        raise DatabaseError(f"no database at {file}: {error.strerror or error}") from error
    except ModuleNotFoundError as error:
        raise DatabaseError(
            f"storage {masked_text(url)!r} needs {error.name}; "
            "pip install 'onecycle-search[postgres]'"
        ) from error
    _own_transactions(engine)
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
    options: dict[str, Any] = {"connect_args": _engine_arguments(url)["connect_args"]}
    if file is not None:
        alone = not Path(f"{file}-wal").exists()
        uri = f"{file.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"
        options = {"creator": lambda: sqlite3.connect(uri, uri=True, timeout=5)}
    try:
        engine = create_engine(url, poolclass=NullPool, **options)
    except ModuleNotFoundError as error:
        raise DatabaseError(
            f"{masked_text(url)} needs {error.name}: pip install 'onecycle-search[postgres]'"
        ) from error
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _translated(url: URL) -> Iterator[None]:
    try:
        yield
    except TRANSIENT as error:
        if getattr(getattr(error, "orig", None), "sqlite_errorname", "") == "SQLITE_ERROR":
            raise  # a statement that SQLite refuses, not a database that is away
        cause = str(getattr(error, "orig", error)).strip().splitlines() or [type(error).__name__]
        raise DatabaseUnreachableError(
            f"database {masked_text(url)} does not answer: {cause[0]}"
        ) from error


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One unit of work that writes: committed at the end, rolled back on an exception."""
    with (
        _translated(engine.url),
        Session(engine, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """One consistent look at the database that blocks no writer."""
    look = engine.execution_options(onecycle_reading=True)
    with (
        _translated(engine.url),
        Session(look, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


def prepare(engine: Engine) -> None:
    """Make the schemas on the first start; afterwards check that ours is the one we know.

    Any number of processes may start at once on an empty database. Raises DatabaseError for a
    database that does not answer, or holds another version of our tables.
    """
    if not _is_prepared(engine):
        with schema_lock(engine):
            if not _is_prepared(engine):
                _create_schemas(engine)
    with reading(engine) as session:
        found = session.execute(
            text(f"SELECT version_num FROM {VERSION_TABLE}")
        ).scalar_one_or_none()
    if found != HEAD:
        advice = UPGRADE if found is None or found < HEAD else "upgrade onecycle-search"
        raise DatabaseError(
            f"database {masked_text(engine.url)} has schema {found}, this version needs {HEAD}: "
            f"{advice}"
        )


def _is_prepared(engine: Engine) -> bool:
    try:
        look = engine.execution_options(onecycle_reading=True)
        with _translated(engine.url), look.connect() as connection:
            names = set(inspect(connection).get_table_names())
    except DBAPIError as error:
        where, (cause, *_) = masked_text(engine.url), str(error.orig).strip().splitlines()
        raise DatabaseError(f"database {where} cannot be used: {cause}") from error
    return {VERSION_TABLE, "studies", "trial_heartbeats", "alembic_version"} <= names


def _use_wal(file: Path) -> None:
    """Turn a SQLite file to write-ahead logging, once for ever; readers then block no writer.

    Tried again while others look at the file: of all statements, this one does not wait for them.
    """
    connection = sqlite3.connect(file, timeout=_BUSY_TIMEOUT_S)
    until = time.monotonic() + _BUSY_TIMEOUT_S
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise DatabaseError(f"database {file} cannot be used: {error}") from error
                time.sleep(0.02)
    finally:
        connection.close()


def _create_schemas(engine: Engine) -> None:
    file = sqlite_file(engine.url)
    if file is not None:
        _use_wal(file)
    close_optuna(optuna_storage(engine.url))
    with _translated(engine.url), engine.begin() as connection:
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

        with FileLock(f"{file}.lock"):
            yield
        return
    lock = create_engine(
        engine.url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=_engine_arguments(engine.url)["connect_args"],
    )
    with _translated(engine.url), lock.connect() as connection:
        key = {"name": _LOCK_NAME}
        connection.execute(text("SELECT pg_advisory_lock(hashtext(:name))"), key)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtext(:name))"), key)


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
    with _translated(url):
        storage = optuna.storages.RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs=_engine_arguments(url),
            skip_compatibility_check=True,
        )
        if not any_version:
            _check_optuna_schema(storage, url)
    if url.get_backend_name() == "sqlite":
        storage.engine.dispose()  # the connection that the constructor opened has no listeners
        if not only_reads:
            _own_transactions(storage.engine)
    return storage


def _check_optuna_schema(storage: "RDBStorage", url: URL) -> None:
    found, head = storage.get_current_version(), storage.get_head_version()
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
