"""The curves of a run for a tracker: by epoch, of a sweep and of a loop without epochs by step."""

from dataclasses import replace
from itertools import accumulate

from sqlalchemy import select
from sqlalchemy.orm import Session

from search.results.curves import step_points
from search.tracking.records import Point, Tracked, TrackedStudy, plain_name
from studies.tables import EpochRecord, PointRecord, WorkRow


def with_points(session: Session, study: TrackedStudy, run: Tracked) -> Tracked:
    """Return a run with its curves: by epoch those of a cycle, by step those of a sweep."""
    work_id = int(run.key)
    by_epoch = session.scalars(
        select(EpochRecord).where(EpochRecord.work_id == work_id).order_by(EpochRecord.epoch)
    ).all()
    took = [each.seconds or 0.0 for each in by_epoch]
    # Of a run that goes on, the last epoch was written with the last beat.
    began = run.began if run.ended is not None else run.began - sum(took)
    ends = list(accumulate(took, initial=began))[1:]
    score = f"validation_{plain_name(study.metric)}"
    points = [
        Point(name, each.epoch, value, at)
        for each, at in zip(by_epoch, ends, strict=True)
        for name, value in (
            ("lr", each.lr_last),
            ("train_loss", each.train_loss),
            ("train_accuracy", each.train_accuracy),
            ("validation_loss", each.validation_loss),
            (score, each.validation_accuracy),
        )
        if value is not None
    ]
    by_step = session.scalars(
        select(PointRecord).where(PointRecord.work_id == work_id).order_by(PointRecord.step)
    ).all()
    steps_of = "step_" if by_epoch else ""  # two axes under one name would be one broken curve
    points += [
        Point(f"{steps_of}{name}", each.step, value, run.ended or run.began)
        for each in by_step
        for name, value in (("lr", each.lr), ("loss", each.loss))
        if value is not None
    ]
    if not points and run.ended is not None:  # a loop without epochs: windows of its steps
        stored = session.scalar(select(WorkRow.curve).where(WorkRow.id == work_id))
        points = [
            Point(name, each.step, value, run.ended)
            for each in step_points(stored)
            for name, value in (("lr", each.lr), ("train_loss", each.train_loss))
            if value is not None
        ]
    return replace(run, began=began, points=tuple(points))
