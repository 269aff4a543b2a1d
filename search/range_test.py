"""Stage 1: sweeps -> bracket and proposal."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from studies.definition import RangeTest
from studies.tables import PointRecord, StudyRow, WorkRow
from trainers.judgement import Judgement, Proposal, judge, propose, why_no_proposal
from trainers.sweep import LRCurve, Sweep


def work_of(study: StudyRow, settings: RangeTest) -> list[WorkRow]:
    """Return the rows of work of a range test: one per sweep."""
    return [
        WorkRow(study_id=study.id, stage="range_test", round=0, length=settings.n_steps, slot=slot)
        for slot in range(settings.n_sweeps)
    ]


def plan(settings: RangeTest) -> Sweep:
    """Return the plan that every sweep of this range test follows."""
    return Sweep(start_lr=settings.start_lr, end_lr=settings.end_lr, total_steps=settings.n_steps)


def curves(session: Session, study_id: str) -> dict[int, LRCurve]:
    """Return the measured curve of each finished sweep, by slot."""
    rows = session.execute(
        select(WorkRow.slot, PointRecord.lr, PointRecord.loss)
        .join(PointRecord, PointRecord.work_id == WorkRow.id)
        .where(WorkRow.study_id == study_id, WorkRow.stage == "range_test")
        .order_by(WorkRow.slot, PointRecord.step)
    ).all()
    points: dict[int, list[tuple[float, float]]] = {}
    for slot, lr, loss in rows:
        points.setdefault(slot, []).append((lr, float("nan") if loss is None else loss))
    return {
        slot: LRCurve(tuple(lr for lr, _ in sweep), tuple(loss for _, loss in sweep))
        for slot, sweep in points.items()
    }


def judgements(session: Session, study_id: str) -> dict[int, Judgement]:
    """Return what each finished sweep says, computed anew from its raw points."""
    return {slot: judge(curve) for slot, curve in curves(session, study_id).items()}


def proposal(session: Session, study_id: str) -> Proposal | None:
    """Return what the finished sweeps propose; None unless most of them rebounded."""
    return propose(list(judgements(session, study_id).values()))


def conclude(session: Session, study: StudyRow, settings: RangeTest) -> str | None:
    """Freeze bracket and proposal in `study`; return why not, where the sweeps do not say."""
    verdicts = list(judgements(session, study.id).values())
    if not verdicts:
        return "every sweep of the range test was given up"
    said = propose(verdicts)
    if said is None:
        return why_no_proposal(verdicts, start_lr=settings.start_lr, end_lr=settings.end_lr)
    study.centre, study.proposal = said.centre, said.max_lr
    study.bracket_low, study.bracket_high = said.low, said.high
    return None
