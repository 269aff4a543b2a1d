"""What a study still has to do and how fast it goes, read from the database: the time left."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.results.time_left import (
    Taken,
    TimeLeft,
    ToDo,
    UnderWay,
    confirmation_totals,
    search_totals,
    time_left,
)
from search.starting.cost import StageCost
from studies.states import STAGES, RunState, Stage
from studies.tables import EpochRecord, StudyRow, WorkerRow, WorkRow

_LAST = 40
"""Finished runs of each stage that are read: a study may have many thousands."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """How long a study still takes with the workers that live, None where that is not known.

    `text` says it, or why not; empty for a study that has ended. `images_per_s`: training images
    of all these workers, by what their runs took.
    """

    time: TimeLeft | None
    text: str
    images_per_s: float | None


def remaining(
    session: Session, row: StudyRow, plan: Sequence[StageCost], now: datetime
) -> Remaining:
    """Return what is left of a study by its plan; `now` is the database's."""
    taken = _taken(session, row)
    alive = _alive(session, row, now)
    rate = _images_per_s(session, row)
    speed = rate * len(alive) if rate is not None and alive else None
    if row.stage.is_end:
        return Remaining(None, "", speed)
    if not plan:
        return Remaining(None, "time left: not known, for its study file is not here", speed)
    held = _under_way(session, row, now, alive)
    to_do = _to_do(session, row, plan)

    def left(n_workers: int) -> TimeLeft | None:
        return time_left(
            taken,
            to_do,
            held,
            cycle_steps=row.epochs * row.steps_per_epoch,
            cycle_epochs=row.epochs,
            n_workers=n_workers,
        )

    time = left(len(alive))
    if time is not None:
        return Remaining(time, time.text(), speed)
    if alive:
        return Remaining(None, "time left: not known before the first run has ended", speed)
    text, alone = "nobody works on it now", left(1)
    if alone is not None:
        text += f"; one worker would take {alone.text().removesuffix(' left')}"
    return Remaining(None, text, speed)


def _taken(session: Session, row: StudyRow) -> list[Taken]:
    """Return the last finished runs of each stage, the newest last."""
    rows = list[WorkRow]()
    for stage in STAGES:
        mine = select(WorkRow).where(
            WorkRow.study_id == row.id, WorkRow.stage == stage, WorkRow.state == RunState.DONE
        )
        if stage != Stage.RANGE_TEST:  # studies of earlier versions have shorter cycles, too
            mine = mine.where(WorkRow.epochs == row.epochs)
        last = mine.order_by(WorkRow.beat_at.desc(), WorkRow.id.desc()).limit(_LAST)
        rows += reversed(session.scalars(last).all())
    return [
        Taken(
            stage=work.stage,
            seconds=work.seconds or 0.0,
            n_steps=work.n_steps or 0,
            owner=work.owner or "",
            end_s=0.0 if work.beat_at is None else work.beat_at.timestamp(),
            diverged=work.outcome == "diverged",
            resumed=work.had_owner,
        )
        for work in rows
    ]


def _images_per_s(session: Session, row: StudyRow) -> float | None:
    """Return the training images per second of one worker, over all finished runs."""
    images, seconds = session.execute(
        select(func.sum(WorkRow.n_images), func.sum(WorkRow.seconds)).where(
            WorkRow.study_id == row.id, WorkRow.state == RunState.DONE
        )
    ).one()
    return float(images) / float(seconds) if images and seconds else None


def _alive(session: Session, row: StudyRow, now: datetime) -> set[str]:
    """Return the workers that have shown life within the grace time: by the run that they hold,
    by the one that they ended, or by waiting."""
    joined = session.execute(
        select(WorkerRow.name, WorkerRow.seen_at).where(WorkerRow.study_id == row.id)
    ).all()
    beats = session.execute(
        select(WorkRow.owner, func.max(WorkRow.beat_at))
        .where(WorkRow.study_id == row.id, WorkRow.owner.is_not(None))
        .where((WorkRow.state == RunState.RUNNING) | WorkRow.owner.in_([n for n, _ in joined]))
        .group_by(WorkRow.owner)
    ).all()
    signs = [*joined, *((name, at) for name, at in beats if name and at)]
    return {name for name, at in signs if (now - at).total_seconds() <= row.grace_s}


def _under_way(session: Session, row: StudyRow, now: datetime, alive: set[str]) -> list[UnderWay]:
    held = session.scalars(
        select(WorkRow).where(WorkRow.study_id == row.id, WorkRow.state == RunState.RUNNING)
    ).all()
    epochs = {
        work_id: (last, mean)
        for work_id, last, mean in session.execute(
            select(EpochRecord.work_id, func.max(EpochRecord.epoch), func.avg(EpochRecord.seconds))
            .where(EpochRecord.work_id.in_([work.id for work in held]))
            .group_by(EpochRecord.work_id)
        )
    }
    runs = []
    for work in held:
        last, mean = epochs.get(work.id, (0, None))
        silent_s = 0.0 if work.beat_at is None else (now - work.beat_at).total_seconds()
        # A run beats when its slot is bound, and then every beat_s as long as no epoch ends.
        n_beats = max(0, work.beat - (work.stage == Stage.SEARCH))
        lives = work.owner in alive
        runs.append(
            UnderWay(
                stage=work.stage,
                share=last / work.length if last else None if lives else 0.0,
                elapsed_s=n_beats * row.beat_s + max(0.0, silent_s),
                epoch_s=None if mean is None else float(mean),
            )
        )
    return runs


def _to_do(session: Session, row: StudyRow, plan: Sequence[StageCost]) -> list[ToDo]:
    """Return what each stage of the plan that is not over still has to do."""
    counts = _counts(session, row)
    return [
        _of_stage(cost, row, counts.get(cost.stage, Counter()))
        for cost in plan
        if STAGES.index(cost.stage) >= STAGES.index(row.stage)
    ]


def _of_stage(cost: StageCost, row: StudyRow, counts: Counter[RunState]) -> ToDo:
    stage, is_open = cost.stage, cost.stage == row.stage
    if not is_open:  # one of before may have a second round to come
        counts = Counter()
    waiting, running = counts[RunState.WAITING], counts[RunState.RUNNING]
    opened = counts.total()
    totals: dict[int, int] | None = None
    if stage == Stage.SEARCH and (row.may_end_search or not is_open):
        # All its rows wait from the start: those that wait are part of what may come.
        totals = {cost.most_runs: 1} if row.exact else search_totals(cost.most_runs)
        waiting, opened = 0, opened - waiting
    elif stage == Stage.RANGE_TEST:
        totals = {max(cost.n_runs, opened): 1}
    elif stage == Stage.CONFIRMATION:
        totals = confirmation_totals(cost.most_runs, n_pairs=cost.n_pairs)
    return ToDo(stage=stage, waiting=waiting, running=running, opened=opened, totals=totals)


def _counts(session: Session, row: StudyRow) -> Mapping[Stage, Counter[RunState]]:
    """Return the runs of each stage by state; of confirmations the newest one."""
    rows = session.execute(
        select(WorkRow.stage, WorkRow.round, WorkRow.state, func.count())
        .where(WorkRow.study_id == row.id)
        .group_by(WorkRow.stage, WorkRow.round, WorkRow.state)
    ).all()
    newest = max((r for stage, r, _, _ in rows if stage == Stage.CONFIRMATION), default=0)
    counts = dict[Stage, Counter[RunState]]()
    for stage, number, state, n in rows:
        if stage != Stage.CONFIRMATION or number == newest:
            counts.setdefault(stage, Counter())[state] += n
    return counts
