"""What opens when the runs of a stage have ended."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import URL, Engine, select

from search.stages import range_test
from search.stages.order import advance
from search.stages.space import Ranges
from studies.answer import Answer
from studies.database import open_engine, prepare, reading, transaction
from studies.definition import Screening, Space
from studies.protocol import declared
from studies.states import RunState
from studies.tables import PointRecord, StudyRow, WorkRow
from tests.rows import study_row
from tests.table_study import STUDY, sweep_loss
from trainers.sweeps.sweep import Sweep


@pytest.fixture
def engine(sqlite_url: URL) -> Iterator[Engine]:
    engine = open_engine(sqlite_url)
    prepare(engine)
    yield engine
    engine.dispose()


def add_study(engine: Engine, *rows: WorkRow, **values: object) -> None:
    with transaction(engine) as session:
        bracket = {"bracket_low": 0.05, "bracket_high": 0.8, "proposed_max_lr": 0.2}
        frozen = {} if values["stage"] == "range_test" else bracket
        session.add(study_row(id="s", **frozen, **values))
        session.flush()
        session.add_all(rows)


def params_at(max_lr: float) -> dict[str, float]:
    return {"max_lr": max_lr, "pct_start": 0.3, "div_factor": 25.0}


def work(stage: str, slot: int, **values: object) -> WorkRow:
    columns: dict[str, object] = {
        "study_id": "s",
        "stage": stage,
        "round": 0,
        "epochs": 4,
        "slot": slot,
        "state": "done",
        "params": params_at(0.1 + slot / 100),
    }
    return WorkRow(**{**columns, **values})


def stage_after(engine: Engine) -> str:
    return advance(engine, "s", STUDY)


def rows_of(engine: Engine, stage: str) -> list[WorkRow]:
    with reading(engine) as session:
        found = select(WorkRow).where(WorkRow.stage == stage).order_by(WorkRow.slot)
        return list(session.scalars(found))


def study_of(engine: Engine) -> StudyRow:
    with reading(engine) as session:
        return session.get_one(StudyRow, "s")


def answer_of(engine: Engine) -> Answer:
    answer = study_of(engine).answer
    assert answer is not None
    return answer


def add_sweeps(engine: Engine, losses_of: "list[object]") -> None:
    plan = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=60)
    add_study(
        engine,
        *(
            work("range_test", slot, sweep_steps=60, epochs=None, params=None)
            for slot in range(len(losses_of))
        ),
        stage="range_test",
        declared=declared(STUDY, ""),
    )
    with transaction(engine) as session:
        for row, loss_of in zip(session.scalars(select(WorkRow)), losses_of, strict=True):
            for step, lr in enumerate(plan.lrs()):
                loss = loss_of(lr)  # type: ignore[operator]
                session.add(PointRecord(work_id=row.id, step=step, lr=lr, loss=loss))


def test_a_stage_with_open_runs_stays(engine: Engine) -> None:
    add_study(engine, work("search", 0, state="running"), work("search", 1), stage="search")
    assert stage_after(engine) == "search"


def test_finished_sweeps_freeze_the_bracket_and_open_the_search(engine: Engine) -> None:
    add_sweeps(engine, [sweep_loss] * 3)
    assert stage_after(engine) == "search"
    study = study_of(engine)
    assert study.edge is not None
    assert study.proposed_max_lr == pytest.approx(0.16 * study.edge * 76 / 312)
    assert study.bracket_low == pytest.approx(study.proposed_max_lr / 4)
    assert study.bracket_high == pytest.approx(study.proposed_max_lr * 4)
    assert 1.6 < study.edge < 2.0, "where half of the drop is lost again"
    assert [row.slot for row in rows_of(engine, "search")] == list(range(study.n_trials))


def falling(lr: float) -> float:
    return 2.3 - 0.1 * math.log10(lr / 1e-5)


def test_sweeps_that_say_nothing_open_a_search_in_a_wide_range(engine: Engine) -> None:
    add_sweeps(engine, [falling] * 3)
    assert stage_after(engine) == "search"
    study = study_of(engine)
    assert (study.edge, study.bracket_low) == (None, 1e-3)
    assert study.bracket_high == pytest.approx(0.16 * 10 * 4)
    assert study.proposed_max_lr == pytest.approx(math.sqrt(1e-3 * 6.4))


def test_sweeps_that_were_all_given_up_end_the_study(engine: Engine) -> None:
    gone = [
        work(
            "range_test",
            n,
            sweep_steps=60,
            epochs=None,
            params=None,
            state="failed",
            traceback="E: no",
        )
        for n in range(STUDY.range_test.n_sweeps)
    ]
    add_study(engine, *gone, stage="range_test", declared=declared(STUDY, ""))
    assert stage_after(engine) == "failed"
    reason = study_of(engine).reason or ""
    assert reason == "every sweep of the range test was given up; a run failed with E: no"


SIZES = (10, 20, 80)


def end_sweeps(engine: Engine, silent: tuple[int, ...]) -> int:
    """End the sweeps that wait, which show no edge at the silent sizes; return how many."""
    with transaction(engine) as session:
        waiting = session.scalars(select(WorkRow).where(WorkRow.state == RunState.WAITING)).all()
        for sweep in waiting:
            sweep.state = RunState.DONE
            assert sweep.params is not None
            size = sweep.params["batch_size"]
            loss_of = falling if size in silent else sweep_loss
            plan = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=sweep.sweep_steps or 0)
            for step, lr in enumerate(plan.lrs()):
                loss = loss_of(lr * math.sqrt(10 / int(size)))
                session.add(PointRecord(work_id=sweep.id, step=step, lr=lr, loss=loss))
        return len(waiting)


@pytest.mark.parametrize(
    ("max_lr", "silent", "origins"),
    [
        (None, (), ("edge", "edge", "edge")),
        (None, (10,), ("other batch size", "edge", "edge")),
        (None, (80,), ("edge", "edge", "other batch size")),
        (None, SIZES, ("wide range",) * 3),
        ((0.02, 2.0), (), ("own range",) * 3),
        ((0.02, 2.0), SIZES, ("own range",) * 3),
    ],
)
def test_a_batch_size_without_an_edge_has_the_proposal_of_the_nearest_that_has_one(
    engine: Engine,
    max_lr: tuple[float, float] | None,
    silent: tuple[int, ...],
    origins: tuple[str, ...],
) -> None:
    space = Space(pct_start=(0.2, 0.6), batch_size=SIZES, max_lr=max_lr)
    study = replace(STUDY, space=space, screening=Screening(n_trials=12, epochs=40))
    row = study_row(
        id="s",
        stage="range_test",
        declared=declared(study, ""),
        batch_size=10,
        batch_sizes={str(size): {"steps_per_epoch": 10} for size in SIZES},
    )
    with transaction(engine) as session:
        session.add(row)
        session.flush()
        session.add_all(range_test.work_of(row, study))
    n_sweeps = 0
    while advance(engine, "s", study) == "range_test":
        n_sweeps += end_sweeps(engine, silent)
    swept = SIZES if max_lr is None else SIZES[:1]
    assert n_sweeps == sum(3 if size in silent else 2 for size in swept), "each for itself"
    stored = study_of(engine)
    said = [range_test.frozen(stored, setting=str(size)) for size in SIZES]
    assert [each.origin for each in said if each is not None] == list(origins)
    ranges = Ranges.of(stored, study)
    reaches = {ranges.bracket_at(str(size))[1] / ranges.proposal_at(str(size)) for size in SIZES}
    assert len({round(reach, 6) for reach in reaches}) == 1
    if max_lr is not None:
        assert {ranges.bracket_at(str(size)) for size in SIZES} == {max_lr}
    for size, origin, nearest in zip(SIZES, origins, (20, 20, 20), strict=True):
        if origin == "other batch size":
            assert ranges.proposal_at(str(size)) == ranges.proposal_at(str(nearest))
    with reading(engine) as session:
        measured = range_test.measured_at_all(session, stored)
    assert all(each.proposal is not None for each in (measured, *measured.others.values()))


def test_the_best_two_begin_the_race_with_the_same_seed(engine: Engine) -> None:
    scores = [0.75, 0.79, 0.80, 0.79, 0.5]
    places = [0.1, 0.3, 0.4, 0.5, 0.8]
    add_study(
        engine,
        *(
            work("search", n, score=score, params=params_at(max_lr))
            for n, (score, max_lr) in enumerate(zip(scores, places, strict=True))
        ),
        stage="search",
    )
    assert stage_after(engine) == "confirmation"
    opened = rows_of(engine, "confirmation")
    assert [(row.slot, row.replicate) for row in opened] == [(1, 0), (2, 0)]
    assert {row.candidate for row in opened} < {1, 2, 3}
    assert {(row.params or {})["max_lr"] for row in opened} < {0.3, 0.4, 0.5}


def test_a_lucky_score_among_poor_neighbours_is_no_finalist(engine: Engine) -> None:
    scores = [0.80 + 0.09 * slot / 19 for slot in range(20)]
    scores[4] = 0.895
    add_study(
        engine,
        *(
            work("search", n, score=s, params=params_at(0.06 + 0.66 * n / 19))
            for n, s in enumerate(scores)
        ),
        stage="search",
    )
    assert stage_after(engine) == "confirmation"
    assert not any(row.candidate == 4 for row in rows_of(engine, "confirmation"))


def test_a_configuration_that_was_given_up_is_no_finalist(engine: Engine) -> None:
    add_study(
        engine,
        work("search", 0, score=0.5),
        work("search", 1, state="failed"),
        work("search", 2, score=0.4),
        stage="search",
    )
    assert stage_after(engine) == "confirmation"
    assert {row.candidate for row in rows_of(engine, "confirmation")} <= {0, 2}


def test_without_a_baseline_there_is_no_result(engine: Engine) -> None:
    add_study(
        engine, work("search", 0, state="failed"), work("search", 1, score=0.4), stage="search"
    )
    assert stage_after(engine) == "failed"


def confirmed(candidate: int, scores: list[float], sealed: list[float]) -> list[WorkRow]:
    return [
        work(
            "confirmation",
            10 * candidate + n,
            candidate=candidate,
            replicate=n,
            score=score,
            sealed_score=test,
        )
        for n, (score, test) in enumerate(zip(scores, sealed, strict=True))
    ]


def test_the_winner_is_chosen_by_validation_and_compared_once_on_the_test_split(
    engine: Engine,
) -> None:
    rows = [
        *confirmed(0, [0.50, 0.52, 0.51], [0.50, 0.50, 0.50]),
        *confirmed(1, [0.60, 0.62, 0.61], [0.51, 0.52, 0.53]),
        *confirmed(2, [0.55, 0.55, 0.55], [0.99, 0.99, 0.99]),
    ]
    add_study(engine, *rows, stage="confirmation")
    assert stage_after(engine) == "finished"
    answer = answer_of(engine)
    assert answer.winner == 1, "the best test score does not choose"
    assert set(answer.test) == {0, 1}, "the other sealed scores are not read"
    assert [c.difference.mean for c in answer.comparisons] == [pytest.approx(0.02)]
    assert stage_after(engine) == "finished"


def test_when_the_baseline_wins_nothing_is_compared(engine: Engine) -> None:
    rows = [*confirmed(0, [0.6, 0.6], [0.5, 0.5]), *confirmed(1, [0.5, 0.6], [0.9, 0.9])]
    add_study(engine, *rows, stage="confirmation")
    assert stage_after(engine) == "finished"
    answer = answer_of(engine)
    assert (answer.winner, answer.comparisons, answer.compared) == (0, (), False)


def test_a_finalist_that_lacks_a_seed_is_left_out(engine: Engine) -> None:
    rows = [
        *confirmed(0, [0.5, 0.5], [0.5, 0.5]),
        *confirmed(1, [0.9], [0.9]),
        work("confirmation", 11, candidate=1, replicate=1, state="failed"),
    ]
    add_study(engine, *rows, stage="confirmation")
    assert stage_after(engine) == "finished"
    assert answer_of(engine).winner == 0


def test_lower_is_better_where_the_study_minimises(engine: Engine) -> None:
    rows = [*confirmed(0, [0.5, 0.6], [0.5, 0.6]), *confirmed(1, [0.4, 0.4], [0.4, 0.4])]
    add_study(engine, *rows, stage="confirmation", direction="minimize")
    assert stage_after(engine) == "finished"
    assert answer_of(engine).winner == 1


def test_a_search_in_which_every_cycle_broke_opens_no_confirmation(engine: Engine) -> None:
    rows = [work("search", n, score=0.1, outcome="diverged") for n in range(4)]
    add_study(engine, *rows, stage="search")
    assert stage_after(engine) == "failed"
    assert (study_of(engine).reason or "").startswith("none of its 4 cycles has a usable score: ")
    assert rows_of(engine, "confirmation") == []


def test_one_whole_cycle_is_enough_to_be_confirmed(engine: Engine) -> None:
    rows = [work("search", n, score=0.1, outcome="diverged") for n in range(3)]
    add_study(engine, *rows, work("search", 3, score=0.4, outcome="completed"), stage="search")
    assert stage_after(engine) == "confirmation"


def test_a_confirmation_in_which_every_cycle_broke_has_no_answer(engine: Engine) -> None:
    rows = [*confirmed(0, [0.1, 0.1], [0.1, 0.1]), *confirmed(1, [0.1, 0.1], [0.1, 0.1])]
    for row in rows:
        row.outcome = "diverged"
    add_study(engine, *rows, stage="confirmation")
    assert stage_after(engine) == "failed"
    assert (study_of(engine).reason or "").startswith("none of its 4 cycles has a usable score: ")
