"""Stage 1: sweeps -> bracket and proposal, once for each setting that moves the edge."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from studies.counts import counted_as_stored
from studies.definition import RangeTest, Study
from studies.kept import with_stored_sampler
from studies.params import Value, setting_text, size_of
from studies.protocol import stored_range_test
from studies.registry import Definition
from studies.states import Stage
from studies.tables import PointRecord, StudyRow, WorkRow
from trainers.run import Point
from trainers.sweeps.judgement import Origin, Proposal
from trainers.sweeps.ranges import middle_of, wide_range, within
from trainers.sweeps.result import Points, RangeTestResult, concluded, judged, range_text
from trainers.sweeps.stopping import FEWEST_SWEEPS, next_sweep
from trainers.sweeps.sweep import Sweep

log = logging.getLogger(__name__)


def with_stored_range_test(definition: Definition, row: StudyRow) -> Definition:
    """Return the definition with what the study was stored with: range test, counts, sampler.

    They may have come from flags and from a folder, not from the file; the study keeps them.
    """
    definition = counted_as_stored(definition, row.declared)
    definition = with_stored_sampler(definition, row.declared)
    settings = stored_range_test(row.declared)
    return replace(definition, study=replace(definition.study, range_test=settings))


def work_of(row: StudyRow, study: Study) -> list[WorkRow]:
    """Return the first rows of work of all range tests: what each needs whatever they say."""
    settings = study.range_test
    n = min(FEWEST_SWEEPS, settings.n_sweeps)
    return [
        _sweep_row(row, slot=first + number, steps=settings.n_steps, setting=setting)
        for first, _, setting in _places(row, study)
        for number in range(n)
    ]


def more_work(session: Session, row: StudyRow, study: Study) -> list[WorkRow]:
    """Return a row of work for each range test that needs one more sweep, once those that were
    opened have ended: none that could turn out to be of no use.
    """
    settings, rows = study.range_test, list[WorkRow]()
    for first, key, setting in _places(row, study):
        mine = _sweeps_of(row, key)
        lengths = session.scalars(select(WorkRow.sweep_steps).where(mine)).all()
        n, fast = lengths.count(settings.n_steps), _points(session, mine)[settings.n_steps]
        kind = next_sweep(
            judged(fast),
            most=settings.n_sweeps,
            n_given_up=n - len(fast),
            slow=settings.slow_steps in lengths,
        )
        if kind == "fast":
            place, steps = first + n, settings.n_steps
        elif kind == "slow":
            place, steps = first + settings.n_sweeps, settings.slow_steps
        else:
            continue
        rows.append(_sweep_row(row, slot=place, steps=steps, setting=setting))
    return rows


def _places(
    row: StudyRow, study: Study
) -> list[tuple[int, str | None, Mapping[str, Value] | None]]:
    """Return the first slot of each range test, and its setting by name; None where there is one.

    Each has room for all sweeps that it may need, the slow one last, so that a sweep's slot, and
    with it its seed, does not depend on what the others needed.
    """
    settings: list[tuple[str | None, Mapping[str, Value] | None]]
    settings = [*row.settings.items()] or [(None, None)]
    room = study.range_test.n_sweeps + 1
    swept = settings[: len(study.swept_settings)]
    return [(number * room, key, setting) for number, (key, setting) in enumerate(swept)]


def _sweep_row(
    row: StudyRow, *, slot: int, steps: int, setting: Mapping[str, Value] | None
) -> WorkRow:
    return WorkRow(
        study_id=row.id,
        stage=Stage.RANGE_TEST,
        round=0,
        sweep_steps=steps,
        slot=slot,
        params=None if setting is None else dict(setting),
    )


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
    slow = sweeps[settings.slow_steps]
    result = concluded(
        sweep_of(settings, n_steps=settings.n_steps, adaptive=_seen(session, mine, adaptive)),
        sweeps[settings.n_steps],
        slow[0] if slow else None,
        seconds=seconds or 0.0,
        cycle_steps=cycle_steps,
    )
    return replace(result, proposal=_frozen(result, row, key))


def _seen(session: Session, mine: ColumnElement[bool], adaptive: bool) -> bool:
    """Return whether the optimizer that the sweeps met is adaptive; what is said, without one."""
    for work in session.scalars(select(WorkRow).where(mine).order_by(WorkRow.slot)):
        if work.driven is not None and work.driven.adaptive is not None:
            return work.driven.adaptive
    return adaptive


def measured_at_all(session: Session, row: StudyRow) -> RangeTestResult:
    """Return the same with the range tests of the other settings, where several have one."""
    keys = [] if has_own_range(row) else list(row.settings)[1:]
    others = {key: measured(session, row, setting=key) for key in keys}
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


def _points(session: Session, mine: ColumnElement[bool]) -> defaultdict[int, tuple[Points, ...]]:
    """Return what the finished sweeps measured, by their steps."""
    rows = session.execute(
        select(WorkRow.slot, WorkRow.sweep_steps, PointRecord)
        .join(PointRecord, PointRecord.work_id == WorkRow.id)
        .where(mine)
        .order_by(WorkRow.slot, PointRecord.step)
    )
    by_sweep: dict[tuple[int, int], list[Point]] = {}
    for slot, steps, record in rows:
        by_sweep.setdefault((slot, steps or 0), []).append(_point(record))
    by_steps = defaultdict[int, tuple[Points, ...]](tuple)
    for (_, steps), points in by_sweep.items():
        by_steps[steps] += (tuple(points),)
    return by_steps


def _point(record: PointRecord) -> Point:
    # NULL stands for what was not finite (search.queue.rows.point_record).
    loss = float("nan") if record.loss is None else record.loss
    return Point(record.step, record.lr, loss, record.grad_norm, tuple(record.other_lrs or ()))


def has_own_range(row: StudyRow) -> bool:
    """Whether the study was made with a range of max_lr of its own."""
    return "space.max_lr" in row.declared


def frozen(row: StudyRow, *, setting: str | None = None) -> Proposal | None:
    """Return what is stored in a study as the outcome of its range test, None before there is one.

    That of one setting: the baseline's where it is None. What its sweeps say beside that is not
    part of it: see measured().
    """
    if row.proposed_max_lr is None:
        return None
    assert row.bracket_low is not None
    assert row.bracket_high is not None
    edge, max_lr = row.edge, row.proposed_max_lr
    key = next(iter(row.settings), None) if setting is None else setting
    origin: Origin = "wide range" if edge is None else "edge"
    if key is not None:
        stored = (row.batch_sizes or {})[key]
        edge, max_lr = stored.get("edge"), stored["proposal"]
        origin = stored.get("origin", "edge")
    # The brackets of all settings reach equally far around their proposals (conclude).
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
        origin="own range" if has_own_range(row) else origin,
    )


def _frozen(result: RangeTestResult, row: StudyRow, key: str | None) -> Proposal | None:
    """Return what was frozen in the study in place of what another version would read now."""
    stored, said = frozen(row, setting=key), result.proposal
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

    With several settings the proposal is one of each, and the bracket reaches as far around all of
    them as it does around any. A setting without an edge has the proposal of the nearest batch
    size of its kind that has one, else the middle of a wide range. A range of one's own holds at
    all of them, and its baseline is that of the task's own setting.
    """
    swept = list((row.settings or {"": {}}).items())[: len(study.swept_settings)]
    results = {
        key: measured(
            session,
            row,
            setting=key or None,
            cycle_steps=study.steps_of(study.epochs, batch_size=size_of(setting)),
            adaptive=study.task.adaptive,
        )
        for key, setting in swept
    }
    reason = _must_end(results, study)
    if reason is not None:
        return reason
    own_key = next(iter(row.settings), "")
    said = {key: each.proposal for key, each in results.items() if each.proposal is not None}
    if study.space.max_lr is not None:
        own = within(said.get(own_key), study.space.max_lr)
        _freeze(row, {key: own for key in row.settings or {"": {}}})
        return None
    proposals = {key: said.get(key) or _elsewhere(key, row, said) for key in results}
    settled = {
        key: each or _wide(results[key], end_lr=study.range_test.end_lr)
        for key, each in proposals.items()
    }
    _freeze(row, settled)
    for key, each in results.items():
        if key not in said:
            at = f"at {setting_text(key)}, " if key else ""
            log.warning(
                "%s%s; the search goes on: %s",
                at,
                each.why_no_proposal(),
                range_text(settled[key]),
            )
    return None


