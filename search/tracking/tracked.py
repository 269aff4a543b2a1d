"""A stored study and its runs as a tracker is told of them, read from the database."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Engine, func, select

from search.queue.rows import params_of, seed_of, stored_study
from search.results.export import exported
from search.results.result import StudyResult, load_result
from search.stages.search import BASELINE_SLOT
from search.text import file_name
from search.tracking.records import STUDY, Point, Tracked, TrackedStudy
from studies.database import reading
from studies.states import RunState, Stage
from studies.tables import EpochRecord, StudyRow, WorkRow


def look(engine: Engine, row: StudyRow) -> TrackedStudy:
    """Return a study as it is now, without its curves; StudyDeletedError where it is gone."""
    with reading(engine) as session:
        row = stored_study(session, row)
        works = session.scalars(
            select(WorkRow)
            # A run that nobody has begun may be taken back when the search ends by itself.
            .where(WorkRow.study_id == row.id, WorkRow.token > 0)
            .order_by(WorkRow.id)
        ).all()
        newest = session.execute(
            select(EpochRecord.work_id, func.max(EpochRecord.epoch))
            .join(WorkRow, WorkRow.id == EpochRecord.work_id)
            .where(WorkRow.study_id == row.id)
            .group_by(EpochRecord.work_id)
        )
        reported: dict[int, int] = {work_id: epoch for work_id, epoch in newest}
    result = load_result(engine, row.name) if row.stage == Stage.FINISHED else None
    roles = _roles(works, result)
    return TrackedStudy(
        id=row.id,
        label=f"{file_name(row.name)}-{row.id[:8]}",
        stage=row.stage,
        metric=row.metric,
        whole=_whole(row, works, result),
        runs=tuple(
            _run(row, work, roles=roles, n_epochs=reported.get(work.id, 0))
            for work in works
            if work.params is not None or work.stage == Stage.RANGE_TEST
        ),
    )


def _whole(row: StudyRow, works: Sequence[WorkRow], result: StudyResult | None) -> Tracked:
    held = any(work.state == RunState.RUNNING for work in works)
    state = {Stage.FINISHED: RunState.DONE, Stage.FAILED: RunState.FAILED}.get(
        row.stage, RunState.RUNNING if held else RunState.WAITING
    )
    began = _seconds(row.created_at) or 0.0
    measured = tuple(Point(name, 0, value, began) for name, value in _measured(row).items())
    results = {} if result is None else _concluded(result)
    tags = {
        "study": row.name,
        "stage": row.stage.value,
        "answer": "" if result is None else result.recommended.name,
        "verdict": result.verdict() if result is not None else row.reason or "",
    }
    if result is not None:
        tags |= {f"answer.{n}": str(v) for n, v in result.recommended.params.items()}
    n_ended = sum(work.state.is_end for work in works)
    return Tracked(
        key=STUDY,
        name=row.name,
        state=state,
        params={
            "study": row.name,
            "metric": row.metric,
            "direction": row.direction,
            "epochs": row.epochs,
            "batch_size": row.batch_size,
            "steps_per_epoch": row.steps_per_epoch,
            "study_seed": row.seed,
        },
        tags=tags,
        version=f"{state} {row.stage} {len(measured)} {row.finished_at} {tags['answer']}",
        began=began,
        ended=_seconds(row.finished_at) if row.stage.is_end else None,
        note=_note(row, result),
        results=results,
        last_step=n_ended if row.stage.is_end else 0,
        points=measured,
    )


def _measured(row: StudyRow) -> dict[str, float]:
    """Return what the range test said, once it is frozen."""
    said = {
        "edge": row.edge,
        "bracket_low": row.bracket_low,
        "bracket_high": row.bracket_high,
        "proposed_max_lr": row.proposed_max_lr,
    }
    return {name: value for name, value in said.items() if value is not None}


def _concluded(result: StudyResult) -> dict[str, float]:
    """Return what the confirmation said; of the test split only what the answer read of it."""
    numbers = {
        "answer_validation": result.recommended.validation.mean,
        "baseline_validation": result.baseline.validation.mean,
    }
    if result.shown is not None:
        split, paired = result.shown.split, result.shown.difference
        numbers[f"difference_{split}"] = paired.mean
        numbers[f"difference_{split}_low"] = paired.low
        numbers[f"difference_{split}_high"] = paired.high
    return numbers


def _note(row: StudyRow, result: StudyResult | None) -> str:
    """Return the answer in Markdown, with the call to paste."""
    if result is None:
        return f"No answer: {row.reason}" if row.stage == Stage.FAILED else ""
    code = exported(result, "torch").rstrip("`")
    return f"{result.verdict()}\n\n```python\n{code}```\n"


def _roles(works: Sequence[WorkRow], result: StudyResult | None) -> dict[int, str]:
    """Return what each slot of the search became: baseline, finalist, pick, answer."""
    roles: dict[int, list[str]] = {BASELINE_SLOT: ["baseline"]}
    for slot in {work.candidate for work in works if work.candidate is not None}:
        if slot != BASELINE_SLOT:
            roles[slot] = ["finalist"]
    if result is not None:
        if not result.winner.is_baseline:
            roles.setdefault(result.winner.slot, []).append("pick")
        roles.setdefault(result.recommended.slot, []).append("answer")
    return {slot: ", ".join(names) for slot, names in roles.items()}


def _run(row: StudyRow, work: WorkRow, *, roles: Mapping[int, str], n_epochs: int) -> Tracked:
    sweep = work.stage == Stage.RANGE_TEST
    slot = work.slot if work.candidate is None else work.candidate
    role = "" if sweep else roles.get(slot, "")
    state = "given up" if work.state == RunState.FAILED else work.state.value
    outcome = work.outcome or state
    ended = _seconds(work.beat_at) if work.state.is_end else None
    return Tracked(
        key=str(work.id),
        name=_name(row, work, slot),
        state=work.state,
        params=_params(row, work),
        tags={
            "study": row.name,
            "stage": work.stage.value,
            "outcome": outcome,
            "role": role,
            "failure": "" if work.failure is None else work.failure.value,
            "device": work.device or "",
        },
        version=f"{state} {outcome} {n_epochs} {role}",
        began=_began(row, work),
        ended=ended,
        results=_results(work),
        last_step=n_epochs or work.n_steps or 0,
    )


def _name(row: StudyRow, work: WorkRow, slot: int) -> str:
    """Return a name that sorts, and that no other run of the study has."""
    kind = "sweep" if work.stage == Stage.RANGE_TEST else work.stage.value
    name = f"{kind}-{work.slot:03d}"
    if work.round:
        name += f"-round-{work.round}"
    if work.epochs not in (None, row.epochs):  # of an earlier version
        name += f"-{work.epochs}-epochs"
    if work.stage == Stage.RANGE_TEST:
        return name
    if slot == BASELINE_SLOT:
        return f"{name}-baseline"
    return name if work.candidate is None else f"{name}-slot-{slot}"


def _params(row: StudyRow, work: WorkRow) -> dict[str, object]:
    """Return the configuration of a run, its length and its seed."""
    configuration = params_of(work)
    length = "sweep_steps" if work.epochs is None else "epochs"
    own: dict[str, object] = {
        "stage": work.stage.value,
        "round": work.round,
        "slot": work.slot,
        length: work.length,
        "batch_size": row.batch_size,
        "seed": seed_of(row, work),
    }
    if work.candidate is not None:
        own["candidate"] = work.candidate
    if work.replicate is not None:
        own["replicate"] = work.replicate
    return own | dict(work.params or {} if configuration is None else configuration)


def _results(work: WorkRow) -> dict[str, float]:
    """Return what a run ended with; its test score stays sealed, as it does everywhere."""
    ended = {
        "score": work.score,
        "seconds": work.seconds,
        "n_images": work.n_images,
        "diverged_step": work.diverged_step,
        "diverged_lr": work.diverged_lr,
    }
    if work.state != RunState.DONE:
        return {}
    return {name: float(value) for name, value in ended.items() if value is not None}


def _began(row: StudyRow, work: WorkRow) -> float:
    """Return when a run began: it is not stored, but when it last beat and how long it took is."""
    last = _seconds(work.beat_at) or _seconds(row.created_at) or 0.0
    return last - (work.seconds or 0.0)


def _seconds(moment: datetime | None) -> float | None:
    """Return a time of the database, which is UTC, as seconds since 1970."""
    return None if moment is None else moment.replace(tzinfo=UTC).timestamp()
