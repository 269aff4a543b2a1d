"""Stage 1: sweeps -> bracket and proposal, once for each batch size that is searched."""

from dataclasses import replace

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from studies.counts import counted_as_stored
from studies.definition import RangeTest, Study
from studies.protocol import stored_range_test
from studies.registry import Definition
from studies.states import Stage
from studies.tables import PointRecord, StudyRow, WorkRow
from trainers.run import Point
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import Points, RangeTestResult, concluded
from trainers.sweeps.sweep import Sweep


def with_stored_range_test(definition: Definition, row: StudyRow) -> Definition:
    """Return the definition with the range test and the counts that the study was stored with.

    They may have come from flags and from a folder, not from the file; the study keeps them.
    """
    definition = counted_as_stored(definition, row.declared)
    settings = stored_range_test(row.declared)
    return replace(definition, study=replace(definition.study, range_test=settings))


def work_of(row: StudyRow, study: Study) -> list[WorkRow]:
    """Return the rows of work of all range tests: one per sweep, the slow one of each last."""
    settings = study.range_test
    lengths = [settings.n_steps] * settings.n_sweeps + [settings.slow_steps]
    sizes = study.batch_sizes if row.batch_sizes else (None,)
    sweeps = [(size, steps) for size in sizes for steps in lengths]
    return [
        WorkRow(
            study_id=row.id,
            stage=Stage.RANGE_TEST,
            round=0,
            sweep_steps=steps,
            slot=slot,
            params=None if size is None else {"batch_size": size},
        )
        for slot, (size, steps) in enumerate(sweeps)
    ]


def batch_sizes(row: StudyRow) -> tuple[int, ...]:
    """Return the batch sizes that have a range test in a study, the baseline's first."""
    others = sorted(map(int, row.batch_sizes or {}))
    return (row.batch_size, *(size for size in others if size != row.batch_size))


def sweep_of(settings: RangeTest, *, n_steps: int, adaptive: bool) -> Sweep:
    """Return the plan of a sweep of `n_steps` steps; `adaptive`: an Adam-type optimizer."""
    return Sweep(
        start_lr=settings.start_lr,
        end_lr=settings.end_lr,
        total_steps=n_steps,
        adaptive=adaptive,
    )


def measured(
    session: Session,
    row: StudyRow,
    *,
    batch_size: int | None = None,
    cycle_steps: int | None = None,
    adaptive: bool = False,
) -> RangeTestResult:
    """Return what the finished sweeps of a study measured and say; read from their raw points.

    Those of one batch size: the baseline's where it is None. The bracket is the frozen one where
    the study has one already; `cycle_steps` and `adaptive` matter only until then.
    """
    settings = stored_range_test(row.declared)
    size = row.batch_size if batch_size is None else batch_size
    mine = _sweeps_of(row, size)
    sweeps = _points(session, mine)
    seconds = session.scalar(select(func.sum(WorkRow.seconds)).where(mine))
    n_runs = settings.n_sweeps + 1
    # work_of() puts the slow sweep of each batch size last.
    slow = next((sweeps.pop(slot) for slot in list(sweeps) if slot % n_runs == n_runs - 1), None)
    result = concluded(
        sweep_of(settings, n_steps=settings.n_steps, adaptive=adaptive),
        tuple(sweeps.values()),
        slow,
        seconds=seconds or 0.0,
        cycle_steps=cycle_steps,
    )
    return replace(result, proposal=_frozen(result.proposal, row, size))


def measured_at_all(session: Session, row: StudyRow) -> RangeTestResult:
    """Return the same with the range tests of the other batch sizes, where they are searched."""
    others = {n: measured(session, row, batch_size=n) for n in batch_sizes(row)[1:]}
    return replace(measured(session, row), others=others)


def _sweeps_of(row: StudyRow, batch_size: int) -> ColumnElement[bool]:
    """Return the condition that a row is a sweep with that batch size."""
    return and_(
        WorkRow.study_id == row.id,
        WorkRow.stage == Stage.RANGE_TEST,
        # Without parameters a sweep is of the only batch size there is.
        or_(WorkRow.params["batch_size"].as_integer() == batch_size, WorkRow.params.is_(None)),
    )


def _points(session: Session, mine: ColumnElement[bool]) -> dict[int, Points]:
    rows = session.execute(
        select(WorkRow.slot, PointRecord)
        .join(PointRecord, PointRecord.work_id == WorkRow.id)
        .where(mine)
        .order_by(WorkRow.slot, PointRecord.step)
    )
    by_slot: dict[int, list[Point]] = {}
    for slot, record in rows:
        by_slot.setdefault(slot, []).append(_point(record))
    return {slot: tuple(points) for slot, points in by_slot.items()}


def _point(record: PointRecord) -> Point:
    # NULL stands for what was not finite (search.queue.rows.point_record).
    loss = float("nan") if record.loss is None else record.loss
    return Point(record.step, record.lr, loss, record.grad_norm, tuple(record.other_lrs or ()))


def _frozen(proposal: Proposal | None, row: StudyRow, batch_size: int) -> Proposal | None:
    """Return what was frozen in the study in place of what another version would read now."""
    if proposal is None or row.edge is None:
        return proposal
    assert row.bracket_low is not None
    assert row.bracket_high is not None
    assert row.proposed_max_lr is not None
    edge, max_lr = row.edge, row.proposed_max_lr
    if batch_size != row.batch_size:
        frozen = (row.batch_sizes or {})[str(batch_size)]
        edge, max_lr = frozen["edge"], frozen["proposal"]
    # The brackets of all batch sizes reach equally far around their proposals (conclude).
    moved = max_lr / row.proposed_max_lr
    return replace(
        proposal,
        edge=edge,
        low=moved * row.bracket_low,
        high=moved * row.bracket_high,
        max_lr=max_lr,
    )


def conclude(session: Session, row: StudyRow, study: Study) -> str | None:
    """Freeze bracket and proposal in `row`; return why not, where the sweeps do not say.

    With several batch sizes the proposal is one of each, and the bracket reaches as far around all
    of them as it does around any.
    """
    proposals: dict[int, Proposal] = {}
    for size in study.batch_sizes:
        result = measured(
            session,
            row,
            batch_size=size,
            cycle_steps=study.steps_of(study.epochs, batch_size=size),
            adaptive=study.task.adaptive,
        )
        at = f"at batch_size {size}, " if row.batch_sizes else ""
        if not result.points:
            return f"{at}every sweep of the range test was given up"
        if result.proposal is None:
            return f"{at}{result.why_no_proposal()}"
        proposals[size] = result.proposal
    own, *others = proposals.values()
    row.edge, row.proposed_max_lr = own.edge, own.max_lr
    row.bracket_low = min([own.low, *(own.max_lr * each.low / each.max_lr for each in others)])
    row.bracket_high = max([own.high, *(own.max_lr * each.high / each.max_lr for each in others)])
    if row.batch_sizes:
        row.batch_sizes = {
            str(size): {
                **row.batch_sizes[str(size)],
                "edge": proposal.edge,
                "proposal": proposal.max_lr,
            }
            for size, proposal in proposals.items()
        }
    return None