def _must_end(results: Mapping[str, RangeTestResult], study: Study) -> str | None:
    """Return why there is no use in a search, or that its author wants none."""
    for key, each in results.items():
        at = f"at {setting_text(key)}, " if key else ""
        if not each.points:
            return f"{at}every sweep of the range test was given up"
        # The loss before the first step: no rate makes it a number.
        if all(judgement.ending == "no finite loss" for judgement in each.judgements):
            return f"{at}{each.why_no_proposal()}"
        if study.range_test.required and each.proposal is None:
            return f"{at}{each.why_no_proposal()}"
    return None


def _elsewhere(key: str, row: StudyRow, said: Mapping[str, Proposal]) -> Proposal | None:
    """Return what the sweeps of the nearest batch size say, all else being equal."""
    setting, size = row.settings.get(key, {}), size_of(row.settings.get(key, {}))
    alike = {
        other: size_of(row.settings[other])
        for other in said
        if {**row.settings[other], "batch_size": size} == {**setting, "batch_size": size}
    }
    if size is None or not alike:
        return None
    nearest = min(alike, key=lambda other: (abs(math.log((alike[other] or size) / size)), other))
    return replace(said[nearest], edge=None, origin="other batch size")


def _wide(result: RangeTestResult, *, end_lr: float) -> Proposal:
    low, high = wide_range(result.judgements, adaptive=bool(result.plan.adaptive), end_lr=end_lr)
    return middle_of(low, high, origin="wide range")


def _freeze(row: StudyRow, proposals: Mapping[str, Proposal]) -> None:
    """Store the proposals by setting; one alone is that of the study."""
    own, *others = proposals.values()
    row.edge, row.proposed_max_lr = own.edge, own.max_lr
    row.bracket_low = min([own.low, *(own.max_lr * each.low / each.max_lr for each in others)])
    row.bracket_high = max([own.high, *(own.max_lr * each.high / each.max_lr for each in others)])
    if row.settings:
        row.batch_sizes = {
            key: {
                **(row.batch_sizes or {})[key],
                "edge": proposal.edge,
                "proposal": proposal.max_lr,
                **({} if proposal.origin == "edge" else {"origin": proposal.origin}),
            }
            for key, proposal in proposals.items()
        }
