"""Stage 1: sweeps -> bracket and proposal, once for each batch size that is searched."""

from dataclasses import replace

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from studies.definition import RangeTest, Study
from studies.protocol import stored_range_test
from studies.registry import Definition
from studies.tables import PointRecord, StudyRow, WorkRow
from trainers.run import Point
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import Points, RangeTestResult, concluded
from trainers.sweeps.sweep import Sweep


def with_stored_range_test(definition: Definition, study: StudyRow) -> Definition:
    """Return the definition with the range test that the study was stored with.

    It may have been asked for beside the file, and is the study's from then on.
    """
    settings = stored_range_test(study.declared)
    return replace(definition, study=replace(definition.study, range_test=settings))


def work_of(row: StudyRow, study: Study) -> list[WorkRow]:
    """Return the rows of work of all range tests: one per sweep, the slow one of each last."""
    settings = study.range_test
    lengths = [settings.n_steps] * settings.n_sweeps + [settings.slow_steps]
    sizes = study.batch_sizes if row.batch_sizes else (None,)
    found = [(size, length) for size in sizes for length in lengths]
    return [
        WorkRow(
            study_id=row.id,
            stage="range_test",
            round=0,
            length=length,
            slot=slot,
            batch_size=size,
        )
        for slot, (size, length) in enumerate(found)
    ]


def batch_sizes(study: StudyRow) -> tuple[int, ...]:
    """Return the batch sizes that have a range test in a study, the baseline's first."""
    others = sorted(map(int, study.batch_sizes or {}))
    return (study.batch_size, *(size for size in others if size != study.batch_size))


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
    batch_size: int | None = None,
    cycle_steps: int | None = None,
    adaptive: bool = False,
) -> RangeTestResult:
    """Return what the finished sweeps of a study measured and say; read from their raw points.

    Those of one batch size: the baseline's where it is None. The bracket is the frozen one where
    the study has one already; `cycle_steps` and `adaptive` matter only until then.
    """
    settings = stored_range_test(study.declared)
    size = study.batch_size if batch_size is None else batch_size
    mine = _sweeps_of(study, size)
    sweeps = _points(session, mine)
    seconds = session.scalar(select(func.sum(WorkRow.seconds)).where(mine))
    n_runs = settings.n_sweeps + 1
    slow = next((sweeps.pop(slot) for slot in list(sweeps) if slot % n_runs == n_runs - 1), None)
    result = concluded(
        plan(settings, n_steps=settings.n_steps, adaptive=adaptive),
        tuple(sweeps.values()),
        slow,
        seconds=seconds or 0.0,
        cycle_steps=cycle_steps,
    )
    return replace(result, proposal=_frozen(result.proposal, study, size))


def measured_at_all(session: Session, study: StudyRow) -> RangeTestResult:
    """Return the same with the range tests of the other batch sizes, where they are searched."""
    others = {n: measured(session, study, batch_size=n) for n in batch_sizes(study)[1:]}
    return replace(measured(session, study), others=others)


def _sweeps_of(study: StudyRow, batch_size: int) -> ColumnElement[bool]:
    """Return the condition that a row is a sweep with that batch size."""
    return and_(
        WorkRow.study_id == study.id,
        WorkRow.stage == "range_test",
        or_(WorkRow.batch_size == batch_size, WorkRow.batch_size.is_(None)),
    )


def _points(session: Session, mine: ColumnElement[bool]) -> dict[int, Points]:
    rows = session.execute(
        select(WorkRow.slot, PointRecord)
        .join(PointRecord, PointRecord.work_id == WorkRow.id)
        .where(mine)
        .order_by(WorkRow.slot, PointRecord.step)
    )
    found: dict[int, list[Point]] = {}
    for slot, record in rows:
        found.setdefault(slot, []).append(_point(record))
    return {slot: tuple(points) for slot, points in found.items()}


def _point(record: PointRecord) -> Point:
    loss = float("nan") if record.loss is None else record.loss
    return Point(record.step, record.lr, loss, record.grad_norm, tuple(record.other_lrs or ()))


def _frozen(said: Proposal | None, study: StudyRow, batch_size: int) -> Proposal | None:
    """Return what was frozen in the study in place of what another version would read now."""
    if said is None or study.edge is None:
        return said
    assert study.bracket_low is not None
    assert study.bracket_high is not None
    assert study.proposal is not None
    edge, proposal = study.edge, study.proposal
    if batch_size != study.batch_size:
        found = (study.batch_sizes or {})[str(batch_size)]
        edge, proposal = found["edge"], found["proposal"]
    moved = proposal / study.proposal
    return replace(
        said,
        edge=edge,
        low=moved * study.bracket_low,
        high=moved * study.bracket_high,
        max_lr=proposal,
    )


def conclude(session: Session, row: StudyRow, study: Study) -> str | None:
    """Freeze bracket and proposal in `row`; return why not, where the sweeps do not say.

    With several batch sizes the proposal is one of each, and the bracket reaches as far around all
    of them as it does around any.
    """
    found: dict[int, Proposal] = {}
    for size in study.batch_sizes:
        result = measured(
            session,
            row,
            batch_size=size,
            cycle_steps=study.steps_of(study.full_epochs, batch_size=size),
            adaptive=study.task.adaptive,
        )
        at = f"at batch_size {size}, " if row.batch_sizes else ""
        if not result.points:
            return f"{at}every sweep of the range test was given up"
        if result.proposal is None:
            return f"{at}{result.why_no_proposal()}"
        found[size] = result.proposal
    own, *others = found.values()
    row.edge, row.proposal = own.edge, own.max_lr
    row.bracket_low = min([own.low, *(own.max_lr * said.low / said.max_lr for said in others)])
    row.bracket_high = max([own.high, *(own.max_lr * said.high / said.max_lr for said in others)])
    if row.batch_sizes:
        row.batch_sizes = {
            str(size): {
                **row.batch_sizes[str(size)],
                "edge": said.edge,
                "proposal": said.max_lr,
            }
            for size, said in found.items()
        }
    return None
