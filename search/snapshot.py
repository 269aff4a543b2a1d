"""One look at a study for the live view: every run, its epoch, the best so far."""

from dataclasses import dataclass

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from search.plan import StageCost
from search.rows import params_of
from search.space import Params
from studies.database import reading
from studies.tables import EpochRecord, StudyRow, WorkRow


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Runs of one stage: `total` is what the plan says, also before the stage is open."""

    stage: str
    done: int
    failed: int
    total: int


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run that waits, runs or has ended."""

    stage: str
    slot: int
    state: str
    length: int
    epoch: int
    params: Params | None
    outcome: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A study at one moment."""

    stage: str
    stages: tuple[StageStatus, ...]
    runs: tuple[RunStatus, ...]
    best: RunStatus | None
    proposal: float | None
    images_done: int
    images_total: int

    @property
    def running(self) -> list[RunStatus]:
        """The runs that a worker holds."""
        return [run for run in self.runs if run.state == "running"]


def snapshot(engine: Engine, study_id: str, plan: tuple[StageCost, ...]) -> Snapshot:
    """Return where the study stands; `plan` is what its stages cost."""
    with reading(engine) as session:
        row = session.get_one(StudyRow, study_id)
        planned = {cost.stage for cost in plan}
        runs = tuple(run for run in _runs(session, study_id) if run.stage in planned)
    per_run = {cost.stage: cost.n_images // cost.n_runs for cost in plan if cost.n_runs}
    done = sum(
        per_run[run.stage] * (1 if run.state in ("done", "failed") else run.epoch / run.length)
        for run in runs
    )
    return Snapshot(
        stage=row.stage,
        stages=tuple(
            StageStatus(
                stage=cost.stage,
                done=_count(runs, cost.stage, "done"),
                failed=_count(runs, cost.stage, "failed"),
                total=cost.n_runs,
            )
            for cost in plan
        ),
        runs=runs,
        best=_best(runs, row.direction),
        proposal=row.proposal,
        images_done=int(done),
        images_total=sum(cost.n_images for cost in plan),
    )


def _runs(session: Session, study_id: str) -> list[RunStatus]:
    epoch = func.coalesce(func.max(EpochRecord.epoch), 0)
    rows = session.execute(
        select(WorkRow, epoch)
        .outerjoin(EpochRecord, EpochRecord.work_id == WorkRow.id)
        .where(WorkRow.study_id == study_id)
        .group_by(WorkRow.id)
        .order_by(WorkRow.id)
    )
    return [
        RunStatus(
            stage=work.stage,
            slot=work.slot,
            state=work.state,
            length=work.length,
            epoch=epochs,
            params=params_of(work),
            outcome=work.outcome,
            score=work.score,
        )
        for work, epochs in rows
    ]


def _count(runs: tuple[RunStatus, ...], stage: str, state: str) -> int:
    return sum(run.stage == stage and run.state == state for run in runs)


def _best(runs: tuple[RunStatus, ...], direction: str) -> RunStatus | None:
    scored = [run for run in runs if run.stage == "search" and run.score is not None]
    sign = 1 if direction == "maximize" else -1
    return max(scored, key=lambda run: sign * (run.score or 0.0), default=None)
