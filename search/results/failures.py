"""What attempts of a study failed with: each distinct failure once, with its traceback."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from search.queue.rows import stored_study
from search.results.provenance import storage_flag
from search.starting.catalog import find
from search.text import shell_line
from search.tracebacks import in_short, place_of
from studies.database import reading
from studies.states import FailureKind, Stage
from studies.tables import StudyRow, WorkRow


@dataclass(kw_only=True, slots=True)
class DistinctFailure:
    """Attempts that failed at the same line, with the same type of exception.

    `stage` and `slot` are of the first run, `traceback` is its; what a run failed with before its
    last attempt, or before it finished, is not kept.
    """

    kind: FailureKind | None
    stage: Stage
    slot: int
    n_runs: int
    n_attempts: int
    traceback: str

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain JSON values."""
        return asdict(self)


def distinct_failures(engine: Engine, name: str) -> list[DistinctFailure]:
    """Return what runs of a stored study last failed with, in the order of their stages.

    Raises UnknownStudyError where no study of that name is stored.
    """
    row = find(engine, name)
    with reading(engine) as session:
        return distinct(session, stored_study(session, row))


def distinct(session: Session, row: StudyRow) -> list[DistinctFailure]:
    """Return the same in an open session."""
    failed = session.scalars(
        select(WorkRow)
        .where(WorkRow.study_id == row.id, WorkRow.traceback.is_not(None))
        .order_by(WorkRow.id)
    )
    seen: dict[tuple[object, ...], DistinctFailure] = {}
    for work in failed:
        text = work.traceback or ""
        first = seen.setdefault(
            (work.failure, *place_of(text)),
            DistinctFailure(
                kind=work.failure,
                stage=work.stage,
                slot=work.slot,
                n_runs=0,
                n_attempts=0,
                traceback=text,
            ),
        )
        first.n_runs += 1
        # A failure of the place is recorded and not counted.
        first.n_attempts += max(1, work.failures)
    return list(seen.values())


def first_failure(session: Session, row: StudyRow) -> str | None:
    """Return the first failure of a study in short, and where all are shown; None without one.

    Of a study that failed it also says how it is started again.
    """
    all_of_them = distinct(session, row)
    if not all_of_them:
        return None
    first, *others = all_of_them
    more = f", and {len(others)} more that differ" if others else ""
    storage = storage_flag(session.connection().engine.url)
    status = shell_line("onecycle", "status", "--study", row.name, *storage, "--errors")
    lines = [
        f"{first.stage.words} {first.slot} failed with:",
        in_short(first.traceback),
        f"the whole traceback{more}: {status}",
    ]
    if row.stage == Stage.FAILED:
        lines.append("once it is mended: the same `run`, with --fresh to start the study again")
    return "\n".join(lines)
