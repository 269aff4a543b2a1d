"""How a study stands, from the database alone: counts, who runs what, failures, time left."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, case, func, or_, select
from sqlalchemy.orm import Session, undefer

from search.params import Params
from search.queue.rows import params_of, search_rows, stored_study
from search.results.curves import EpochPoint, StepPoint, epoch_points, step_points
from search.results.remaining import remaining
from search.results.result import StudyResult, result_of
from search.results.short import call_line
from search.results.verdict import short_verdict
from search.stages import range_test
from search.starting.catalog import find
from search.starting.cost import StageCost, costs
from search.tracebacks import headline
from studies.answer import SearchEnd
from studies.clock import database_now
from studies.database import reading
from studies.definition import Study
from studies.registry import load
from studies.states import ENDED_RUNS, STAGES, FailureKind, RunOutcome, RunState, Stage
from studies.tables import EpochRecord, StudyRow, WorkerRow, WorkRow
from trainers.errors import UserError
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import max_lr_text, range_text


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCounts:
    """Runs of one stage by state; `total` is at least the plan's until it has ended.

    `at_most`: the stage may end by itself before that many.
    """

    stage: Stage
    name: str
    done: int
    running: int
    waiting: int
    given_up: int
    total: int
    at_most: bool = False

    @property
    def total_text(self) -> str:
        """The total as it is shown."""
        return f"at most {self.total}" if self.at_most else str(self.total)


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A run that a worker holds; `silent_s`: since its last beat, by the database's clock.

    `length`: epochs of a cycle, steps of a sweep; `epoch`: the last one that has ended, of which
    `images_per_s` tells the speed. `step` of `total_steps` is the last that was reported, 0 where
    none is known yet; `by_epoch` and `by_step` are how it learned so far.
    """

    stage: Stage
    name: str
    slot: int
    epoch: int
    length: int
    params: Params | None
    images_per_s: float | None
    owner: str
    silent_s: float
    stale: bool
    step: int
    total_steps: int
    by_epoch: tuple[EpochPoint, ...]
    by_step: tuple[StepPoint, ...]

    @property
    def share_done(self) -> float:
        """How much of the run is over, between 0 and 1."""
        epochs = 0.0 if self.stage == Stage.RANGE_TEST else self.epoch / self.length
        return min(1.0, max(epochs, self.step / self.total_steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A worker that has joined; `waits_for` is None where a run is held, or about to be."""

    name: str
    host: str
    device: str
    silent_s: float
    stale: bool
    waits_for: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """Failed attempts of the runs whose last failure was of one kind; None: they finished since.

    `last_line` is the exception that ended the traceback of one of them.
    """

    kind: FailureKind | None
    n_runs: int
    n_attempts: int
    last_line: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best configuration so far, among the cycles of the search that have ended."""

    slot: int
    length: int
    score: float
    params: Params | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedRun:
    """A run that has ended or was given up, in a few words."""

    stage: Stage
    slot: int
    state: RunState
    params: Params | None
    outcome: RunOutcome | None
    score: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """A study at one moment; `seconds_left` and its range are None where that is not known, and
    `time_left` says it, or why not (search.results.remaining).

    `proposal` is the baseline's max_lr, and `max_lr` that in words: whose it is. Of a finished
    study `recommended` is the slot that is its answer, `answer` says so in a sentence, and `call`
    is its OneCycleLR.

    Images are training images: `images_total` is what the plan costs, 0 without a plan, and
    `images_per_s` what all workers that live train together, None before the first run has ended.
    `search_end`: where the search ended by itself.
    """

    study: str
    stage: Stage
    ended: bool
    reason: str | None
    grace_s: float
    stages: tuple[StageCounts, ...]
    running: tuple[Running, ...]
    workers: tuple[Worker, ...]
    failures: tuple[Failures, ...]
    best: Best | None
    proposal: float | None
    max_lr: str | None
    recommended: int | None
    answer: str | None
    call: str | None
    images_done: int
    images_total: int
    images_per_s: float | None
    seconds_left: float | None
    seconds_left_range: tuple[float, float] | None
    time_left: str
    search_end: SearchEnd | None

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain JSON values."""
        document = asdict(self)
        for shown, seen in zip(document["running"], self.running, strict=True):
            shown["params"] = None if seen.params is None else dict(seen.params)
        if self.best is not None:
            params = self.best.params
            document["best"]["params"] = None if params is None else dict(params)
        return document


def stored_definition(row: StudyRow) -> Study | None:
    """Return what a stored study was made from; None where this host has none, or another."""
    try:
        definition = load(row.spec)
    except UserError:
        return None
    return definition.study if definition.source == row.source else None


def overview(engine: Engine, name: str, plan: Sequence[StageCost] = ()) -> Overview:
    """Return how a stored study stands; `plan` adds what stages to come will cost.

    A plan of one stage alone leaves the others out. Raises UnknownStudyError where no study of
    that name is stored.
    """
    row = find(engine, name)
    with reading(engine) as session:
        row = stored_study(session, row)  # as it is now, together with its runs
        stored = range_test.frozen(row)
        stages = tuple(_stages(session, row, plan))
        now = database_now(session)
        running = tuple(_running(session, row, now))
        per_run = {cost.stage: cost.n_images / cost.n_runs for cost in plan if cost.n_runs}
        done = sum((s.done + s.given_up) * per_run.get(s.stage, 0.0) for s in stages)
        done += sum(per_run.get(run.stage, 0.0) * run.share_done for run in running)
        total = sum(max(s.total, 0) * per_run.get(s.stage, 0.0) for s in stages)
        result, left = _result(session, row), remaining(session, row, plan, now)
        return Overview(
            study=row.name,
            stage=row.stage,
            ended=row.stage.is_end,
            reason=row.reason,
            grace_s=row.grace_s,
            stages=stages,
            running=running,
            workers=tuple(_workers(session, row, running, now)),
            failures=tuple(_failures(session, row)),
            best=_best(session, row),
            proposal=row.proposed_max_lr,
            max_lr=None if stored is None else _max_lr(stored),
            recommended=None if result is None else result.recommended.slot,
            answer=None if result is None else short_verdict(result),
            call=None if result is None else call_line(result),
            images_done=int(done),
            images_total=int(total),
            images_per_s=left.images_per_s,
            seconds_left=None if left.time is None else left.time.seconds,
            seconds_left_range=None if left.time is None else (left.time.low, left.time.high),
            time_left=left.text,
            search_end=row.search_end,
        )


def _result(session: Session, row: StudyRow) -> StudyResult | None:
    if row.stage != Stage.FINISHED or row.answer is None:
        return None
    return result_of(session, row, range_test.measured_at_all(session, row))


def _max_lr(stored: Proposal) -> str:
    """Return the baseline's max_lr, and the range as well where no bracket says it."""
    return max_lr_text(stored) if stored.origin == "edge" else range_text(stored)


def plan_of(row: StudyRow, definition: Study | None) -> tuple[StageCost, ...]:
    """Return what a stored study costs; nothing where its definition is not known here."""
    return () if definition is None else costs(definition, n_trials=row.n_trials, exact=row.exact)


def ended_since(engine: Engine, study_id: str, known: set[int]) -> dict[int, EndedRun]:
    """Return the runs that have ended by their id, without those that are `known` already.

    Only the new ones are read whole: a study may have many thousands.
    """
    with reading(engine) as session:
        ended = select(WorkRow.id).where(
            WorkRow.study_id == study_id, WorkRow.state.in_(ENDED_RUNS)
        )
        ids = session.scalars(ended.order_by(WorkRow.id)).all()
        works = [session.get_one(WorkRow, each) for each in ids if each not in known]
    return {
        work.id: EndedRun(
            stage=work.stage,
            slot=work.slot,
            state=work.state,
            params=params_of(work),
            outcome=work.outcome,
            score=work.score,
        )
        for work in works
    }


def _stages(session: Session, row: StudyRow, plan: Sequence[StageCost]) -> list[StageCounts]:
    rows = session.execute(
        select(WorkRow.stage, WorkRow.state, func.count())
        .where(WorkRow.study_id == row.id)
        .group_by(WorkRow.stage, WorkRow.state)
    ).all()
    planned = {c.stage: c.most_runs if c.stage == Stage.SEARCH else c.n_runs for c in plan}
    counts: dict[Stage, Counter[RunState]] = {}
    for stage, state, n in rows:
        counts.setdefault(stage, Counter())[state] += n
    shown = [stage for stage in STAGES if stage in (planned or counts)]
    return [
        replace(
            _counts(
                stage,
                counts.get(stage, Counter()),
                planned.get(stage, 0),
                is_open=stage == row.stage,
            ),
            at_most=stage == Stage.SEARCH and row.may_end_search,
        )
        for stage in shown
    ]


def _counts(
    stage: Stage, by_state: Counter[RunState], planned: int, *, is_open: bool
) -> StageCounts:
    opened = by_state.total()
    return StageCounts(
        stage=stage,
        name=stage.words,
        done=by_state[RunState.DONE],
        running=by_state[RunState.RUNNING],
        waiting=by_state[RunState.WAITING],
        given_up=by_state[RunState.FAILED],
        # A stage may open more runs while it goes on.
        total=max(opened, planned) if is_open else opened or planned,
    )


def _running(session: Session, row: StudyRow, now: datetime) -> list[Running]:
    held = session.scalars(
        select(WorkRow)
        .where(WorkRow.study_id == row.id, WorkRow.state == RunState.RUNNING)
        .options(undefer(WorkRow.curve))
        .order_by(WorkRow.id)
    ).all()
    records = session.scalars(
        select(EpochRecord)
        .where(EpochRecord.work_id.in_([work.id for work in held]))
        .order_by(EpochRecord.epoch)
    )
    by_run: dict[int, list[EpochRecord]] = {}
    for record in records:
        by_run.setdefault(record.work_id, []).append(record)
    running = []
    for work in held:
        # PostgreSQL's now() is when our transaction began: a beat read after that may be younger.
        silent_s = 0.0 if work.beat_at is None else (now - work.beat_at).total_seconds()
        epochs = by_run.get(work.id, [])
        epoch, total_steps = epochs[-1] if epochs else None, _total_steps(row, work)
        running.append(
            Running(
                stage=work.stage,
                name=work.stage.words,
                slot=work.slot,
                epoch=0 if epoch is None else epoch.epoch,
                length=work.length,
                params=params_of(work),
                images_per_s=None if epoch is None else epoch.images_per_s,
                owner=work.owner or "",
                silent_s=max(0.0, silent_s),
                stale=silent_s > row.grace_s,
                step=work.step or 0,
                total_steps=total_steps,
                by_epoch=epoch_points(
                    epochs, steps_per_epoch=total_steps // work.length, total_steps=total_steps
                ),
                by_step=step_points(work.curve),
            )
        )
    return running


def _total_steps(row: StudyRow, work: WorkRow) -> int:
    if work.epochs is None:
        return work.length
    params = params_of(work)
    return work.epochs * (
        row.steps_per_epoch if params is None else row.steps_per_epoch_of(params)
    )


def _workers(
    session: Session, row: StudyRow, running: Iterable[Running], now: datetime
) -> list[Worker]:
    """Return who has joined; one that holds a run shows life by that run's beat."""
    beats = {run.owner: run.silent_s for run in running}
    joined = session.scalars(
        select(WorkerRow).where(WorkerRow.study_id == row.id).order_by(WorkerRow.joined_at)
    )
    workers = []
    for worker in joined:
        seen_s = max(0.0, (now - worker.seen_at).total_seconds())
        silent_s = beats.get(worker.name, seen_s)
        workers.append(
            Worker(
                name=worker.name,
                host=worker.name.partition(":")[0],
                device=worker.device,
                silent_s=silent_s,
                stale=silent_s > row.grace_s,
                waits_for=None if worker.name in beats else worker.waits_for,
            )
        )
    return workers


def _failures(session: Session, row: StudyRow) -> list[Failures]:
    attempts = case(
        (WorkRow.failure == FailureKind.DIED, WorkRow.deaths),
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
    by_kind = [
        Failures(
            kind=kind,
            n_runs=n,
            n_attempts=int(total),
            last_line=headline(text) if (text := texts[work_id]) else None,
        )
        for kind, n, total, work_id in kinds
    ]
    return sorted(by_kind, key=lambda failures: (failures.kind is None, failures.kind or ""))


def _best(session: Session, row: StudyRow) -> Best | None:
    score = WorkRow.score.desc() if row.direction == "maximize" else WorkRow.score.asc()
    work = session.scalars(
        search_rows(row)
        .where(WorkRow.state == RunState.DONE, WorkRow.score.is_not(None))
        .order_by(score, WorkRow.slot)
        .limit(1)
    ).first()
    if work is None or work.score is None:
        return None
    return Best(slot=work.slot, length=work.length, score=work.score, params=params_of(work))
