"""Stage 1: sweeps -> bracket and proposal, once for each batch size that is searched."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from studies.definition import RangeTest, Study
from studies.protocol import stored_range_test
from studies.registry import Definition
from studies.states import Stage
from studies.tables import PointRecord, StudyRow, WorkRow
from trainers.run import Point
from trainers.sweeps.judgement import Origin, Proposal
from trainers.sweeps.ranges import middle_of, wide_range, within
from trainers.sweeps.result import Points, RangeTestResult, concluded, range_text
from trainers.sweeps.sweep import Sweep

log = logging.getLogger(__name__)


def with_stored_range_test(definition: Definition, row: StudyRow) -> Definition:
    """Return the definition with the range test that the study was stored with.

    It may have come from flags and not from the file; the study keeps it.
    """
    settings = stored_range_test(row.declared)
    return replace(definition, study=replace(definition.study, range_test=settings))


def work_of(row: StudyRow, study: Study) -> list[WorkRow]:
    """Return the rows of work of all range tests: one per sweep, the slow one of each last."""
    settings = study.range_test
    lengths = [settings.n_steps] * settings.n_sweeps + [settings.slow_steps]
    sweeps = [(size, steps) for size in study.swept_batch_sizes for steps in lengths]
    return [
        WorkRow(
            study_id=row.id,
            stage=Stage.RANGE_TEST,
            round=0,
            sweep_steps=steps,
            slot=slot,
            params={"batch_size": size} if row.batch_sizes else None,
        )
        for slot, (size, steps) in enumerate(sweeps)
    ]


def batch_sizes(row: StudyRow) -> tuple[int, ...]:
    """Return the batch sizes that have a range test in a study, the baseline's first."""
    others = [] if has_own_range(row) else sorted(map(int, row.batch_sizes or {}))
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
    return replace(result, proposal=_frozen(result, row, size))


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


def has_own_range(row: StudyRow) -> bool:
    """Whether the study was made with a range of max_lr of its own."""
    return "space.max_lr" in row.declared


def frozen(row: StudyRow, *, batch_size: int | None = None) -> Proposal | None:
    """Return what is stored in a study as the outcome of its range test, None before there is one.

    What its sweeps say beside that is not part of it: see measured().
    """
    if row.proposed_max_lr is None:
        return None
    assert row.bracket_low is not None
    assert row.bracket_high is not None
    edge, max_lr = row.edge, row.proposed_max_lr
    if batch_size not in (None, row.batch_size) and not has_own_range(row):
        stored = (row.batch_sizes or {})[str(batch_size)]
        edge, max_lr = stored.get("edge"), stored["proposal"]
    # The brackets of all batch sizes reach equally far around their proposals (conclude).
    moved = max_lr / row.proposed_max_lr
    return Proposal(
        edge=edge,
        low=moved * row.bracket_low,
        high=moved * row.bracket_high,
        max_lr=max_lr,
        n_sweeps=0,
        interval=None,
        drift=None,
        widened=False,
        origin=_origin(row, edge),
    )


def _origin(row: StudyRow, edge: float | None) -> Origin:
    if has_own_range(row):
        return "own range"
    if edge is not None:
        return "edge"
    at_others = any("edge" in stored for stored in (row.batch_sizes or {}).values())
    return "other batch size" if at_others else "wide range"


def _frozen(result: RangeTestResult, row: StudyRow, batch_size: int) -> Proposal | None:
    """Return what was frozen in the study in place of what another version would read now."""
    stored, said = frozen(row, batch_size=batch_size), result.proposal
    if stored is None:
        return said
    if stored.edge is None:
        skipped = not stored_range_test(row.declared).n_sweeps
        return replace(stored, reason="skipped: n_sweeps=0" if skipped else result.no_bracket())
    if said is None:
        return stored
    return replace(
        said,
        edge=stored.edge,
        low=stored.low,
        high=stored.high,
        max_lr=stored.max_lr,
        widened=said.widened and stored.origin == "edge",
        origin=stored.origin,
    )


def conclude(session: Session, row: StudyRow, study: Study) -> str | None:
    """Freeze range and proposal in `row`; return a reason where the study must end instead.

    With several batch sizes the proposal is one of each, and the bracket reaches as far around all
    of them as it does around any. A batch size without an edge has the proposal of the nearest
    that has one. Where none has, a wide range is searched at all of them. A range of one's own
    holds at all of them too, and its baseline is that of the task's own batch size.
    """
    results = {
        size: measured(
            session,
            row,
            batch_size=size,
            cycle_steps=study.steps_of(study.epochs, batch_size=size),
            adaptive=study.task.adaptive,
        )
        for size in study.swept_batch_sizes
    }
    reason = _must_end(results, study)
    if reason is not None:
        return reason
    said = {size: each.proposal for size, each in results.items() if each.proposal is not None}
    if study.space.max_lr is not None:
        own = within(said.get(row.batch_size), study.space.max_lr)
        _freeze(row, {row.batch_size: own}, edges={row.batch_size: own.edge})
    elif said:
        _freeze(
            row,
            {size: said[_nearest(size, said)] for size in results},
            edges={size: each.edge for size, each in said.items()},
        )
    else:
        low, high = wide_range(
            [judgement for each in results.values() for judgement in each.judgements],
            adaptive=study.task.adaptive,
            end_lr=study.range_test.end_lr,
        )
        wide = middle_of(low, high, origin="wide range")
        _freeze(row, {row.batch_size: wide}, edges={})
        for each in results.values():
            log.warning("%s; the search goes on: %s", each.why_no_proposal(), range_text(wide))
    return None


def _must_end(results: Mapping[int, RangeTestResult], study: Study) -> str | None:
    """Return why there is no use in a search, or that its author wants none."""
    for size, each in results.items():
        at = f"at batch_size {size}, " if len(results) > 1 else ""
        if not each.points:
            return f"{at}every sweep of the range test was given up"
        # The loss before the first step: no rate makes it a number.
        if all(judgement.ending == "no finite loss" for judgement in each.judgements):
            return f"{at}{each.why_no_proposal()}"
        if study.range_test.required and each.proposal is None:
            return f"{at}{each.why_no_proposal()}"
    return None


def _nearest(size: int, said: Iterable[int]) -> int:
    return min(said, key=lambda other: (abs(math.log(other / size)), other))


def _freeze(
    row: StudyRow, proposals: Mapping[int, Proposal], *, edges: Mapping[int, float | None]
) -> None:
    """Store the proposals by batch size; one alone is that of all."""
    own, *others = proposals.values()
    row.edge, row.proposed_max_lr = edges.get(row.batch_size), own.max_lr
    row.bracket_low = min([own.low, *(own.max_lr * each.low / each.max_lr for each in others)])
    row.bracket_high = max([own.high, *(own.max_lr * each.high / each.max_lr for each in others)])
    if row.batch_sizes:
        sizes = {text: dict(stored) for text, stored in row.batch_sizes.items()}
        for text, stored in sizes.items():
            stored["proposal"] = proposals.get(int(text), own).max_lr
            edge = edges.get(int(text))
            if edge is not None:
                stored["edge"] = edge
        row.batch_sizes = sizes
