"""Rows of work, looked at and released by whoever asks, and what a run reports as rows."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from sqlalchemy import (
    ColumnElement,
    Dialect,
    Engine,
    Insert,
    Select,
    Table,
    Update,
    and_,
    func,
    literal,
    select,
)
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.roster import forget_worker
from studies.database import reading, transaction
from studies.errors import StudyDeletedError
from studies.protocol import has_long_seeds, has_seed_of_slots
from studies.statements import upsert
from studies.states import ENDED_RUNS, FailureKind, RunState, Stage
from studies.tables import EpochRecord, PointRecord, StudyRow, WorkRow
from trainers.run import EpochRow, Point
from trainers.seeding import run_seed_for, seed_for

log = logging.getLogger(__name__)

DELETED = "it was deleted"
"""Why a study has ended that is being deleted: the last that its workers read of it."""

# Given up after five, one run of 40 was lost where workers were killed every 0.7 s and some took
# longer than that to start, always with the same run in hand (docs/log.md).
MAX_DEATHS = 7
"""A run whose owners died this often without a new epoch in between is given up: it may be what
kills them (a crash in native code, the system out of memory)."""
SUSPICIOUS_DEATHS = 3
"""From so many on, the study's other runs come first: they may not kill."""


def stored_study(session: Session, row: StudyRow, *, lock: bool = False) -> StudyRow:
    """Return the row of a study as it is now; raise StudyDeletedError where it is or goes away."""
    now = session.get(StudyRow, row.id, with_for_update=lock, populate_existing=True)
    if now is None or now.reason == DELETED:
        raise StudyDeletedError(f"study {row.name!r} was deleted")
    return now


def running_rows(session: Session, study_id: str) -> list[WorkRow]:
    """Return the runs that a worker holds."""
    return list(
        session.scalars(
            select(WorkRow)
            .where(WorkRow.study_id == study_id, WorkRow.state == RunState.RUNNING)
            .order_by(WorkRow.id)
        )
    )


def has_waiting(session: Session, study_id: str) -> bool:
    """Return whether a run of the study waits for a worker."""
    mine = WorkRow.study_id == study_id
    waiting = select(WorkRow.id).where(mine, WorkRow.state == RunState.WAITING)
    return session.scalar(waiting.limit(1)) is not None


def done_rows(session: Session, study_id: str, stage: Stage) -> list[WorkRow]:
    """Return the finished runs of a stage by round, length and slot."""
    return list(
        session.scalars(
            select(WorkRow)
            .where(WorkRow.study_id == study_id, WorkRow.stage == stage)
            .where(WorkRow.state == RunState.DONE)
            .order_by(WorkRow.round, WorkRow.epochs, WorkRow.slot)
        )
    )


def search_rows(row: StudyRow) -> Select[WorkRow]:
    """Return the query of a search's cycles of full length.

    Studies of earlier versions may hold shorter cycles too, which say nothing of the full length.
    """
    return select(WorkRow).where(
        WorkRow.study_id == row.id, WorkRow.stage == Stage.SEARCH, WorkRow.epochs == row.epochs
    )


def count_ended(engine: Engine, study_id: str) -> int:
    """Return how many runs of the study are finished or given up."""
    with reading(engine) as session:
        ended = WorkRow.state.in_(ENDED_RUNS)
        return session.scalars(
            select(func.count()).where(WorkRow.study_id == study_id, ended)
        ).one()


def params_of(row: WorkRow) -> Params | None:
    """Return the configuration of a row, None for a sweep or a slot not yet asked for."""
    if row.params is None or row.stage == Stage.RANGE_TEST:
        return None
    return Params(**row.params)


class Numbered(Protocol):
    """What the seed of a run depends on: a row of work, or the claim on it."""

    @property
    def stage(self) -> Stage: ...

    @property
    def round(self) -> int: ...

    @property
    def slot(self) -> int: ...

    @property
    def replicate(self) -> int | None: ...


def seed_of(row: StudyRow, run: Numbered) -> int:
    """Return the seed of a run; all cycles of a search share one.

    The seed's main effect was 23 to 55 % of the variance of scores (docs/log.md), and drops
    out of a comparison under one seed.
    """
    number = run.replicate
    derive = seed_for if has_long_seeds(row.declared) else run_seed_for
    if run.stage == Stage.RANGE_TEST or has_seed_of_slots(row.declared):
        number = run.slot if number is None else number
    return derive(row.seed, run.stage, run.round, number or 0)


