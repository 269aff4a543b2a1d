"""The database's own clock: all that hosts compare was written by it, in UTC."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement


class _Now(FunctionElement[datetime]):
    """What now() returns."""

    type = DateTime()
    inherit_cache = True


@compiles(_Now)
def _current_timestamp(element: _Now, compiler: Any, **options: Any) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(_Now, "sqlite")
def _with_milliseconds(element: _Now, compiler: Any, **options: Any) -> str:
    # Six digits, as SQLAlchemy writes a datetime: columns are compared as texts.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def now() -> FunctionElement[datetime]:
    """Return SQL's CURRENT_TIMESTAMP, with its part of a second on SQLite, too.

    SQLite's own has whole seconds, in which several short runs end.
    """
    return _Now()


def database_now(session: Session) -> datetime:
    """Return the database's clock as its DateTime columns hold it: UTC, without a zone."""
    moment = session.execute(select(now())).scalar_one()
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
