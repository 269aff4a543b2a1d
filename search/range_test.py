"""Stage 1: sweeps -> bracket and proposal."""

from dataclasses import replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from studies.definition import RangeTest
from studies.protocol import stored_range_test
from studies.registry import Definition
from studies.tables import PointRecord, StudyRow, WorkRow
from trainers.judgement import Proposal
from trainers.range_test_result import Points, RangeTestResult, concluded
from trainers.run import Point
from trainers.sweep import Sweep


def with_stored_range_test(definition: Definition, study: StudyRow) -> Definition:
    """Return the definition with the range test that the study was stored with.

    It may have been asked for beside the file, and is the study's from then on.
    """
    settings = stored_range_test(study.declared)
    return replace(definition, study=replace(definition.study, range_test=settings))


def work_of(study: StudyRow, settings: RangeTest) -> list[WorkRow]:
    """Return the rows of work of a range test: one per sweep, the slow one last."""
    lengths = [settings.n_steps] * settings.n_sweeps + [settings.slow_steps]
    return [
        WorkRow(study_id=study.id, stage="range_test", round=0, length=length, slot=slot)
        for slot, length in enumerate(lengths)
    ]


def plan(settings: RangeTest, *, n_steps: int, adaptive: bool) -> Sweep:
    """Return the plan of a sweep of `n_steps` steps; `adaptive`: Adam's kind of optimizer."""
    return Sweep(
        start_lr=settings.start_lr,
        end_lr=settings.end_lr,
        total_steps=n_steps,
        adaptive=adaptive,
    )


def measured(
    session: Session,
    study: StudyRow,
    *,
    cycle_steps: int | None = None,
    adaptive: bool = False,
) -> RangeTestResult:
    """Return what the finished sweeps of a study measured and say; read from their raw points.

    The bracket is the frozen one where the study has one already; `cycle_steps` and `adaptive`
    matter only until then.
    """
    settings = stored_range_test(study.declared)
    sweeps = _points(session, study.id)
    mine = (WorkRow.study_id == study.id, WorkRow.stage == "range_test")
    seconds = session.scalar(select(func.sum(WorkRow.seconds)).where(*mine))
    slow = sweeps.pop(settings.n_sweeps, None)
    result = concluded(
        plan(settings, n_steps=settings.n_steps, adaptive=adaptive),
        tuple(sweeps.values()),
        slow,
        seconds=seconds or 0.0,
        cycle_steps=cycle_steps,
    )
    return replace(result, proposal=_frozen(result.proposal, study))


def _points(session: Session, study_id: str) -> dict[int, Points]:
    rows = session.execute(
        select(WorkRow.slot, PointRecord)
        .join(PointRecord, PointRecord.work_id == WorkRow.id)
        .where(WorkRow.study_id == study_id, WorkRow.stage == "range_test")
        .order_by(WorkRow.slot, PointRecord.step)
    )
    found: dict[int, list[Point]] = {}
    for slot, record in rows:
        found.setdefault(slot, []).append(_point(record))
    return {slot: tuple(points) for slot, points in found.items()}


def _point(record: PointRecord) -> Point:
    loss = float("nan") if record.loss is None else record.loss
    return Point(record.step, record.lr, loss, record.grad_norm, tuple(record.other_lrs or ()))


def _frozen(said: Proposal | None, study: StudyRow) -> Proposal | None:
    """Return what was frozen in the study in place of what another version would read now."""
    if said is None or study.edge is None:
        return said
    assert study.bracket_low is not None
    assert study.bracket_high is not None
    assert study.proposal is not None
    return replace(
        said,
        edge=study.edge,
        low=study.bracket_low,
        high=study.bracket_high,
        max_lr=study.proposal,
    )


def conclude(session: Session, study: StudyRow, *, cycle_steps: int, adaptive: bool) -> str | None:
    """Freeze bracket and proposal in `study`; return why not, where the sweeps do not say."""
    result = measured(session, study, cycle_steps=cycle_steps, adaptive=adaptive)
    if not result.points:
        return "every sweep of the range test was given up"
    said = result.proposal
    if said is None:
        return result.why_no_proposal()
    study.edge, study.proposal = said.edge, said.max_lr
    study.bracket_low, study.bracket_high = said.low, said.high
    return None
