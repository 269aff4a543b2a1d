"""Which database is used, and how its URL is shown: never with a password in it."""

import os
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import platformdirs
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from studies.errors import DatabaseError

POSTGRESQL_FORM = "postgresql://USER:PASSWORD@HOST/NAME"
ALLOWED = f"allowed: sqlite:///FILE, {POSTGRESQL_FORM}"
HIDDEN = "***"

# libpq knows both names of its scheme; hosted databases often hand out the shorter one.
_POSTGRESQL = ("postgresql", "postgres")

# Schemes that are shown of text that does not parse: another word before a colon may be secret.
_SCHEMES = ("sqlite", *_POSTGRESQL, "mysql", "mariadb", "oracle", "mssql", "http", "https")

# Options of a connection that are shown. Any other one, also a mistyped "passwrod", is not.
_SHOWN_OPTIONS = frozenset(
    (
        *("application_name", "connect_timeout", "host", "hostaddr", "port", "service"),
        *("sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs", "user"),
        *("cache", "mode", "uri"),
    )
)
_PLAIN_NAME = re.compile(r"[\w.-]*")
_PLAIN_OPTION = re.compile(r"[\w./:,~-]*")
_PLAIN_PATH = re.compile(r"(~|\.{0,2}/|[\w.-]+\.(db|sqlite3?)$)[\w./ -]*")


def default_url() -> URL:
    """Return the database that is used where none is named: a SQLite file of the user's."""
    path = platformdirs.user_data_path("onecycle") / "studies.db"
    return URL.create("sqlite", database=str(path))


def storage_url(flag: str | None) -> URL:
    """Return the database to use: `flag`, else ONECYCLE_STORAGE, else a SQLite file.

    Raises DatabaseError for a URL that is not SQLite (a file) or PostgreSQL. What does not parse,
    or reads as if a password had slipped into another part, is not shown at all.
    """
    source = "ONECYCLE_STORAGE" if flag is None else "--storage"
    given = os.environ.get("ONECYCLE_STORAGE") if flag is None else flag
    if given is None:
        return default_url()
    given = given.strip()  # a secret that was read from a file ends with a line break
    if not given:
        # Not the default file: a worker of a cluster would search alone, where nobody looks.
        raise DatabaseError(f"{source} is empty: leave it out, or name a database; {ALLOWED}")
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        # Not chained: SQLAlchemy's and int()'s own words may quote the password.
        raise DatabaseError(f"storage {_hint(given)} is no database URL; {ALLOWED}") from None
    backend = url.get_backend_name()
    if backend in _POSTGRESQL:
        return _checked_server(given, url.set(drivername="postgresql+psycopg"))
    in_memory = url.database in (None, "", ":memory:") or "memory" in url.query.values()
    if backend != "sqlite" or (in_memory and not url.host):
        raise DatabaseError(f"storage {_shown(given, url)} cannot hold a study; {ALLOWED}")
    return _checked_file(given, url)


def _checked_server(given: str, url: URL) -> URL:
    """Return the URL of a server; refuse one with a part that may be a piece of a password."""
    host = re.fullmatch(r"[\w.,-]*|[0-9A-Fa-f:.]*", url.host or "")
    name = re.fullmatch("[^@:=/]*", url.database or "")
    user = re.fullmatch("[^:;=,/?#]*", url.username or "")
    n_users = 0 if url.username is None else 1
    is_port = 0 < (url.port or 5432) < 2**16
    if given.count("@") != n_users or not (host and name and user and is_port):
        raise DatabaseError(
            f"storage {_hint(given)} does not read as {POSTGRESQL_FORM}: in a password write "
            "@ as %40, : as %3A, / as %2F and ? as %3F; a socket's folder goes in ?host="
        )
    return url


def _checked_file(given: str, url: URL) -> URL:
    """Return the URL of a SQLite file, ~ replaced; refuse what would become another file."""
    path = url.database or ""
    if url.host or url.username or url.password or url.port:
        raise DatabaseError(
            f"storage {_hint(given)} has a host, which SQLite has not; {ALLOWED} (three slashes, "
            "four before an absolute path)"
        )
    rest = given.partition("://")[2]
    if "://" in rest or re.search(":.*@", rest):
        raise DatabaseError(
            f"storage {_hint(given)} reads like a URL with a password, and a file's may not have "
            f"a : before an @; {ALLOWED}"
        )
    if "?" in given:
        raise DatabaseError(
            f"storage {masked_text(url)!r}: a SQLite file takes no options after a ?; a file with "
            "a ? in its name must be renamed"
        )
    if os.name != "nt" and re.match(r"[A-Za-z]:[\\/]", path):
        raise DatabaseError(
            f"storage {masked_text(url)!r} is a path of Windows; here: sqlite:////folder/FILE"
        )
    return url.set(database=str(Path(path).expanduser())) if path.startswith("~") else url


def _hint(given: str) -> str:
    """Return what may be shown of text that is no URL: a plain path, else its scheme alone."""
    if _PLAIN_PATH.fullmatch(given):
        return f"{given!r} (a file is sqlite:///{given})"
    scheme = re.match(r"[a-z]+", given.lower())
    if scheme and scheme[0] in _SCHEMES:
        return f"{scheme[0]}:{HIDDEN} (the rest is not shown: it may hold a password)"
    return f"{HIDDEN} (not shown: it may hold a password)"


def _shown(given: str, url: URL) -> str:
    return _hint(given) if given.count("@") > 1 else repr(masked_text(url).replace("%3A", ":"))


def scrubbed(text: str, url: URL) -> str:
    """Return text of others, such as a driver's error or a traceback, without what is secret.

    Shorter secrets than three characters stay: without them the text could not be read.
    """
    secrets = [url.password or ""]
    for name, value in url.query.items():
        if not _is_shown(name, value):
            secrets += [value] if isinstance(value, str) else value
    for secret in sorted(secrets, key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]):
            text = text.replace(form, HIDDEN) if len(secret) >= 3 else text
    return text


def masked_text(url: URL) -> str:
    """Return the URL as text, SQLAlchemy's own, with the password as ***.

    A part that is not a plain name is *** as well: a password with a mistyped mark before it
    (u;pw@host) lands there.
    """
    masked = url.set(drivername=url.get_backend_name())
    if url.username is not None and not _PLAIN_NAME.fullmatch(url.username):
        masked = masked.set(username=HIDDEN)
    if url.get_backend_name() != "sqlite":
        if not re.fullmatch(r"[\w.,:-]*", url.host or ""):
            masked = masked.set(host=HIDDEN)
        if not re.fullmatch(r"[\w. -]*", url.database or ""):
            masked = masked.set(database=HIDDEN)
    for name, value in url.query.items():
        if not _is_shown(name, value):
            masked = masked.difference_update_query((name,))
            shown = name if _PLAIN_NAME.fullmatch(name) and name.islower() else HIDDEN
            masked = masked.update_query_dict({shown: HIDDEN})
    text = masked.render_as_string(hide_password=True)
    return text.replace("%2A%2A%2A", HIDDEN)


def _is_shown(name: str, value: str | tuple[str, ...]) -> bool:
    values = (value,) if isinstance(value, str) else value
    return name in _SHOWN_OPTIONS and all(map(_PLAIN_OPTION.fullmatch, values))


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL, None for a server."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
