"""The study database: engine, transactions, first start; every error translated here."""

import os
import re
import sqlite3
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
from studies.tables import HEAD, VERSION_TABLE

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

TRANSIENT = (OperationalError, InterfaceError, TimeoutError)
_BUSY_TIMEOUT_S = 60
_LOCK_NAME = "onecycle-schema"


class DatabaseUnreachableError(DatabaseError):
    """The database does not answer, or is locked; trying again may help."""


def storage_url(flag: str | None) -> URL:
    """Return the database to use: `flag`, else ONECYCLE_STORAGE, else a SQLite file.

    Raises DatabaseError for a URL that is not SQLite (a file) or PostgreSQL.
    """
    given = flag or os.environ.get("ONECYCLE_STORAGE")
    if given is None:
        path = platformdirs.user_data_path("onecycle") / "studies.db"
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as error:
        masked = re.sub(r"//.*@", "//***@", given)
        raise DatabaseError(
            f"storage {masked!r} is no database URL; "
            "allowed: sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    in_memory = url.database in (None, "", ":memory:") or "memory" in url.query.values()
    if backend != "sqlite" or in_memory:
        raise DatabaseError(
            f"storage {url.render_as_string().replace('%3A', ':')!r} cannot hold a study; "
            "allowed: sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME"
        )
    return url


def masked_text(url: URL) -> str:
    """Return the URL as text with the password as ***."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


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
    connection.execute("PRAGMA journal_mode=WAL")
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
    """Return an engine on the database at `url`; nothing is connected yet."""
    file = sqlite_file(url)
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


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except TRANSIENT as error:
        cause = str(getattr(error, "orig", error)).strip().splitlines() or [type(error).__name__]
        raise DatabaseUnreachableError(
            f"database {masked_text(engine.url)} does not answer: {cause[0]}"
        ) from error


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """One unit of work that writes: committed at the end, rolled back on an exception."""
    with _translated(engine), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """One consistent look at the database that blocks no writer."""
    look = engine.execution_options(onecycle_reading=True)
    with _translated(engine), Session(look, expire_on_commit=False) as session, session.begin():
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
        found = session.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one()
    if found != HEAD:
        raise DatabaseError(
            f"database {masked_text(engine.url)} has schema {found}, this version needs {HEAD}: "
            "upgrade onecycle-search, or the database"
        )


def _is_prepared(engine: Engine) -> bool:
    try:
        with _translated(engine), engine.connect() as connection:
            names = set(inspect(connection).get_table_names())
    except DBAPIError as error:
        where, (cause, *_) = masked_text(engine.url), str(error.orig).strip().splitlines()
        raise DatabaseError(f"database {where} cannot be used: {cause}") from error
    return {VERSION_TABLE, "studies", "trial_heartbeats", "alembic_version"} <= names


def _create_schemas(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    close_optuna(optuna_storage(engine.url))
    config = Config()
    config.set_main_option("script_location", "studies:migrations")
    with _translated(engine), engine.begin() as connection:
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
    with _translated(engine), lock.connect() as connection:
        key = {"name": _LOCK_NAME}
        connection.execute(text("SELECT pg_advisory_lock(hashtext(:name))"), key)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtext(:name))"), key)


def optuna_storage(url: URL) -> "RDBStorage":
    """Return Optuna's storage on the same database, under the same rules of connection.

    Optuna formats the URL as a template, so braces in a password must stay percent-encoded;
    SQLAlchemy's rendering does that.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(
        url.render_as_string(hide_password=False), engine_kwargs=_engine_arguments(url)
    )
    if url.get_backend_name() == "sqlite":
        storage.engine.dispose()  # the connection that the constructor opened has no listeners
        _own_transactions(storage.engine)
    return storage


def close_optuna(storage: "RDBStorage") -> None:
    """Give back the connections of Optuna's storage, this thread's session first."""
    storage.remove_session()
    storage.engine.dispose()
