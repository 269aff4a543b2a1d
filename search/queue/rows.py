"""Rows of work, looked at and released by whoever asks; their owners write through a Queue."""

import logging

from sqlalchemy import ColumnElement, Engine, and_, func, select
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.roster import forget_worker
from studies.database import reading, transaction
from studies.tables import WorkRow

log = logging.getLogger(__name__)

MAX_DEATHS = 7
"""A run whose owners died this often without a new epoch in between is given up: it may be what
kills them (a crash in native code, the system out of memory)."""
SUSPICIOUS_DEATHS = 3
"""From so many on, the study's other runs come first: they may not kill."""


def running_rows(session: Session, study_id: str) -> list[WorkRow]:
    """Return the runs that a worker holds."""
    return list(
        session.scalars(
            select(WorkRow)
            .where(WorkRow.study_id == study_id, WorkRow.state == "running")
            .order_by(WorkRow.id)
        )
    )


def has_waiting(session: Session, study_id: str) -> bool:
    """Return whether a run of the study waits for a worker."""
    waiting = select(WorkRow.id).where(WorkRow.study_id == study_id, WorkRow.state == "waiting")
    return session.scalar(waiting.limit(1)) is not None


def done_rows(session: Session, study_id: str, stage: str) -> list[WorkRow]:
    """Return the finished runs of a stage by round, length and slot."""
    return list(
        session.scalars(
            select(WorkRow)
            .where(WorkRow.study_id == study_id, WorkRow.stage == stage, WorkRow.state == "done")
            .order_by(WorkRow.round, WorkRow.length, WorkRow.slot)
        )
    )


def count_ended(engine: Engine, study_id: str) -> int:
    """Return how many runs of the study are finished or given up."""
    with reading(engine) as session:
        ended = WorkRow.state.in_(("done", "failed"))
        return session.scalars(
            select(func.count()).where(WorkRow.study_id == study_id, ended)
        ).one()


def params_of(row: WorkRow) -> Params | None:
    """Return the configuration of a row, None for a sweep or a slot not yet asked for."""
    if row.max_lr is None or row.pct_start is None or row.div_factor is None:
        return None
    return Params(row.max_lr, row.pct_start, row.div_factor, row.weight_decay, row.batch_size)


def unmoved(row: WorkRow) -> ColumnElement[bool]:
    """Return the condition that a running row is as it was seen: same owner, no beat since."""
    return and_(
        WorkRow.id == row.id,
        WorkRow.state == "running",
        WorkRow.token == row.token,
        WorkRow.beat == row.beat,
    )


def release(engine: Engine, row: WorkRow) -> bool:
    """Let any worker take the run of an owner that died, unless that has moved since it was seen.

    The death is counted until the run gets further; at MAX_DEATHS the run is given up.
    """
    with transaction(engine) as session:
        held = session.scalars(select(WorkRow).where(unmoved(row)).with_for_update()).first()
        if held is None:
            return False
        forget_worker(session, held.owner)
        held.deaths += 1
        held.state = "waiting"
        if held.deaths >= MAX_DEATHS:
            held.state, held.failure = "failed", "died"
            held.traceback = (
                f"the process that trained it died {held.deaths} times, the last in {held.owner}: "
                "killed from outside, out of memory, or a crash in native code"
            )
            log.error("%s %d given up: %s", held.stage, held.slot, held.traceback)
        held.owner = held.process = None
        return True
