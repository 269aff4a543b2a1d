"""Errors of a database told apart: away for a while, not to be used, damaged, or our own bug."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

from sqlalchemy import URL
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    TimeoutError,
)

from studies.errors import DatabaseError, DatabaseUnreachableError, cause_line
from studies.urls import masked_text, scrubbed, sqlite_file

# By the first two words of SQLite's result codes (https://sqlite.org/rescode.html): what another
# process, or somebody who makes room, ends.
_SQLITE_AWAY = {
    "SQLITE_BUSY": "",
    "SQLITE_FULL": "; make room on its disk",
    "SQLITE_INTERRUPT": "",
    "SQLITE_IOERR": "; look at its disk",
    "SQLITE_LOCKED": "",
    "SQLITE_NOMEM": "",
    "SQLITE_PROTOCOL": "",
}
_SQLITE_REFUSED = {
    "SQLITE_AUTH": "",
    "SQLITE_CANTOPEN": ": its folder must be there and writable, and the file no folder",
    "SQLITE_PERM": "",
    "SQLITE_READONLY": ": the file and its folder must be writable, and stay where they are",
}
_SQLITE_DAMAGED = {
    "SQLITE_CORRUPT": "stop what uses it and keep a copy of it with its -wal; then restore an "
    "older copy, or save what can be read: sqlite3 {file} .recover | sqlite3 NEW",
    "SQLITE_NOTADB": "it is another kind of file, or damaged: name another one, or restore an "
    "older copy",
}

# By PostgreSQL's codes (https://www.postgresql.org/docs/current/errcodes-appendix.html).
# 25006 is what a server answers that is no primary any more, or not yet: a failover.
_SERVER_AWAY = ("08", "25006", "40001", "40P01", "53", "55P03", "57", "58")
_SERVER_REFUSED = ("28", "3D000", "42501")
_SERVER_DAMAGED = ("XX001", "XX002")

# libpq gives no code with a connection that was refused, only the words of the server, in the
# server's language: these are in English. In another language they are waited for like an outage.
_REFUSED_FOR_GOOD = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|does not exist"
    r"|no such (database|user)|not permitted to log in|permission denied for database"
    r"|certificate verify failed|does not support SSL|SSL connection is required"
    r"|invalid (connection option|integer value|port number|sslmode)"
)


def told(error: BaseException, url: URL) -> DatabaseError | None:
    """Return what an error says of the database at `url` in one line; None where it is our bug.

    A lost connection may stand behind another error: Optuna meets a second one over it.
    """
    if isinstance(error, ValueError):
        return _damaged(error, url, "SQLITE_CORRUPT") if _is_of_a_stored_value(error) else None
    found: BaseException | None = error
    while found is not None and not isinstance(found, (DBAPIError, TimeoutError)):
        found = found.__cause__ or found.__context__
    if found is None:
        return None
    if sqlite_file(url) is not None:
        return _told_of_file(found, url)
    return _told_of_server(found, url)


def _is_of_a_stored_value(error: ValueError) -> bool:
    """Whether SQLAlchemy raised it over what it read, such as JSON or a date that is none.

    SQLite has no checksums: a flipped byte within a value is met here first.
    """
    if isinstance(error, UnicodeDecodeError):  # of sqlite3 itself, over the words of its error
        return True
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    known = [name for name in modules if name.startswith(("sqlalchemy.", "search.", "studies."))]
    return bool(known) and known[-1].startswith("sqlalchemy.")


def _told_of_file(error: BaseException, url: URL) -> DatabaseError | None:
    code = getattr(getattr(error, "orig", None), "sqlite_errorname", "")
    # A file that ends too early is met as an error of the disk, which waiting does not mend.
    cut_off = code in ("SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_CORRUPTFS")
    code = "SQLITE_CORRUPT" if cut_off else "_".join(code.split("_")[:2])
    if code in _SQLITE_DAMAGED or "decode to UTF-8" in str(error):
        return _damaged(error, url, code or "SQLITE_CORRUPT")
    if code in _SQLITE_REFUSED:
        return _refused(error, url, _SQLITE_REFUSED[code])
    if code in _SQLITE_AWAY or isinstance(error, TimeoutError):
        return _away(error, url, _SQLITE_AWAY.get(code, ""))
    return None


def _told_of_server(error: BaseException, url: URL) -> DatabaseError | None:
    code = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    if code.startswith(_SERVER_DAMAGED):
        return _damaged(error, url, code)
    if code.startswith(_SERVER_REFUSED):
        return _refused(error, url)
    if code.startswith(_SERVER_AWAY):
        return _away(error, url)
    if not code and _REFUSED_FOR_GOOD.search(str(getattr(error, "orig", error))):
        return _refused(error, url)
    if isinstance(error, (OperationalError, InterfaceError, TimeoutError)):
        return _away(error, url)
    return None


def _away(error: BaseException, url: URL, advice: str = "") -> DatabaseError:
    return DatabaseUnreachableError(
        f"database {masked_text(url)} does not answer: {scrubbed(cause_line(error), url)}{advice}"
    )


def _refused(error: BaseException, url: URL, advice: str = "") -> DatabaseError:
    return DatabaseError(
        f"database {masked_text(url)} cannot be used: {scrubbed(cause_line(error), url)}{advice}"
    )


def _damaged(error: BaseException, url: URL, code: str) -> DatabaseError:
    return DatabaseError(damaged_text(url, scrubbed(cause_line(error), url), code))


def damaged_text(url: URL, cause: str, code: str = "SQLITE_CORRUPT") -> str:
    """Say that a database is damaged, and the way on."""
    file = shlex.quote(str(sqlite_file(url)))
    advice = _SQLITE_DAMAGED.get(code, "restore a backup").format(file=file)
    return f"database {masked_text(url)} cannot be used: {cause}; {advice}"


@contextmanager
def translated(
    url: URL, *, starting: bool = False, also: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Raise DatabaseError for what is wrong with the database, one that waits where it is away.

    `also` are errors that hold one of SQLAlchemy's, such as those of Optuna's storage. While
    `starting`, what a driver refuses is the database's too: our own statements were never tried.
    """
    foreign: tuple[type[Exception], ...] = (SQLAlchemyError, ValueError, *also)
    try:
        yield
    except foreign as error:
        said = told(error, url)
        if said is None and starting and isinstance(error, (DBAPIError, *also)):
            said = _refused(error, url)
        if said is None:
            raise
        raise said from error
