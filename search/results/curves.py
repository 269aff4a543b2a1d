"""The learning curves of a study's runs: by epoch where their loops report epochs, and by step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Engine, or_, select
from sqlalchemy.orm import Session, undefer

from search.params import Params
from search.queue.rows import params_of
from search.stages.search import BASELINE_SLOT
from search.starting.catalog import find
from studies.database import reading
from studies.states import RunOutcome, RunState, Stage
from studies.tables import EpochRecord, StudyRow, WorkRow
from trainers.curve import Curve

Role = Literal["baseline", "finalist", "search"]


@dataclass(frozen=True, slots=True)
class EpochPoint:
    """The end of an epoch; None is what the loop does not compute.

    `step`: steps done by then. `lr`: the last rate of the epoch. Losses are means per sample of
    the epoch, `score` is the study's metric on the validation split.
    """

    epoch: int
    step: int
    lr: float | None
    train_loss: float | None
    train_accuracy: float | None
    validation_loss: float | None
    score: float | None


@dataclass(frozen=True, slots=True)
class StepPoint:
    """The end of a window of steps, of which there are at most 100 in a cycle.

    `step`: steps done by then. `lr`: that of its last step. `train_loss`: the mean over its
    steps, None where none of them was finite.
    """

    step: int
    lr: float
    train_loss: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCurve:
    """One cycle: what it was, and how it learned.

    `slot` is that of its configuration in the search, whichever stage trained it. `total_steps`
    are those of its plan. `epochs` is empty where its loop reports none, `steps` where it was
    trained by a version that kept none.
    """

    stage: Stage
    round: int
    slot: int
    replicate: int | None
    role: Role
    params: Params | None
    state: RunState
    outcome: RunOutcome | None
    score: float | None
    diverged_step: int | None
    diverged_lr: float | None
    total_steps: int
    steps_per_epoch: int
    epochs: tuple[EpochPoint, ...]
    steps: tuple[StepPoint, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was stored of how it learned."""
        return not (self.epochs or self.steps)

    def values(self) -> Iterator[dict[str, Any]]:
        """Yield a row under COLUMNS for each epoch, then for each window of steps."""
        whose = {name: getattr(self, name) for name in _OF_THE_RUN}
        for each in (*self.epochs, *self.steps):
            values = {name: getattr(each, name, None) for name in _OF_A_POINT}
            by = "epoch" if isinstance(each, EpochPoint) else "step"
            yield {**whose, "by": by, **values}


_OF_THE_RUN = ("stage", "round", "slot", "replicate", "role", "outcome")
_OF_A_POINT = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "score",
)
COLUMNS = (*_OF_THE_RUN, "by", *_OF_A_POINT)
"""Of a table of curves in long form: `by` says whether a row ends an epoch or a window of
steps."""


def stored_curves(engine: Engine, name: str) -> list[RunCurve]:
    """Return the curve of every cycle of a stored study; raise UnknownStudyError without one."""
    row = find(engine, name)
    with reading(engine) as session:
        return curves_of(session, row)


def curves_of(session: Session, row: StudyRow, *, n_best: int | None = None) -> list[RunCurve]:
    """Return the curve of every cycle that has begun, by stage, round and slot.

    `n_best`: of the search the baseline and so many with the best scores; None: all.
    """
    wanted = _wanted(row, n_best)
    works = session.scalars(
        select(WorkRow)
        .where(*wanted)
        .options(undefer(WorkRow.curve))
        .order_by(WorkRow.stage.desc(), WorkRow.round, WorkRow.slot)
    ).all()
    records = session.scalars(
        select(EpochRecord)
        .join(WorkRow, WorkRow.id == EpochRecord.work_id)
        .where(*wanted)
        .order_by(EpochRecord.work_id, EpochRecord.epoch)
    )
    epochs: dict[int, list[EpochRecord]] = {}
    for record in records:
        epochs.setdefault(record.work_id, []).append(record)
    return [_curve_of(row, work, epochs.get(work.id, [])) for work in works]


def _wanted(row: StudyRow, n_best: int | None) -> list[ColumnElement[bool]]:
    cycles = [
        WorkRow.study_id == row.id,
        WorkRow.stage.in_([Stage.SEARCH, Stage.CONFIRMATION]),
        # Studies of earlier versions may hold shorter cycles too.
        WorkRow.epochs == row.epochs,
        WorkRow.params.is_not(None),
    ]
    if n_best is None:
        return cycles
    score = WorkRow.score.desc() if row.direction == "maximize" else WorkRow.score.asc()
    best = (
        select(WorkRow.id)
        .where(*cycles, WorkRow.stage == Stage.SEARCH)
        # Databases do not agree on where NULL is sorted.
        .order_by(WorkRow.score.is_(None), score, WorkRow.slot)
        .limit(n_best)
    )
    is_shown = or_(WorkRow.stage == Stage.CONFIRMATION, WorkRow.slot == BASELINE_SLOT)
    return [*cycles, or_(is_shown, WorkRow.id.in_(best))]


def _curve_of(row: StudyRow, work: WorkRow, epochs: Sequence[EpochRecord]) -> RunCurve:
    params = params_of(work)
    assert params is not None
    per_epoch = row.steps_per_epoch_of(params)
    total = work.length * per_epoch
    slot = work.slot if work.candidate is None else work.candidate
    return RunCurve(
        stage=work.stage,
        round=work.round,
        slot=slot,
        replicate=work.replicate,
        role=_role(work, slot),
        params=params,
        state=work.state,
        outcome=work.outcome,
        score=work.score,
        diverged_step=work.diverged_step,
        diverged_lr=work.diverged_lr,
        total_steps=total,
        steps_per_epoch=per_epoch,
        epochs=epoch_points(epochs, steps_per_epoch=per_epoch, total_steps=total),
        steps=step_points(work.curve),
    )


def _role(work: WorkRow, slot: int) -> Role:
    if slot == BASELINE_SLOT:
        return "baseline"
    return "finalist" if work.stage == Stage.CONFIRMATION else "search"


def epoch_points(
    records: Sequence[EpochRecord], *, steps_per_epoch: int, total_steps: int
) -> tuple[EpochPoint, ...]:
    """Return the epochs of one run; a loop of one's own may count them from 0."""
    first = min(1, *(record.epoch for record in records)) if records else 1
    return tuple(
        EpochPoint(
            epoch=record.epoch + 1 - first,
            step=min(total_steps, (record.epoch + 1 - first) * steps_per_epoch),
            lr=record.lr_last,
            train_loss=record.train_loss,
            train_accuracy=record.train_accuracy,
            validation_loss=record.validation_loss,
            score=record.validation_accuracy,
        )
        for record in records
    )


def step_points(curve: Curve | None) -> tuple[StepPoint, ...]:
    """Return the windows of one run; none where none were stored."""
    if curve is None:
        return ()
    windows = zip(curve.steps, curve.lrs, curve.losses, strict=True)
    return tuple(StepPoint(*window) for window in windows)
