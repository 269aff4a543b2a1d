"""One look at a study for the live view: every run, its epoch, the best so far."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.rows import params_of
from search.stages.order import stage_name
from search.starting.cost import StageCost
from studies.database import reading
from studies.tables import EpochRecord, StudyRow, WorkRow


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Runs of one stage: `total` is what the plan says, also before the stage is open."""

    stage: str
    name: str
    done: int
    failed: int
    total: int


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run that waits, runs or has ended; `images_per_s` is that of its last epoch so far."""

    work_id: int
    stage: str
    name: str
    slot: int
    state: str
    length: int
    epoch: int
    params: Params | None
    outcome: str | None
    score: float | None
    images_per_s: float | None = None

    @property
    def share_done(self) -> float:
        """How much of the run is over, between 0 and 1."""
        return 1.0 if self.state in ("done", "failed") else self.epoch / self.length


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
        planned = {cost.name for cost in plan}
        runs = tuple(run for run in _runs(session, row) if run.name in planned)
        speeds = _speeds(session, [run for run in runs if run.state == "running"])
    runs = tuple(replace(run, images_per_s=speeds.get(run.work_id)) for run in runs)
    per_run = {cost.name: cost.n_images // cost.n_runs for cost in plan if cost.n_runs}
    done = sum(per_run[run.name] * run.share_done for run in runs)
    return Snapshot(
        stage=row.stage,
        stages=tuple(
            StageStatus(
                stage=cost.stage,
                name=cost.name,
                done=_count(runs, cost, "done"),
                failed=_count(runs, cost, "failed"),
                total=max(cost.n_runs, _count(runs, cost)),
            )
            for cost in plan
        ),
        runs=runs,
        best=_best(runs, row.direction),
        proposal=row.proposal,
        images_done=int(done),
        images_total=sum(cost.n_images for cost in plan),
    )


def _runs(session: Session, study: StudyRow) -> list[RunStatus]:
    epoch = func.coalesce(func.max(EpochRecord.epoch), 0)
    rows = session.execute(
        select(WorkRow, epoch)
        .outerjoin(EpochRecord, EpochRecord.work_id == WorkRow.id)
        .where(WorkRow.study_id == study.id)
        .group_by(WorkRow.id)
        .order_by(WorkRow.id)
    )
    return [
        RunStatus(
            work_id=work.id,
            stage=work.stage,
            name=stage_name(work.stage, work.length, study.lengths),
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


def _speeds(session: Session, running: Sequence[RunStatus]) -> dict[int, float]:
    """Return the images per second of the last epoch of each running cycle that has one."""
    last = {run.work_id: run.epoch for run in running if run.epoch}
    rows = session.execute(
        select(EpochRecord.work_id, EpochRecord.epoch, EpochRecord.images_per_s).where(
            EpochRecord.work_id.in_(last)
        )
    )
    return {work_id: speed for work_id, epoch, speed in rows if epoch == last[work_id]}


def _count(runs: tuple[RunStatus, ...], cost: StageCost, state: str | None = None) -> int:
    """Return how many runs a line of the plan has, in one state or in any."""
    return sum(r.name == cost.name and state in (None, r.state) for r in runs)


def _best(runs: tuple[RunStatus, ...], direction: str) -> RunStatus | None:
    scored = [run for run in runs if run.stage == "search" and run.score is not None]
    sign = 1 if direction == "maximize" else -1
    return max(scored, key=lambda run: (run.length, sign * (run.score or 0.0)), default=None)
