"""What a run reports, as rows: its epochs while it runs, its points when it has ended."""

import math
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from studies.tables import EpochRecord, PointRecord
from trainers.run import EpochRow, Point


def write_epochs(session: Session, work_id: int, epochs: Sequence[EpochRow]) -> bool:
    """Write epochs in place of earlier rows; return whether one is further than any before."""
    if not epochs:
        return False
    of_run = EpochRecord.work_id == work_id
    furthest = session.scalar(select(func.max(EpochRecord.epoch)).where(of_run))
    again = EpochRecord.epoch.in_([epoch.epoch for epoch in epochs])
    session.execute(delete(EpochRecord).where(of_run, again))
    by_number = {epoch.epoch: epoch for epoch in epochs}
    session.execute(
        insert(EpochRecord), [{"work_id": work_id, **asdict(e)} for e in by_number.values()]
    )
    return furthest is None or max(by_number) > furthest


def point_record(work_id: int, point: Point) -> PointRecord:
    """Return a step of a sweep as a row; what is not finite is NULL."""
    return PointRecord(
        work_id=work_id,
        step=point.step,
        lr=point.lr,
        loss=_number(point.loss),
        grad_norm=_number(point.grad_norm),
        finite=point.finite,
        other_lrs=list(point.other_lrs) or None,
    )


def _number(value: float | None) -> float | None:
    """Return a value that every database can hold."""
    return value if value is not None and math.isfinite(value) else None
