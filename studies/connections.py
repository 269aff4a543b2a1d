"""Connections to a study database, ours and Optuna's: how they are made and kept."""

import sqlite3
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, InvalidatePoolError

from studies.errors import DatabaseError
from studies.urls import masked_text

if TYPE_CHECKING:
    import psycopg

# A first start makes all tables under the write lock, which took seconds on slow disks.
BUSY_TIMEOUT_S = 60
# Beats come every 5 s: a connection that is in use is not asked each time whether it still lives,
# which was a fifth of all that was sent to the server.
_RESTED_S = 10.0


def engine_arguments(url: URL) -> dict[str, Any]:
    """Return what our engine and Optuna's have in common."""
    if url.get_backend_name() == "sqlite":
        return {"pool_size": 2, "connect_args": {"timeout": BUSY_TIMEOUT_S}}
    return {
        "pool_size": 2,
        "pool_use_lifo": True,  # one connection in use and one that rests, not both half used
        "pool_recycle": 1800,
        "connect_args": {
            "connect_timeout": 5,
            "keepalives": 1,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            **_unprepared(url),
        },
    }


def _unprepared(url: URL) -> dict[str, None]:
    """Return what keeps psycopg from preparing statements, where the URL asks for that.

    A prepared statement is its connection's, and a pooler that lends connections for a transaction
    (PgBouncer before 1.21) knows nothing of it. Prepared ones save a quarter of the server's time.
    """
    asked = url.query.get("prepare_threshold")
    if asked not in (None, "none"):
        raise DatabaseError(
            f"storage {masked_text(url)!r}: prepare_threshold may be none, got {asked!r}"
        )
    return {} if asked is None else {"prepare_threshold": None}


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_utc(connection: "psycopg.Connection", record: object) -> None:
    """Let now() be UTC, which our columns hold.

    Not by a startup parameter, which PgBouncer refuses; what a SET changes it follows.
    """
    connection.autocommit = True
    connection.execute("SET timezone TO 'UTC'")
    connection.autocommit = False


def ping_after_rest(engine: Engine) -> None:
    """Let a connection that was not used for a while answer once before it is used again.

    A server that was restarted meanwhile is then met by a new connection, not by an error.
    """
    if engine.dialect.name == "sqlite":
        return
    error = engine.dialect.loaded_dbapi.Error

    def rests(connection: object, record: Any) -> None:
        record.info["onecycle_rests_since"] = time.monotonic()

    def ping(connection: Any, record: Any, fairy: object) -> None:
        since = record.info.get("onecycle_rests_since")
        if since is None or time.monotonic() - since < _RESTED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except error as gone:
            # All connections of before are gone with it; SQLAlchemy then makes a new one.
            raise InvalidatePoolError from gone

    event.listen(engine, "checkin", rests)
    event.listen(engine, "checkout", ping)


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("onecycle_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def own_transactions(engine: Engine) -> None:
    """Make every writing transaction of a SQLite engine take the write lock when it begins.

    Without it two processes read the same free row before either writes.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)


def made_engine(url: URL, **arguments: Any) -> Engine:
    """Return an engine whose connections are in UTC and answer after a rest.

    Raises DatabaseError where its driver is not installed, or refuses its options.
    """
    try:
        engine = create_engine(url, **arguments)
        if engine.dialect.name == "postgresql":
            event.listen(engine, "connect", _use_utc)
        ping_after_rest(engine)
        return engine
    except ImportError as error:  # psycopg raises it where it has no libpq either
        raise DatabaseError(
            f"storage {masked_text(url)!r} needs {error.name or 'psycopg'}: "
            "pip install 'onecycle-search[postgres]'"
        ) from error
    except (ArgumentError, TypeError, ValueError):
        # Not chained: the words of these may quote the URL.
        raise DatabaseError(
            f"storage {masked_text(url)!r} has options that its driver does not take"
        ) from None
