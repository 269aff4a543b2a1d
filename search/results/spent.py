"""What a study has cost so far, by stage: runs, training images, seconds."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from studies.states import RunState, Stage
from studies.tables import StudyRow, WorkRow


@dataclass(frozen=True, slots=True)
class StageSpent:
    """What the finished runs of one stage have cost; seconds are of training and scoring."""

    stage: Stage
    name: str
    n_runs: int
    n_images: int
    seconds: float


def spent(session: Session, row: StudyRow) -> list[StageSpent]:
    """Return what the finished runs have cost, in the order in which their stages opened."""
    rows = session.execute(
        select(
            WorkRow.stage,
            func.count(),
            func.coalesce(func.sum(WorkRow.n_images), 0),
            func.coalesce(func.sum(WorkRow.seconds), 0.0),
        )
        .where(WorkRow.study_id == row.id, WorkRow.state == RunState.DONE)
        .group_by(WorkRow.stage)
        .order_by(func.min(WorkRow.id))
    )
    return [
        StageSpent(stage, stage.words, n, int(images or 0), float(seconds or 0.0))
        for stage, n, images, seconds in rows
    ]
