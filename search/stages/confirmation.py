"""Stage 3: the finalists and the baseline retrained with fresh seeds, and the answer."""

from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.queue.rows import done_rows, params_of
from search.stages.believed import Belief, belief_of
from search.stages.search import BASELINE_SLOT, cycles_of, none_of_use
from search.stages.space import Ranges
from search.stages.statistics import choose, compare, spread_finalists
from search.stages.versions import versions
from studies.answer import Answer, NoAnswer
from studies.definition import Study
from studies.params import Choice
from studies.states import BROKEN, Stage
from studies.tables import StudyRow, WorkRow

_SCHEDULE_POINTS = 400  # of a curve 800 pixels wide: more are not seen


def work_of(session: Session, row: StudyRow, study: Study) -> list[WorkRow]:
    """Return the rows of work of a new round: each candidate with every seed, baseline first."""
    by_slot = {work.slot: work for work in cycles_of(session, row)}
    belief = _belief(session, row, study)
    chosen = [BASELINE_SLOT, *_finalists(row, study, by_slot, belief)]
    n_seeds = study.confirmation.n_seeds
    this_round = _next_round(session, row)
    return [
        WorkRow(
            study_id=row.id,
            stage=Stage.CONFIRMATION,
            round=this_round,
            epochs=row.epochs,
            slot=index * n_seeds + replicate,
            candidate=slot,
            replicate=replicate,
            params=by_slot[slot].params,
        )
        for index, slot in enumerate(chosen)
        for replicate in range(n_seeds)
    ]


def _next_round(session: Session, row: StudyRow) -> int:
    last = session.scalar(
        select(func.max(WorkRow.round)).where(
            WorkRow.study_id == row.id, WorkRow.stage == Stage.CONFIRMATION
        )
    )
    return 0 if last is None else last + 1


def _belief(session: Session, row: StudyRow, study: Study) -> Belief | None:
    """Return what all finished cycles say, those of confirmations included."""
    confirmed = done_rows(session, row.id, Stage.CONFIRMATION)
    return belief_of(row, study, cycles_of(session, row), confirmed)


def _finalists(
    row: StudyRow, study: Study, works: Mapping[int, WorkRow], belief: Belief | None
) -> list[int]:
    """Return the finalists beside the baseline; the winner of a round before is the first."""
    if belief is None:
        return []
    before = BASELINE_SLOT if row.answer is None else row.answer.winner
    kept = [] if before == BASELINE_SLOT else [before]
    expected = belief.expected_of_slots
    return kept + spread_finalists(
        {s: v for s, v in expected.items() if s not in (BASELINE_SLOT, *kept)},
        positions(row, study, works.values()),
        belief.noise,
        n=max(1, study.confirmation.n_finalists - len(kept)),
        direction=study.direction,
    )


def positions(
    row: StudyRow, study: Study, works: Iterable[WorkRow]
) -> dict[int, tuple[float, ...]]:
    """Return slot -> place in the unit cube of the study's space."""
    ranges = Ranges.of(row, study)
    return {w.slot: ranges.position(p) for w in works if (p := params_of(w)) is not None}


def last_round(session: Session, row: StudyRow) -> list[WorkRow]:
    """Return the finished cycles of the newest round that has any."""
    done = done_rows(session, row.id, Stage.CONFIRMATION)
    return [work for work in done if work.round == done[-1].round]


def conclude(session: Session, row: StudyRow, study: Study) -> Answer | NoAnswer:
    """Choose the winner by validation; read the sealed column once, for winner and baseline."""
    ended = last_round(session, row)
    scores = by_candidate(ended, "score")
    # A paired interval needs two seeds.
    if len(scores.get(BASELINE_SLOT, {})) < 2:
        return NoAnswer("the baseline's confirmation cycles were given up")
    if all(work.outcome in BROKEN for work in ended):
        return NoAnswer(none_of_use(ended, row))
    seeds = sorted(scores[BASELINE_SLOT])
    # Differences are paired by seed: who lacks a seed of the baseline cannot win.
    whole = {slot: [by[s] for s in seeds] for slot, by in scores.items() if set(by) >= set(seeds)}
    winner = choose(whole, direction=row.direction)
    # Chosen by validation above; of the test split no other candidate's scores are read.
    finalists = (winner, BASELINE_SLOT)
    sealed = by_candidate([w for w in ended if w.candidate in finalists], "sealed_score")
    whole_test = {slot: by for slot, by in sealed.items() if set(by) >= set(seeds)}
    test = {slot: tuple(by[s] for s in seeds) for slot, by in whole_test.items()}
    compared = winner != BASELINE_SLOT and set(finalists) <= set(test)
    before = () if row.answer is None else row.answer.comparisons
    belief = _belief(session, row, study)
    return Answer(
        winner=winner,
        comparisons=(
            (*before, compare(test[winner], test[BASELINE_SLOT])) if compared else before
        ),
        compared=compared,
        test=test,
        search_noise=None if belief is None else belief.noise,
        schedules=_schedules(ended, study),
        versions=versions(),
        choices=(*_choices(study), *study.space.fixed()),
        fixed=tuple(study.space.fixed()),
        search_end=row.search_end,
    )


def _choices(study: Study) -> Iterator[str]:
    """Yield the parameters that are searched among several values, not in a range."""
    for each in study.parameters:
        if isinstance(each.domain, Choice):
            yield each.name


def _schedules(ended: list[WorkRow], study: Study) -> dict[int, tuple[tuple[int, float], ...]]:
    """Return rates over steps of the candidates."""
    drawn = {}
    for slot, work in {work.candidate: work for work in ended}.items():
        params = params_of(work)
        assert slot is not None
        assert params is not None
        steps = study.steps_of(work.length, batch_size=params.batch_size)
        drawn[slot] = tuple(params.plan(steps).samples(_SCHEDULE_POINTS))
    return drawn


def by_candidate(rows: Iterable[WorkRow], column: str) -> dict[int, dict[int, float]]:
    """Return candidate -> replicate -> value of that column."""
    values: dict[int, dict[int, float]] = {}
    for row in rows:
        value = getattr(row, column)
        if row.candidate is not None and row.replicate is not None and value is not None:
            values.setdefault(row.candidate, {})[row.replicate] = value
    return values
