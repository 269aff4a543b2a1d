"""What a study has cost so far, by stage and cycle length: runs, training images, seconds."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.stages.order import stage_name
from studies.tables import StudyRow, WorkRow


@dataclass(frozen=True, slots=True)
class StageSpent:
    """What the runs of one length in a stage have cost; seconds are of training and scoring."""

    stage: str
    name: str
    n_runs: int
    n_images: int
    seconds: float


def spent(session: Session, study: StudyRow) -> list[StageSpent]:
    """Return what the finished runs have cost, in the order in which their stages opened."""
    rows = session.execute(
        select(
            WorkRow.stage,
            WorkRow.length,
            func.count(),
            func.coalesce(func.sum(WorkRow.n_images), 0),
            func.coalesce(func.sum(WorkRow.seconds), 0.0),
        )
        .where(WorkRow.study_id == study.id, WorkRow.state == "done")
        .group_by(WorkRow.stage, WorkRow.length)
        .order_by(func.min(WorkRow.id))
    )
    found: dict[str, StageSpent] = {}
    for stage, length, n, images, seconds in rows:
        name = stage_name(stage, length, study.lengths)
        before = found.get(name, StageSpent(stage, name, 0, 0, 0.0))
        found[name] = StageSpent(
            stage,
            name,
            before.n_runs + n,
            before.n_images + int(images or 0),
            before.seconds + (seconds or 0.0),
        )
    return list(found.values())
