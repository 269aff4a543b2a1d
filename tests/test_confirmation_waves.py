"""A confirmation wave by wave: what opens, what is lost, what is concluded."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from sqlalchemy import URL, Engine, select

from search.results.result import StudyResult, load_result
from search.stages.order import advance
from search.stages.rounds import PAIRS_FROM
from search.stages.sequential import LOOKS
from studies.answer import Answer
from studies.database import open_engine, prepare, reading, transaction
from studies.definition import Confirmation, Study
from studies.protocol import declared
from studies.states import RunState
from studies.tables import StudyRow, WorkRow
from tests.rows import study_row
from tests.table_study import STUDY

Scored = tuple[float, float | None]
"""A validation score, and one on the test split where there is one."""
ScoreOf = Callable[[int, int], Scored | None]
"""Candidate and replicate -> scores, None for a cycle that is given up."""
Wave = list[tuple[int, int]]
SEARCHED = (0.80, 0.86, 0.60, 0.84, 0.70, 0.83)
PLACES = (0.2, 0.1, 0.42, 0.13, 0.3, 0.075)
"""Scores of the search and max_lr by slot, the baseline first: the best lies at 0.1."""
TEN = replace(STUDY, confirmation=Confirmation(n_finalists=3))


@pytest.fixture
def engine(sqlite_url: URL) -> Iterator[Engine]:
    engine = open_engine(sqlite_url)
    prepare(engine)
    yield engine
    engine.dispose()


def add_searched(engine: Engine, scores: tuple[float, ...] = SEARCHED, **values: object) -> None:
    with transaction(engine) as session:
        bracket = {"bracket_low": 0.05, "bracket_high": 0.8, "proposed_max_lr": 0.2}
        fields = {"declared": declared(TEN, ""), "n_trials": len(scores), **bracket, **values}
        session.add(study_row(id="s", name="waves", stage="search", **fields))
        session.flush()
        session.add_all(searched(slot, score) for slot, score in enumerate(scores))


def searched(slot: int, score: float) -> WorkRow:
    return WorkRow(
        study_id="s",
        stage="search",
        round=0,
        epochs=4,
        slot=slot,
        state="done",
        outcome="completed",
        score=score,
        n_images=400,
        seconds=1.0,
        params={
            "max_lr": PLACES[slot] if slot < len(PLACES) else 0.1 + 0.005 * slot,
            "pct_start": 0.3,
            "div_factor": 25.0,
        },
    )


def waiting(engine: Engine) -> list[WorkRow]:
    with reading(engine) as session:
        rows = select(WorkRow).where(WorkRow.state == RunState.WAITING).order_by(WorkRow.slot)
        return list(session.scalars(rows))


def finish(engine: Engine, row: WorkRow, scored: Scored | None) -> None:
    with transaction(engine) as session:
        stored = session.get_one(WorkRow, row.id)
        stored.n_images, stored.seconds = 400, 1.0
        if scored is None:
            stored.state, stored.traceback = RunState.FAILED, "E: gone"
            return
        stored.state, (stored.score, stored.sealed_score) = RunState.DONE, scored
        stored.outcome = "diverged" if scored[0] == 0.1 else "completed"


def play(
    engine: Engine, score_of: ScoreOf, study: Study = TEN, *, order: Random | None = None
) -> list[Wave]:
    """Finish every run that opens until the study has ended; return the waves."""
    waves: list[Wave] = []
    while not advance(engine, "s", study).is_end:
        rows = waiting(engine)
        assert rows, "no stage waits for nothing"
        waves.append([place(row) for row in rows])
        if order is not None:
            order.shuffle(rows)
        for row in rows:
            # Each wave is whole before the next one opens, whoever asks in between.
            advance(engine, "s", study)
            finish(engine, row, score_of(*place(row)))
    return waves


def place(row: WorkRow) -> tuple[int, int]:
    assert row.candidate is not None
    assert row.replicate is not None
    return row.candidate, row.replicate


def ending_of(engine: Engine) -> StudyRow:
    with reading(engine) as session:
        return session.get_one(StudyRow, "s")


def answer_of(engine: Engine) -> Answer:
    answer = ending_of(engine).answer
    assert answer is not None, ending_of(engine).reason
    return answer


def result_of(engine: Engine) -> StudyResult:
    return load_result(engine, "waves")


def noise(candidate: int, replicate: int, sd: float = 0.004) -> float:
    return Random(f"{candidate} {replicate}").gauss(0, sd) + Random(replicate).gauss(0, sd)


def scores(**gains: float) -> ScoreOf:
    """Return scores around .8, with so much more for the slots named slot_N."""

    def score_of(candidate: int, replicate: int) -> Scored:
        score = 0.8 + gains.get(f"slot_{candidate}", 0.0) + noise(candidate, replicate)
        return score, score + noise(candidate, replicate + 10**6, 0.001)

    return score_of


def pairs_in(waves: list[Wave]) -> list[int]:
    """Return how many pairs each wave of pairs holds."""
    return [len(wave) // 2 for wave in waves if wave[0][1] >= PAIRS_FROM]


def test_a_clear_winner_takes_three_pairs(engine: Engine) -> None:
    add_searched(engine)
    waves = play(engine, scores(slot_1=0.05, slot_3=0.02, slot_5=0.01))
    assert pairs_in(waves) == [3]
    answer = answer_of(engine)
    (comparison,) = answer.comparisons
    assert (answer.winner, answer.compared, comparison.split) == (1, True, "test")
    assert comparison.shown
    assert comparison.difference.n == 3
    assert comparison.looks is not None
    assert (comparison.looks.n, comparison.looks.planned) == (1, LOOKS)
    assert answer.n_raced == sum(map(len, waves)) - 6


def test_what_chooses_does_not_test_and_no_run_is_there_twice(engine: Engine) -> None:
    add_searched(engine)
    waves = play(engine, scores(slot_1=0.006, slot_3=0.005, slot_5=0.004))
    with reading(engine) as session:
        rows = session.scalars(select(WorkRow).where(WorkRow.stage == "confirmation")).all()
    assert sorted(row.slot for row in rows) == list(range(1, len(rows) + 1))
    places = [place(row) for row in rows]
    assert len(set(places)) == len(places)
    answer = answer_of(engine)
    paired = [p for p in places if p[1] >= PAIRS_FROM]
    assert {slot for slot, _ in paired} == {0, answer.winner}
    assert [r for slot, r in paired if slot == 0] == [r for slot, r in paired if slot != 0]
    assert {slot: len(tested) for slot, tested in answer.test.items()} == {
        0: len(paired) // 2,
        answer.winner: len(paired) // 2,
    }
    race = [wave for wave in waves if wave[0][1] < PAIRS_FROM]
    assert all(len(wave) == 2 for wave in race)
    assert waves[: len(race)] == race, "the race is over before a pair opens"


def test_a_small_difference_is_looked_at_until_the_last_look(engine: Engine) -> None:
    add_searched(engine)

    def score_of(candidate: int, replicate: int) -> Scored:
        ahead = 0.05 if replicate < PAIRS_FROM else 0.015 + 0.02 * (-1) ** replicate
        score = 0.8 + ahead * (candidate == 1)
        return score, score

    assert pairs_in(play(engine, score_of)) == [3, 1, 1, 2, 3]
    (comparison,) = answer_of(engine).comparisons
    assert not comparison.shown
    assert comparison.looks is not None
    assert (comparison.looks.n, comparison.looks.futile) == (5, False)
    assert "no difference" in result_of(engine).verdict().lower()


def test_a_pick_that_falls_behind_ends_early_and_nothing_is_shown(engine: Engine) -> None:
    add_searched(engine)

    def score_of(candidate: int, replicate: int) -> Scored:
        ahead = 0.05 if replicate < PAIRS_FROM else -0.001 + 0.02 * (-1) ** replicate
        score = 0.8 + ahead * (candidate == 1)
        return score, score

    pairs = pairs_in(play(engine, score_of))
    assert sum(pairs) < LOOKS[-1]
    (comparison,) = answer_of(engine).comparisons
    assert not comparison.shown
    assert comparison.looks is not None
    assert comparison.looks.futile


def test_a_pick_that_is_worse_on_the_test_split_is_shown_to_be(engine: Engine) -> None:
    add_searched(engine)

    def score_of(candidate: int, replicate: int) -> Scored:
        score = 0.8 + 0.05 * (candidate == 1) + noise(candidate, replicate, 0.001)
        return score, 0.8 - 0.05 * (candidate == 1) + noise(candidate, replicate, 0.001)

    play(engine, score_of)
    assert answer_of(engine).winner == 1, "the test split does not choose"
    (comparison,) = answer_of(engine).comparisons
    assert comparison.difference.high < 0
    assert result_of(engine).recommended.is_baseline


def test_a_baseline_that_wins_the_race_is_the_answer_without_pairs(engine: Engine) -> None:
    add_searched(engine, (0.90, 0.84, 0.70, 0.86, 0.84, 0.80))
    waves = play(engine, scores(slot_0=0.05))
    assert pairs_in(waves) == []
    answer = answer_of(engine)
    assert (answer.winner, answer.comparisons, answer.compared) == (0, (), False)
    result = result_of(engine)
    assert result.recommended.is_baseline
    assert result.challenge is not None
    assert result.challenge.difference.n >= 2, "seeds that the best of the others shares with it"
    assert result.challenge.difference.mean < 0


def test_without_a_test_split_the_pairs_are_compared_on_validation(engine: Engine) -> None:
    add_searched(engine)
    of_both = scores(slot_1=0.05)

    def score_of(candidate: int, replicate: int) -> Scored:
        scored = of_both(candidate, replicate)
        assert scored is not None
        return scored[0], None

    play(engine, score_of)
    answer = answer_of(engine)
    (comparison,) = answer.comparisons
    assert (answer.winner, comparison.split, comparison.shown) == (1, "validation", True)
    result = result_of(engine)
    assert (result.comparison, result.challenge, result.n_comparisons) == (None, comparison, 0)


def test_a_smaller_score_is_better_where_the_study_minimises(engine: Engine) -> None:
    minimised = replace(TEN, direction="minimize", diverged_value=9.0)
    add_searched(
        engine,
        tuple(1 - score for score in SEARCHED),
        direction="minimize",
        diverged_value=9.0,
        declared=declared(minimised, ""),
    )
    of_gain = scores(slot_1=0.05, slot_3=0.02)

    def score_of(candidate: int, replicate: int) -> Scored:
        scored = of_gain(candidate, replicate)
        assert scored is not None
        assert scored[1] is not None
        return 1 - scored[0], 1 - scored[1]

    waves = play(engine, score_of, minimised)
    assert pairs_in(waves) == [3]
    answer = answer_of(engine)
    assert answer.winner == 1
    assert answer.comparisons[0].difference.high < 0
    assert not result_of(engine).recommended.is_baseline


@pytest.mark.parametrize("seed", [1])
def test_what_opens_does_not_depend_on_the_order_in_which_runs_end(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    played = []
    for order in (None, Random(seed)):
        path = tmp_path_factory.mktemp("order") / "studies.db"
        engine = open_engine(URL.create("sqlite", database=str(path)))
        prepare(engine)
        add_searched(engine)
        gains = {f"slot_{slot}": 0.002 * ((slot + seed) % 4) for slot in range(6)}
        waves = play(engine, scores(**gains), order=order)
        played.append((waves, answer_of(engine)))
        engine.dispose()
    assert played[0] == played[1]


def test_a_lost_pair_does_not_count_and_is_not_waited_for(engine: Engine) -> None:
    add_searched(engine)
    alternating = scores(slot_1=0.006)

    def score_of(candidate: int, replicate: int) -> Scored | None:
        if (candidate, replicate) in ((1, PAIRS_FROM + 1), (0, PAIRS_FROM + 3)):
            return None
        if replicate < PAIRS_FROM:
            return (0.85, 0.85) if candidate == 1 else (0.8, 0.8)
        return alternating(candidate, replicate)

    waves = play(engine, score_of)
    answer = answer_of(engine)
    (comparison,) = answer.comparisons
    opened = sum(pairs_in(waves))
    assert opened > 3
    assert comparison.difference.n == opened - 2
    assert len(answer.test[0]) == len(answer.test[1]) == opened - 2
    assert comparison.looks is not None
    assert comparison.looks.planned[0] == 2


def test_a_finalist_whose_cycle_is_given_up_leaves_the_race(engine: Engine) -> None:
    add_searched(engine)
    fine = scores(slot_1=0.05, slot_3=0.03)
    waves = play(engine, lambda slot, replicate: None if slot == 1 else fine(slot, replicate))
    assert sum(slot == 1 for wave in waves for slot, _ in wave) <= 2, "one wave, no more"
    assert answer_of(engine).winner == 3


def test_a_finalist_that_breaks_with_a_fresh_seed_leaves_the_race(engine: Engine) -> None:
    add_searched(engine)
    fine = scores(slot_1=0.05, slot_3=0.03)
    play(engine, lambda slot, r: (0.1, 0.1) if (slot, r) == (1, 0) else fine(slot, r))
    assert answer_of(engine).winner == 3


def test_a_pick_whose_pairs_are_all_given_up_makes_way_for_the_next(engine: Engine) -> None:
    add_searched(engine)
    fine = scores(slot_1=0.05, slot_3=0.03)
    waves = play(
        engine,
        lambda slot, r: None if slot == 1 and r >= PAIRS_FROM else fine(slot, r),
    )
    answer = answer_of(engine)
    assert answer.winner == 3
    assert pairs_in(waves)[:2] == [3, 3]
    replicates = [r for wave in waves for slot, r in wave if slot == 0 and r >= PAIRS_FROM]
    assert len(set(replicates)) == len(replicates), "other seeds than those of the first pick"


def test_a_baseline_that_is_given_up_ends_the_study(engine: Engine) -> None:
    add_searched(engine)
    fine = scores(slot_1=0.05)
    waves = play(engine, lambda slot, replicate: None if slot == 0 else fine(slot, replicate))
    assert sum(map(len, waves)) < 20
    reason = ending_of(engine).reason or ""
    assert reason.startswith("the baseline's confirmation cycles were given up")


def test_a_confirmation_in_which_every_cycle_breaks_has_no_answer(engine: Engine) -> None:
    add_searched(engine)
    play(engine, lambda slot, replicate: (0.1, 0.1))
    assert "has a usable score" in (ending_of(engine).reason or "")


def test_a_study_of_the_baseline_alone_confirms_it(engine: Engine) -> None:
    add_searched(engine, SEARCHED[:1])
    waves = play(engine, scores())
    assert waves == [[(0, 0), (0, 1)]]
    assert answer_of(engine).winner == 0
    assert result_of(engine).verdict()


@pytest.mark.parametrize("n_seeds", [2, 3, 4])
def test_there_are_no_more_pairs_than_asked_for(engine: Engine, n_seeds: int) -> None:
    add_searched(engine)
    study = replace(TEN, confirmation=Confirmation(n_finalists=1, n_seeds=n_seeds))

    def score_of(candidate: int, replicate: int) -> Scored:
        ahead = 0.05 if replicate < PAIRS_FROM else 0.03 + 0.02 * (-1) ** replicate
        score = 0.8 + ahead * (candidate != 0)
        return score, score

    assert sum(pairs_in(play(engine, score_of, study))) == n_seeds


def test_a_second_round_has_fresh_seeds_and_the_former_winner_among_its_finalists(
    engine: Engine,
) -> None:
    add_searched(engine)
    play(engine, scores(slot_1=0.05))
    first = answer_of(engine)
    with transaction(engine) as session:
        row = session.get_one(StudyRow, "s")
        row.stage, row.n_trials = "search", 9
        session.add_all(searched(slot, 0.87) for slot in range(6, 9))
    waves = play(engine, scores(slot_1=0.05, slot_7=0.05))
    with reading(engine) as session:
        rows = session.scalars(select(WorkRow).where(WorkRow.stage == "confirmation")).all()
    assert {row.round for row in rows} == {0, 1}
    assert {1} <= {slot for wave in waves for slot, _ in wave}
    second = answer_of(engine)
    assert len(second.comparisons) == 2
    assert second.comparisons[0] == first.comparisons[0]
    looks = [c.looks for c in second.comparisons]
    assert looks[0] is not None
    assert looks[1] is not None
    own = second.comparisons[1].difference.n - 1
    assert looks[1].freedom - own > looks[0].freedom, "the first round's cycles are pooled with it"


def test_the_deviation_says_how_much_it_rests_on(engine: Engine) -> None:
    add_searched(engine)
    play(engine, scores(slot_1=0.01, slot_3=0.01))
    answer = answer_of(engine)
    (comparison,) = answer.comparisons
    looks = comparison.looks
    assert looks is not None
    assert looks.freedom >= comparison.difference.n - 1
    half = comparison.difference.half_width
    root = comparison.difference.n**0.5
    assert half == pytest.approx(looks.boundary * looks.deviation / root)


def test_looks_of_a_round_rise() -> None:
    assert all(a < b for a, b in pairwise(LOOKS))
