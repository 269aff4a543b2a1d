"""What the shell completes: names of studies, bundled and stored, read without heavy imports."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import platformdirs
import typer

_BUNDLED = ("digits", "cifar-small", "cifar")
_WAIT_S = 0.2
_MOST = 500


def complete_definitions(incomplete: str) -> list[str]:
    """Return bundled studies and study files here that begin so; for a path the shell knows."""
    files = list[str]()
    with suppress(OSError):
        files = sorted(path.name for path in Path().glob("*.py"))
    return [name for name in (*_BUNDLED, *files) if name.startswith(incomplete)]


def complete_stored(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return stored studies whose names begin so; nothing where the database is not a file."""
    return [name for name in _stored(ctx.params.get("storage")) if name.startswith(incomplete)]


def _stored(storage: object) -> list[str]:
    """Return the names in a SQLite file, which is not changed; none for any other database.

    An error would be shown in the middle of what somebody types, so that there is none.
    """
    file = _file(storage if isinstance(storage, str) else os.environ.get("ONECYCLE_STORAGE"))
    with suppress(sqlite3.Error, OSError, ValueError):
        if file is None or not file.is_file():
            return []
        uri = f"{file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_S)) as database:
            rows = database.execute("SELECT name FROM study ORDER BY name LIMIT ?", (_MOST,))
            return [name for (name,) in rows if isinstance(name, str) and name.isprintable()]
    return []


def _file(url: str | None) -> Path | None:
    if not url:
        return platformdirs.user_data_path("onecycle") / "studies.db"
    scheme, slashes, path = url.partition(":///")
    if not slashes or not scheme.startswith("sqlite"):
        return None
    return Path(path.partition("?")[0]).expanduser()
