"""What our tables really hold, whatever version they say: columns that are missing, and repaired.

The first migration was changed twice after it had landed, so a database that says 0001 may lack
what a later one would have made. No migration is changed any more (a test holds their checksums).
"""

from sqlalchemy import Connection, inspect, text

from studies.tables import Base

# Columns that 0001 got later, and what the studies from before meant: the score was the accuracy,
# and no failures were counted.
_ADDED_TO_0001 = {
    "metric": "VARCHAR(40) DEFAULT 'accuracy' NOT NULL",
    "bugs_in_a_row": "INTEGER DEFAULT 0 NOT NULL",
}


def complete_first_tables(connection: Connection) -> tuple[str, ...]:
    """Add to a database of the first 0001 what it lacks, and return that as TABLE.COLUMN."""
    if not inspect(connection).has_table("study"):
        return ()
    there = {column["name"] for column in inspect(connection).get_columns("study")}
    missing = [name for name in _ADDED_TO_0001 if name not in there]
    for name in missing:
        connection.execute(text(f"ALTER TABLE study ADD COLUMN {name} {_ADDED_TO_0001[name]}"))
    return tuple(f"study.{name}" for name in missing)


def missing_columns(connection: Connection) -> tuple[str, ...]:
    """Return TABLE.COLUMN of what this version needs and the database lacks."""
    tables = Base.metadata.tables
    found = inspect(connection).get_multi_columns(filter_names=list(tables))
    there = {name: {column["name"] for column in of} for (_, name), of in found.items()}
    return tuple(
        f"{name}.{column}"
        for name, table in tables.items()
        for column in table.columns.keys()  # noqa: SIM118 (a collection of columns, not a dict)
        if column not in there.get(name, ())
    )
