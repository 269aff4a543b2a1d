"""Rows that tests put into a database, or read from it, by hand."""

import uuid
from typing import Any

from sqlalchemy import URL, create_engine, text

from studies.tables import StudyRow


def study_row(**values: object) -> StudyRow:
    """Return a stored study of no particular kind; `values` replace its columns."""
    columns: dict[str, object] = {
        "id": str(uuid.uuid4()),
        "name": "some",
        "spec": "digits",
        "source": "",
        "declared": {},
        "seed": 0,
        "direction": "maximize",
        "metric": "accuracy",
        "diverged_value": 0.1,
        "batch_size": 10,
        "steps_per_epoch": 10,
        "n_trials": 4,
        "epochs": 4,
        "beat_s": 5.0,
        "grace_s": 30.0,
        "stage": "search",
        "bugs_in_a_row": 0,
    }
    return StudyRow(**{**columns, **values})


def query(url: URL, statement: str) -> list[tuple[Any, ...]]:
    """Ask the database directly; raise where there is no table yet."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]
    finally:
        engine.dispose()
