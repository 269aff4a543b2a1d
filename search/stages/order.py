"""What opens when all runs of a stage have ended: bracket, then finalists, then the answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from search.queue.rows import done_rows, has_waiting, params_of
from search.queue.work import end_study, last_line
from search.stages import range_test, screening
from search.stages import statistics as confirmation
from search.stages.expected import expected_scores
from search.stages.space import Ranges
from search.stages.versions import versions
from studies.database import reading, transaction
from studies.definition import Study
from studies.tables import StudyRow, WorkRow

_SCHEDULE_POINTS = 400

STAGES = ("range_test", "search", "confirmation")
STAGE_NAMES = {
    "range_test": "range test",
    "search": "search",
    "confirmation": "confirmation",
}


def stage_name(stage: str, length: int, lengths: Sequence[int]) -> str:
    """Return what runs of a stage and length are called: 'screen 2' for cycles of two epochs that
    are shorter than the full length, the last of `lengths`."""
    short = stage == "search" and length in lengths[:-1]
    return f"screen {length}" if short else STAGE_NAMES[stage]


def advance(engine: Engine, study_id: str, study: Study) -> str:
    """Open what can be opened now: a promoted cycle, or the next stage once this one's runs have
    all ended. Return the stage that is open now.

    Any worker may call this at any time: what opens is a pure function of what is stored, and
    one of them writes it. 'finished' and 'failed' are the two ends.
    """
    with reading(engine) as session:
        row = session.get_one(StudyRow, study_id)
        if row.stage not in STAGES or not _may_open(session, row, study):
            return row.stage
    with transaction(engine) as session:
        row = session.get_one(StudyRow, study_id, with_for_update=True)
        if row.stage in STAGES and not has_waiting(session, study_id):
            _open(session, row, study)
        return row.stage


def _may_open(session: Session, row: StudyRow, study: Study) -> bool:
    """Whether something opens now, as it looks without a lock."""
    if has_waiting(session, row.id):
        return False
    return not _n_open(session, row.id) or _promotion(session, row, study) is not None


def _open(session: Session, row: StudyRow, study: Study) -> None:
    promoted = _promotion(session, row, study)
    if promoted is not None:
        session.add(promoted)
    elif not _n_open(session, row.id):
        if row.stage == "range_test":
            _open_search(session, row, study)
        elif row.stage == "search":
            _open_confirmation(session, row, study)
        else:
            _conclude(session, row, study)


def _promotion(session: Session, row: StudyRow, study: Study) -> WorkRow | None:
    """Return the next cycle at a greater length, a row that is not stored yet."""
    if row.stage != "search" or not study.screening.shares:
        return None
    works = list(
        session.scalars(
            select(WorkRow).where(WorkRow.study_id == row.id, WorkRow.stage == "search")
        )
    )
    found = screening.promote(
        [
            screening.Standing(w.slot, w.length, w.state in ("done", "failed"), w.score)
            for w in works
        ],
        screening=study.screening,
        n_trials=row.n_trials,
        direction=study.direction,
    )
    if found is None:
        return None
    slot, length = found
    params = next(p for w in works if w.slot == slot and (p := params_of(w)) is not None)
    return WorkRow(
        study_id=row.id, stage="search", round=0, length=length, slot=slot, **params.searched()
    )


def _n_open(session: Session, study_id: str) -> int:
    """Return how many runs of the study wait or run."""
    return (
        session.scalar(
            select(func.count()).where(
                WorkRow.study_id == study_id, WorkRow.state.in_(("waiting", "running"))
            )
        )
        or 0
    )


def _fail(session: Session, row: StudyRow, reason: str) -> None:
    """End the study without a result; an exception that a run died of is part of the reason."""
    tracebacks = session.scalars(
        select(WorkRow.traceback)
        .where(WorkRow.study_id == row.id, WorkRow.state == "failed")
        .order_by(WorkRow.id.desc())
    )
    text = next((t for t in tracebacks if t), None)
    if text is not None:
        reason = f"{reason}; a run failed with {last_line(text)}"
    end_study(row, "failed", {"reason": reason})


def _open_search(session: Session, row: StudyRow, study: Study) -> None:
    reason = range_test.conclude(session, row, study)
    if reason is not None:
        _fail(session, row, reason)
        return
    row.stage = "search"
    session.add_all(screening.work_of(row, range(row.n_trials)))


def _open_confirmation(session: Session, row: StudyRow, study: Study) -> None:
    ended = [w for w in done_rows(session, row.id, "search") if w.length == study.full_epochs]
    scores = {w.slot: w.score for w in ended if w.score is not None}
    if screening.BASELINE_SLOT not in scores:
        _fail(session, row, "the baseline was given up, so nothing can be compared with it")
        return
    by_slot = {w.slot: w for w in ended}
    chosen = [screening.BASELINE_SLOT, *_finalists(row, study, by_slot)]
    params = {slot: found for slot in chosen if (found := params_of(by_slot[slot])) is not None}
    last_round = session.scalar(
        select(func.max(WorkRow.round)).where(
            WorkRow.study_id == row.id, WorkRow.stage == "confirmation"
        )
    )
    row.stage = "confirmation"
    session.add_all(
        WorkRow(
            study_id=row.id,
            stage="confirmation",
            round=0 if last_round is None else last_round + 1,
            length=study.full_epochs,
            slot=index * study.confirmation.n_seeds + replicate,
            candidate=slot,
            replicate=replicate,
            **params[slot].searched(),
        )
        for index, slot in enumerate(chosen)
        for replicate in range(study.confirmation.n_seeds)
    )


def _finalists(row: StudyRow, study: Study, works: Mapping[int, WorkRow]) -> list[int]:
    """Return the finalists beside the baseline; the winner of a round before is the first."""
    scores = {slot: w.score for slot, w in works.items() if w.score is not None}
    places = positions(row, study, works.values())
    expected = expected_scores(scores, places, direction=study.direction)
    before = (row.result or {}).get("winner", screening.BASELINE_SLOT)
    kept = [] if before == screening.BASELINE_SLOT else [before]
    return kept + confirmation.spread_finalists(
        {s: v for s, v in expected.items() if s not in (screening.BASELINE_SLOT, *kept)},
        places,
        search_noise(row, study, works.values()),
        n=max(1, study.confirmation.n_finalists - len(kept)),
        direction=study.direction,
    )


def search_noise(
    row: StudyRow, study: Study, works: Iterable[WorkRow]
) -> confirmation.Noise | None:
    """Return the noise of a seed from the cycles of one length that did not diverge."""
    whole = [w for w in works if w.outcome != "diverged"]
    scores = {w.slot: w.score for w in whole if w.score is not None}
    return confirmation.noise_of_neighbours(scores, positions(row, study, whole))


def positions(
    row: StudyRow, study: Study, works: Iterable[WorkRow]
) -> dict[int, tuple[float, ...]]:
    """Return slot -> place in the unit cube of the study's space."""
    ranges = Ranges.of(row, study)
    return {w.slot: ranges.position(p) for w in works if (p := params_of(w)) is not None}


