"""The product's confirmation of a simulated search, on a database in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from uuid import uuid4

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from benchmarks.judge.answers import Shown
from benchmarks.simulate import SimulatedCycle
from search.params import Params
from search.stages import confirmation
from studies.answer import Answer, Comparison
from studies.definition import Study
from studies.protocol import declared
from studies.states import RunState, Stage
from studies.tables import Base, StudyRow, WorkRow
from trainers.seeding import run_seed_for
from trainers.sweeps.judgement import Proposal
from trainers.table import Table


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The slot that was picked, and what its pairs with the baseline show."""

    winner: int
    shown: Shown


def confirmed(
    study: Study,
    table: Table,
    cycles: Sequence[SimulatedCycle],
    proposal: Proposal,
    *,
    seed: int,
) -> Confirmed:
    """Confirm a search as a single worker does; every cycle is looked up in the table."""
    with Session(_engine()) as session:
        row = _row(study, proposal, seed=seed)
        session.add(row)
        session.add_all(_searched(row, cycle, study) for cycle in cycles)
        session.flush()
        runs = confirmation.open_round(session, row, study)
        while isinstance(runs, list):
            for work in runs:
                _train(work, study, table, seed=seed)
            session.add_all(runs)
            session.flush()
            runs = confirmation.go_on(session, row, study)
        session.rollback()
    if not isinstance(runs, Answer):
        return Confirmed(0, "no")  # every cycle broke: nothing is better than the baseline
    comparison = runs.comparisons[-1] if runs.compared else None
    return Confirmed(runs.winner, _shown(comparison, study))


def _shown(comparison: Comparison | None, study: Study) -> Shown:
    if comparison is None or not comparison.shown:
        return "no"
    better = (comparison.difference.mean > 0) == (study.direction == "maximize")
    return "better" if better else "worse"


@cache
def _engine() -> Engine:
    engine = create_engine(
        "sqlite://", connect_args={"check_same_thread": False}, poolclass=StaticPool
    )
    Base.metadata.create_all(engine)
    return engine


def _row(study: Study, proposal: Proposal, *, seed: int) -> StudyRow:
    return StudyRow(
        id=str(uuid4()),
        name=study.name,
        spec=study.name,
        source="",
        declared=declared(study, ""),
        seed=seed,
        direction=study.direction,
        metric=study.metric,
        diverged_value=study.diverged_value,
        batch_size=study.task.batch_size,
        steps_per_epoch=study.task.steps_per_epoch,
        n_trials=study.screening.n_trials,
        exact=study.screening.exact,
        epochs=study.epochs,
        beat_s=5.0,
        grace_s=30.0,
        stage=Stage.CONFIRMATION,
        edge=proposal.edge,
        bracket_low=proposal.low,
        bracket_high=proposal.high,
        proposed_max_lr=proposal.max_lr,
    )


def _searched(row: StudyRow, cycle: SimulatedCycle, study: Study) -> WorkRow:
    work = WorkRow(
        study_id=row.id,
        stage=Stage.SEARCH,
        round=0,
        epochs=row.epochs,
        slot=cycle.slot,
        params=dict(cycle.params),
    )
    _ended(work, study, score=cycle.score)
    return work


def _train(work: WorkRow, study: Study, table: Table, *, seed: int) -> None:
    plan = Params(**(work.params or {})).plan(study.cycle_steps)
    run_seed = run_seed_for(seed, "confirmation", work.round, work.replicate or 0)
    score, sealed = table.scores(plan, epochs=study.epochs, seed=run_seed)
    work.sealed_score = sealed
    _ended(work, study, score=score)


def _ended(work: WorkRow, study: Study, *, score: float) -> None:
    worst, sign = study.diverged_value, 1 if study.direction == "maximize" else -1
    assert worst is not None
    broke = sign * score <= sign * worst
    work.state, work.score = RunState.DONE, worst if broke else score
    work.outcome = "did not learn" if broke else "completed"
