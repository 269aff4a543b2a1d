"""Stage 1: sweeps -> bracket and proposal, once for each setting that moves the edge."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from studies.counts import counted_as_stored
from studies.definition import RangeTest, Study
from studies.params import Value, setting_text, size_of
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
    each: list[Mapping[str, Value] | None] = [*row.settings.values()] or [None]
    sweeps = [(setting, steps) for setting in each for steps in lengths]
    return [
        WorkRow(
            study_id=row.id,
            stage=Stage.RANGE_TEST,
            round=0,
            sweep_steps=steps,
            slot=slot,
            params=None if setting is None else dict(setting),
        )
        for slot, (setting, steps) in enumerate(sweeps)
    ]


def sweep_of(
    settings: RangeTest,
    *,
    n_steps: int,
    adaptive: bool | None,
    momentum: float | None = 0.85,
) -> Sweep:
    """Return the plan of a sweep of `n_steps` steps; `adaptive` and `momentum`: as in a Sweep."""
    return Sweep(
        start_lr=settings.start_lr,
        end_lr=settings.end_lr,
        total_steps=n_steps,
        adaptive=adaptive,
        momentum=momentum,
    )


def measured(
    session: Session,
    row: StudyRow,
    *,
    setting: str | None = None,
    cycle_steps: int | None = None,
    adaptive: bool = False,
) -> RangeTestResult:
    """Return what the finished sweeps of a study measured and say; read from their raw points.

    Those of one setting: the baseline's where it is None. The bracket is the frozen one where the
    study has one already; `cycle_steps` and `adaptive` matter only until then, and the sweeps'
    own word for their optimizer goes before `adaptive`.
    """
    settings = stored_range_test(row.declared)
    key = next(iter(row.settings), None) if setting is None else setting
    mine = _sweeps_of(row, key)
    sweeps = _points(session, mine)
    seconds = session.scalar(select(func.sum(WorkRow.seconds)).where(mine))
    n_runs = settings.n_sweeps + 1
    # work_of() puts the slow sweep of each batch size last.
    slow = next((sweeps.pop(slot) for slot in list(sweeps) if slot % n_runs == n_runs - 1), None)
    result = concluded(
        sweep_of(settings, n_steps=settings.n_steps, adaptive=_seen(session, mine, adaptive)),
        tuple(sweeps.values()),
        slow,
        seconds=seconds or 0.0,
        cycle_steps=cycle_steps,
    )
    return replace(result, proposal=_frozen(result.proposal, row, key))


def _seen(session: Session, mine: ColumnElement[bool], adaptive: bool) -> bool:
    """Return whether the optimizer that the sweeps met is adaptive; what is said, without one."""
    for work in session.scalars(select(WorkRow).where(mine).order_by(WorkRow.slot)):
        if work.driven is not None and work.driven.adaptive is not None:
            return work.driven.adaptive
    return adaptive


def measured_at_all(session: Session, row: StudyRow) -> RangeTestResult:
    """Return the same with the range tests of the other settings, where several have one."""
    others = {key: measured(session, row, setting=key) for key in list(row.settings)[1:]}
    return replace(measured(session, row), others=others)


def _sweeps_of(row: StudyRow, key: str | None) -> ColumnElement[bool]:
    """Return the condition that a row is a sweep of that setting."""
    setting = {} if key is None else row.settings[key]
    # Without parameters a sweep is of the only setting there is.
    mine = or_(WorkRow.params.is_(None), *([and_(*_has(setting))] if setting else []))
    return and_(WorkRow.study_id == row.id, WorkRow.stage == Stage.RANGE_TEST, mine)


def _has(setting: Mapping[str, Value]) -> Iterator[ColumnElement[bool]]:
    for name, value in setting.items():
        stored = WorkRow.params[name]
        if isinstance(value, bool):
            yield stored.as_boolean() == value
        elif isinstance(value, int):
            yield stored.as_integer() == value
        elif isinstance(value, float):
            yield stored.as_float() == value
        else:
            yield stored.as_string() == value


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


def _frozen(proposal: Proposal | None, row: StudyRow, key: str | None) -> Proposal | None:
    """Return what was frozen in the study in place of what another version would read now."""
    if proposal is None or row.edge is None:
        return proposal
    assert row.bracket_low is not None
    assert row.bracket_high is not None
    assert row.proposed_max_lr is not None
    edge, max_lr = row.edge, row.proposed_max_lr
    if key is not None:
        frozen = (row.batch_sizes or {})[key]
        edge, max_lr = frozen["edge"], frozen["proposal"]
    # The brackets of all settings reach equally far around their proposals (conclude).
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

    With several settings the proposal is one of each, and the bracket reaches as far around all of
    them as it does around any.
    """
    proposals: dict[str, Proposal] = {}
    for key, setting in (row.settings or {"": {}}).items():
        result = measured(
            session,
            row,
            setting=key or None,
            cycle_steps=study.steps_of(study.epochs, batch_size=size_of(setting)),
            adaptive=study.task.adaptive,
        )
        at = f"at {setting_text(key)}, " if key else ""
        if not result.points:
            return f"{at}every sweep of the range test was given up"
        if result.proposal is None:
            return f"{at}{result.why_no_proposal()}"
        proposals[key] = result.proposal
    own, *others = proposals.values()
    row.edge, row.proposed_max_lr = own.edge, own.max_lr
    row.bracket_low = min([own.low, *(own.max_lr * each.low / each.max_lr for each in others)])
    row.bracket_high = max([own.high, *(own.max_lr * each.high / each.max_lr for each in others)])
    if row.batch_sizes:
        row.batch_sizes = {
            key: {**row.batch_sizes[key], "edge": proposal.edge, "proposal": proposal.max_lr}
            for key, proposal in proposals.items()
        }
    return None
