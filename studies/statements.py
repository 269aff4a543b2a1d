"""INSERT on top of rows that may be there, which SQLite and PostgreSQL spell in their own ways."""

from collections.abc import Sequence

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_or_keep(dialect: Dialect, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that leaves a row which is there as it is."""
    return _insert(dialect, table).on_conflict_do_nothing()


def upsert(
    dialect: Dialect, table: Table, *, key: Sequence[str], values: Sequence[str]
) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that replaces the `values` of a row with the same `key`, a unique one."""
    new = _insert(dialect, table)
    replaced = {name: new.excluded[name] for name in values}
    return new.on_conflict_do_update(index_elements=list(key), set_=replaced)


def _insert(dialect: Dialect, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)
