"""The page of a finished study."""

from pathlib import Path

import platformdirs
from sqlalchemy import URL, Engine

from search.result import StudyResult
from studies.database import sqlite_file


def default_path(url: URL, name: str) -> Path:
    """Return where a study's page goes: beside a SQLite file, else the user's data folder."""
    file = sqlite_file(url)
    folder = file.parent if file is not None else platformdirs.user_data_path("onecycle")
    return folder / f"{name}.html"


def write_report(engine: Engine, result: StudyResult, path: Path) -> None:
    """Write the page of a finished study to `path`."""
    path.write_text("", encoding="utf-8")
