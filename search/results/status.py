"""How a study stands, from the database alone: counts, who runs what, failures, time left."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, case, func, or_, select
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.rows import params_of
from search.queue.work import ENDED, last_line
from search.stages.order import STAGES, stage_name
from search.starting.catalog import find
from search.starting.cost import StageCost, costs
from studies.database import reading
from studies.definition import Study
from studies.registry import load
from studies.tables import EpochRecord, StudyRow, WorkerRow, WorkRow
from trainers.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCounts:
    """Runs of one stage by state; `total` is the plan's until the stage has opened."""

    stage: str
    name: str
    done: int
    running: int
    waiting: int
    given_up: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A run that a worker holds; `silent_s`: since its last beat, by the database's clock."""

    stage: str
    name: str
    slot: int
    epoch: int
    length: int
    owner: str
    silent_s: float
    stale: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """Somebody who has joined; `waits_for` is None where a run is held, or about to be."""

    name: str
    host: str
    device: str
    silent_s: float
    stale: bool
    waits_for: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """Failed attempts of the runs whose last failure was of one kind; None: they finished since.

    `last_line` ends the traceback of one of them.
    """

    kind: str | None
    n_runs: int
    n_attempts: int
    last_line: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best configuration so far, among the cycles of the greatest length that have ended."""

    slot: int
    length: int
    score: float
    params: Params | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """A study at one moment; `seconds_left` is None where nothing tells it."""

    study: str
    stage: str
    ended: bool
    reason: str | None
    grace_s: float
    stages: tuple[StageCounts, ...]
    running: tuple[Running, ...]
    workers: tuple[Worker, ...]
    failures: tuple[Failures, ...]
    best: Best | None
    proposal: float | None
    seconds_left: float | None


def stored_definition(row: StudyRow) -> Study | None:
    """Return what a stored study was made from; None where this host has it not, or another."""
    try:
        found = load(row.spec)
    except UserError:
        return None
    return found.study if found.source == row.source else None


def overview(engine: Engine, name: str, definition: Study | None) -> Overview:
    """Return how a stored study stands; `definition` adds what stages to come will cost.

    Raises UnknownStudyError where no study of that name is stored.
    """
    row = find(engine, name)
    plan = () if definition is None else costs(definition, n_trials=row.n_trials)
    with reading(engine) as session:
        stages = tuple(_stages(session, row, plan))
        now = _now(session)
        running = tuple(_running(session, row, now))
        workers = tuple(_workers(session, row, running, now))
        ended = row.stage in ENDED
        return Overview(
            study=row.name,
            stage=row.stage,
            ended=ended,
            reason=(row.result or {}).get("reason"),
            grace_s=row.grace_s,
            stages=stages,
            running=running,
            workers=workers,
            failures=tuple(_failures(session, row)),
            best=_best(session, row),
            proposal=row.proposal,
            seconds_left=None if ended else _seconds_left(session, row, plan, stages, running),
        )


def _stages(session: Session, row: StudyRow, plan: Iterable[StageCost]) -> list[StageCounts]:
    rows = session.execute(
        select(WorkRow.stage, WorkRow.length, WorkRow.state, func.count())
        .where(WorkRow.study_id == row.id)
        .group_by(WorkRow.stage, WorkRow.length, WorkRow.state)
    ).all()
    planned = {cost.name: cost.n_runs for cost in plan}
    stages = {cost.name: cost.stage for cost in plan}  # in their order, which rows may not know
    found: dict[str, Counter[str]] = {}
    for stage, length, state, n in sorted(rows, key=lambda r: (STAGES.index(r[0]), r[1])):
        name = stage_name(stage, length, row.lengths)
        stages.setdefault(name, stage)
        found.setdefault(name, Counter())[state] += n
    return [
        _counts(stage, name, found.get(name, {}), planned.get(name, 0))
        for name, stage in stages.items()
    ]


def _counts(stage: str, name: str, by_state: Mapping[str, int], planned: int) -> StageCounts:
    """Return the counts of a line; cycles yet to be promoted are in the plan only."""
    n_rows = sum(by_state.values())
    return StageCounts(
        stage=stage,
        name=name,
        done=by_state.get("done", 0),
        running=by_state.get("running", 0),
        waiting=by_state.get("waiting", 0),
        given_up=by_state.get("failed", 0),
        total=max(n_rows, planned) if stage == "search" else n_rows or planned,
    )


def _running(session: Session, row: StudyRow, now: datetime) -> list[Running]:
    epoch = (
        select(func.coalesce(func.max(EpochRecord.epoch), 0))
        .where(EpochRecord.work_id == WorkRow.id)
        .scalar_subquery()
    )
    held = session.execute(
        select(WorkRow, epoch)
        .where(WorkRow.study_id == row.id, WorkRow.state == "running")
        .order_by(WorkRow.id)
    ).all()
    found = []
    for work, n_epochs in held:
        silent_s = 0.0 if work.beat_at is None else (now - work.beat_at).total_seconds()
        found.append(
            Running(
                stage=work.stage,
                name=stage_name(work.stage, work.length, row.lengths),
                slot=work.slot,
                epoch=n_epochs,
                length=work.length,
                owner=work.owner or "",
                silent_s=max(0.0, silent_s),
                stale=silent_s > row.grace_s,
            )
        )
    return found


def _now(session: Session) -> datetime:
    """Return the database's clock as its DateTime columns hold it: UTC, without a zone."""
    moment = session.execute(select(func.now())).scalar_one()
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _workers(
    session: Session, row: StudyRow, running: Iterable[Running], now: datetime
) -> list[Worker]:
    """Return who has joined; one that holds a run shows life by that run's beat."""
    beats = {run.owner: run.silent_s for run in running}
    joined = session.scalars(
        select(WorkerRow).where(WorkerRow.study_id == row.id).order_by(WorkerRow.joined_at)
    )
    found = []
    for worker in joined:
        seen_s = max(0.0, (now - worker.seen_at).total_seconds())
        silent_s = beats.get(worker.name, seen_s)
        found.append(
            Worker(
                name=worker.name,
                host=worker.name.partition(":")[0],
                device=worker.device,
                silent_s=silent_s,
                stale=silent_s > row.grace_s,
                waits_for=None if worker.name in beats else worker.waits_for,
            )
        )
    return found


