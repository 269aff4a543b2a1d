"""Rows of work, looked at and released by whoever asks; their owners write through a Queue."""

from sqlalchemy import ColumnElement, CursorResult, Engine, and_, select, update
from sqlalchemy.orm import Session

from search.roster import forget_worker
from search.space import Params
from studies.database import transaction
from studies.tables import WorkRow


def running_rows(session: Session, study_id: str) -> list[WorkRow]:
    """Return the runs that a worker holds."""
    return list(
        session.scalars(
            select(WorkRow)
            .where(WorkRow.study_id == study_id, WorkRow.state == "running")
            .order_by(WorkRow.id)
        )
    )


def done_rows(session: Session, study_id: str, stage: str) -> list[WorkRow]:
    """Return the finished runs of a stage by slot."""
    return list(
        session.scalars(
            select(WorkRow)
            .where(WorkRow.study_id == study_id, WorkRow.stage == stage, WorkRow.state == "done")
            .order_by(WorkRow.slot)
        )
    )


def params_of(row: WorkRow) -> Params | None:
    """Return the configuration of a row, None for a sweep or a slot not yet asked for."""
    if row.max_lr is None or row.pct_start is None or row.div_factor is None:
        return None
    return Params(row.max_lr, row.pct_start, row.div_factor)


def unmoved(row: WorkRow) -> ColumnElement[bool]:
    """Return the condition that a running row is as it was seen: same owner, no beat since."""
    return and_(
        WorkRow.id == row.id,
        WorkRow.state == "running",
        WorkRow.token == row.token,
        WorkRow.beat == row.beat,
    )


def release(engine: Engine, row: WorkRow) -> bool:
    """Let any worker take this run, unless its owner has moved since it was looked at."""
    with transaction(engine) as session:
        changed = session.execute(
            update(WorkRow).where(unmoved(row)).values(state="waiting", owner=None, process=None)
        )
        assert isinstance(changed, CursorResult)
        if changed.rowcount == 1:
            forget_worker(session, row.owner)
        return changed.rowcount == 1
