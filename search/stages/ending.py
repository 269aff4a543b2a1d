"""What a round of the confirmation ends with: the answer, and what is stored with it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from search.queue.rows import params_of
from search.stages.believed import belief_of
from search.stages.rounds import Round, by_candidate, done
from search.stages.search import BASELINE_SLOT, none_of_use
from search.stages.statistics import choose, compare
from search.stages.versions import versions
from studies.answer import Answer, Comparison, NoAnswer
from studies.definition import Study
from studies.params import Choice
from studies.states import BROKEN
from studies.tables import StudyRow, WorkRow

GIVEN_UP = "the baseline's confirmation cycles were given up"
_SCHEDULE_POINTS = 400  # of a curve 800 pixels wide: more are not seen


@dataclass(frozen=True, slots=True, eq=False)
class Cycles:
    """The finished cycles of a study: of the search, and of all rounds of the confirmation."""

    searched: Sequence[WorkRow]
    confirmed: Sequence[WorkRow]


def answer_of(
    row: StudyRow,
    study: Study,
    this: Round,
    cycles: Cycles,
    *,
    winner: int,
    comparison: Comparison | None,
) -> Answer:
    """Return the answer of a round that raced.

    Of the test split it holds what was compared: the scores of the pairs. Where the baseline was
    picked without any pair, these are the baseline's.
    """
    ended = done(this.works)
    scored = ended if winner == BASELINE_SLOT else [w for pair in this.pairs(winner) for w in pair]
    sealed = by_candidate(done(scored), "sealed_score")
    slots = {winner, BASELINE_SLOT}
    seeds = sorted(set.intersection(*(set(sealed.get(slot, {})) for slot in slots)))
    test = {slot: tuple(sealed[slot][r] for r in seeds) for slot in sorted(slots) if seeds}
    answer = _answer(row, study, ended, cycles, winner=winner, comparison=comparison, test=test)
    return replace(answer, n_raced=len(done(this.race)))


def ending_at_once(row: StudyRow, study: Study, this: Round, cycles: Cycles) -> Answer | NoAnswer:
    """Return the ending of a round in which every candidate was trained with every seed, as
    versions before 0.3.0 opened it: the best by validation, compared on the sealed column.
    """
    ended = done(this.works)
    scores = by_candidate(ended, "score")
    # A paired interval needs two seeds.
    if len(scores.get(BASELINE_SLOT, {})) < 2:
        return NoAnswer(GIVEN_UP)
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
    comparison = compare(test[winner], test[BASELINE_SLOT]) if compared else None
    return _answer(row, study, ended, cycles, winner=winner, comparison=comparison, test=test)


def _answer(
    row: StudyRow,
    study: Study,
    ended: Sequence[WorkRow],
    cycles: Cycles,
    *,
    winner: int,
    comparison: Comparison | None,
    test: Mapping[int, tuple[float, ...]],
) -> Answer:
    before = () if row.answer is None else row.answer.comparisons
    belief = belief_of(row, study, cycles.searched, cycles.confirmed)
    return Answer(
        winner=winner,
        comparisons=before if comparison is None else (*before, comparison),
        compared=comparison is not None,
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


def _schedules(ended: Sequence[WorkRow], study: Study) -> dict[int, tuple[tuple[int, float], ...]]:
    """Return rates over steps of the candidates."""
    drawn = {}
    for slot, work in {work.candidate: work for work in ended}.items():
        params = params_of(work)
        assert slot is not None
        assert params is not None
        steps = study.steps_of(work.length, batch_size=params.batch_size)
        drawn[slot] = tuple(params.plan(steps).samples(_SCHEDULE_POINTS))
    return drawn