def _failures(session: Session, row: StudyRow) -> list[Failures]:
    attempts = case(
        (WorkRow.failure == "died", WorkRow.deaths),
        (WorkRow.failures == 0, 1),  # a failure of the place is recorded once and not counted
        else_=WorkRow.failures,
    )
    kinds = session.execute(
        select(WorkRow.failure, func.count(), func.sum(attempts), func.max(WorkRow.id))
        .where(WorkRow.study_id == row.id, or_(WorkRow.failures > 0, WorkRow.failure.is_not(None)))
        .group_by(WorkRow.failure)
    ).all()
    last = select(WorkRow.id, WorkRow.traceback).where(WorkRow.id.in_([k[3] for k in kinds]))
    texts = {work_id: text for work_id, text in session.execute(last)}
    found = [
        Failures(
            kind=kind,
            n_runs=n,
            n_attempts=int(total),
            last_line=last_line(text) if (text := texts[work_id]) else None,
        )
        for kind, n, total, work_id in kinds
    ]
    return sorted(found, key=lambda failures: (failures.kind is None, failures.kind or ""))


def _best(session: Session, row: StudyRow) -> Best | None:
    score = WorkRow.score.desc() if row.direction == "maximize" else WorkRow.score.asc()
    work = session.scalars(
        select(WorkRow)
        .where(
            WorkRow.study_id == row.id,
            WorkRow.stage == "search",
            WorkRow.state == "done",
            WorkRow.score.is_not(None),
        )
        .order_by(WorkRow.length.desc(), score, WorkRow.slot)
        .limit(1)
    ).first()
    if work is None or work.score is None:
        return None
    return Best(slot=work.slot, length=work.length, score=work.score, params=params_of(work))


def _seconds_left(
    session: Session,
    row: StudyRow,
    plan: Iterable[StageCost],
    stages: Iterable[StageCounts],
    running: Iterable[Running],
) -> float | None:
    """Return remaining images / images per second of one worker so far / workers that live."""
    images, seconds = session.execute(
        select(func.sum(WorkRow.n_images), func.sum(WorkRow.seconds)).where(
            WorkRow.study_id == row.id, WorkRow.state == "done"
        )
    ).one()
    n_workers = len({run.owner for run in running if not run.stale})
    per_run = {c.name: c.n_images / c.n_runs for c in plan if c.n_runs}
    if not (images and seconds and n_workers and per_run):
        return None
    rest = sum((s.total - s.done - s.given_up) * per_run.get(s.name, 0.0) for s in stages)
    begun = sum(per_run.get(r.name, 0.0) * r.epoch / r.length for r in running)
    return float((rest - begun) / (float(images) / seconds) / n_workers)