def unmoved(row: WorkRow) -> ColumnElement[bool]:
    """Return the condition that a running row is as it was seen: same owner, no beat since."""
    return and_(
        WorkRow.id == row.id,
        WorkRow.state == RunState.RUNNING,
        WorkRow.token == row.token,
        WorkRow.beat == row.beat,
    )


def release(engine: Engine, row: WorkRow) -> bool:
    """Let any worker take the run of an owner that died, unless that has moved since it was seen.

    The death is counted until the run gets further; at MAX_DEATHS the run is given up.
    """
    with transaction(engine) as session:
        # Asked again under the row's lock: it may have moved, or been released by another.
        held = session.scalars(select(WorkRow).where(unmoved(row)).with_for_update()).first()
        if held is None:
            return False
        forget_worker(session, held.owner)
        held.deaths += 1
        held.state = RunState.WAITING
        if held.deaths >= MAX_DEATHS:
            held.state, held.failure = RunState.FAILED, FailureKind.DIED
            held.traceback = (
                f"the process that trained it died {held.deaths} times, the last in {held.owner}: "
                "killed from outside, out of memory, or a crash in native code"
            )
            log.error("%s %d given up: %s", held.stage, held.slot, held.traceback)
        held.owner = held.process = None
        return True


def changed(session: Session, change: Update) -> WorkRow | None:
    """Do an UPDATE of at most one run; return that as it is then, None where it met none.

    The session must hold no changes of that run.
    """
    change = change.execution_options(synchronize_session=False)
    if session.get_bind().dialect.update_returning:
        returning = change.returning(WorkRow).execution_options(populate_existing=True)
        return session.scalars(returning).one_or_none()
    # SQLite before 3.35: transaction() holds its write lock, so nothing changes in between.
    assert change.whereclause is not None
    met = session.scalar(select(WorkRow.id).where(change.whereclause))
    if met is not None:
        session.execute(change)
    return None if met is None else session.get(WorkRow, met, populate_existing=True)


def is_waiting() -> ColumnElement[bool]:
    """Return the condition that a run waits, in the words of the index ix_work_next.

    As a parameter of a prepared statement it would not be known to be the index's.
    """
    return WorkRow.state == literal(RunState.WAITING, literal_execute=True)


def write_epochs(session: Session, row: WorkRow, epochs: Sequence[EpochRow]) -> bool:
    """Write epochs in place of earlier rows; return whether one is further than any before.

    That is asked of the database only where the run's owners died: else nobody wants to know.
    """
    if not epochs:
        return False
    furthest = max(epoch.epoch for epoch in epochs)
    got_further = row.deaths > 0 and _is_furthest(session, row, furthest)
    write_new_epochs(session, {row.id: epochs})
    return got_further


def write_new_epochs(session: Session, epochs: Mapping[int, Sequence[EpochRow]]) -> None:
    """Write epochs of several runs in place of earlier rows: id of a run -> its epochs."""
    # A run that resumed reports its epochs again: the last report of each counts.
    last = {(run, epoch.epoch): epoch for run, rows in epochs.items() for epoch in rows}
    if last:
        values = [_epoch_values(run, epoch) for (run, _), epoch in last.items()]
        session.execute(_new_epoch(session.get_bind().dialect), values)


def _is_furthest(session: Session, row: WorkRow, epoch: int) -> bool:
    stored = select(func.max(EpochRecord.epoch)).where(EpochRecord.work_id == row.id)
    furthest = session.scalar(stored)
    return furthest is None or epoch > furthest


def _new_epoch(dialect: Dialect) -> Insert:
    table = EpochRecord.__table__
    assert isinstance(table, Table)
    key = [column.name for column in table.primary_key]
    values = [column.name for column in table.columns if column.name not in key]
    return upsert(dialect, table, key=key, values=values)


def _epoch_values(work_id: int, epoch: EpochRow) -> dict[str, float | None]:
    numbers = {name: _number(value) for name, value in asdict(epoch).items()}
    return {**numbers, "work_id": work_id, "epoch": epoch.epoch}


def point_record(work_id: int, point: Point) -> PointRecord:
    """Return a step of a sweep as a row; what is not finite is NULL."""
    return PointRecord(
        work_id=work_id,
        step=point.step,
        lr=point.lr,
        loss=_number(point.loss),
        grad_norm=_number(point.grad_norm),
        other_lrs=list(point.other_lrs) or None,
    )


def _number(value: float | None) -> float | None:
    """Return a value that every database can hold."""
    # SQLite would store NaN as NULL, PostgreSQL as NaN.
    return value if value is not None and math.isfinite(value) else None
