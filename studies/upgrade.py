"""Bringing a database that holds data to the schemas of this version: ours and Optuna's."""

from dataclasses import dataclass

from sqlalchemy import URL, Connection, Engine, event, inspect, text

from studies.columns import complete_first_tables, missing_columns
from studies.database import (
    close_optuna,
    migrate,
    open_engine,
    optuna_errors,
    optuna_storage,
    reading,
    schema_lock,
    transaction,
)
from studies.errors import DatabaseError
from studies.tables import HEAD, VERSION_TABLE
from studies.translation import translated
from studies.urls import masked_text, sqlite_file

OPTUNA_VERSION_TABLE = "alembic_version"


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The versions of one schema before and after; None: its tables were not there.

    `added` are columns that it lacked, whatever version it said.
    """

    schema: str
    before: str | None
    after: str
    added: tuple[str, ...] = ()


def upgrade(url: URL) -> tuple[Upgraded, ...]:
    """Bring our tables and Optuna's to this version, one process at a time; keep what they hold.

    Raises DatabaseError, and changes nothing, where a schema is newer than this version knows.
    """
    engine = open_engine(url)
    if sqlite_file(url) is not None:
        # A changed table is made again and the old one dropped, which would empty its children.
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=OFF"))
    try:
        with translated(url, starting=True, also=optuna_errors()), schema_lock(engine):
            ours, optunas = versions(engine)
            if ours is not None and ours > HEAD:
                raise DatabaseError(
                    f"database {masked_text(url)} has schema {ours}, this version knows {HEAD}: "
                    "upgrade onecycle-search"
                )
            after = _upgrade_optuna(url, optunas)
            with transaction(engine) as session:
                added = _upgrade_ours(session.connection(), url, ours)
        return Upgraded("onecycle", ours, HEAD, added), Upgraded("Optuna", optunas, after)
    finally:
        engine.dispose()


def _upgrade_ours(connection: Connection, url: URL, before: str | None) -> tuple[str, ...]:
    """Migrate our tables, then look whether all of it is there; raise before anything is kept.

    Returns the columns that were missing and are there now.
    """
    added = complete_first_tables(connection)
    if before != HEAD:
        migrate(connection)
    if missing := missing_columns(connection):
        raise DatabaseError(
            f"database {masked_text(url)} cannot be upgraded: it says schema {before or 'none'} "
            f"but has no {', '.join(missing)}; nothing was changed in our tables: restore a "
            "backup, or start in a new database"
        )
    return added


def versions(engine: Engine) -> tuple[str | None, str | None]:
    """Return the versions of our tables and of Optuna's in the database; None: not there."""
    with reading(engine) as session:
        connection = session.connection()
        return _version(connection, VERSION_TABLE), _version(connection, OPTUNA_VERSION_TABLE)


def optuna_versions() -> tuple[str, ...]:
    """Return the versions of tables that the installed Optuna knows, the one it makes first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage("sqlite://")  # in memory
    try:
        return tuple(storage.get_all_versions())
    finally:
        close_optuna(storage)


def _version(connection: Connection, table: str) -> str | None:
    if not inspect(connection).has_table(table):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {table}")).scalar_one_or_none()
    return None if found is None else str(found)


def _upgrade_optuna(url: URL, before: str | None) -> str:
    storage = optuna_storage(url, any_version=True)
    try:
        if before is not None and before not in storage.get_all_versions():
            raise DatabaseError(
                f"database {masked_text(url)} has Optuna's schema {before}, the installed Optuna "
                f"knows {storage.get_head_version()}: upgrade optuna"
            )
        if storage.get_current_version() != storage.get_head_version():
            storage.upgrade()
        return storage.get_current_version()
    finally:
        close_optuna(storage)