def _conclude(session: Session, row: StudyRow, study: Study) -> None:
    """Choose the winner by validation; read the sealed column once, for winner and baseline."""
    ended = done_rows(session, row.id, "confirmation")
    ended = [w for w in ended if w.round == ended[-1].round]
    scores = _by_candidate(ended, "score")
    baseline = screening.BASELINE_SLOT
    if len(scores.get(baseline, {})) < 2:
        _fail(session, row, "the baseline's confirmation cycles were given up")
        return
    seeds = sorted(scores[baseline])
    whole = {slot: [by[s] for s in seeds] for slot, by in scores.items() if set(by) >= set(seeds)}
    direction: confirmation.Direction = "maximize" if row.direction == "maximize" else "minimize"
    winner = confirmation.choose(whole, direction=direction)
    sealed = _by_candidate([w for w in ended if w.candidate in (winner, baseline)], "sealed_score")
    test = {slot: [by[s] for s in seeds] for slot, by in sealed.items() if set(by) >= set(seeds)}
    compared = []
    if winner != baseline and {winner, baseline} <= set(test):
        compared = [asdict(confirmation.compare(test[winner], test[baseline]))]
    screen = [w for w in done_rows(session, row.id, "search") if w.length == row.lengths[0]]
    noise = search_noise(row, study, screen)
    result = {
        "winner": winner,
        "comparisons": [*(row.result or {}).get("comparisons", []), *compared],
        "test": {str(slot): values for slot, values in test.items()},
        "compared": bool(compared),
        "search_noise": None if noise is None else asdict(noise),
        "schedules": _schedules(ended, study),
        "versions": versions(),
    }
    end_study(row, "finished", result)


def _schedules(ended: list[WorkRow], study: Study) -> dict[str, list[tuple[int, float]]]:
    """Return rates over steps of the candidates: no page then needs torch to draw them."""
    found = {}
    for slot, row in {row.candidate: row for row in ended}.items():
        params = params_of(row)
        assert params is not None
        steps = study.steps_of(row.length, batch_size=params.batch_size)
        found[str(slot)] = params.plan(steps).samples(_SCHEDULE_POINTS)
    return found


def _by_candidate(rows: list[WorkRow], column: str) -> dict[int, dict[int, float]]:
    """Return candidate -> replicate -> value of that column."""
    found: dict[int, dict[int, float]] = {}
    for row in rows:
        value = getattr(row, column)
        if row.candidate is not None and row.replicate is not None and value is not None:
            found.setdefault(row.candidate, {})[row.replicate] = value
    return found
