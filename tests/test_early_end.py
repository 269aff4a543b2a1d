"""A search that ends by itself: what is removed, what stays, and what is stored of it."""

import dataclasses
import json
import math
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, make_url, select

from search.queue.work import Queue
from search.stages.early_end import end_if_enough
from search.stages.first import first_choices
from search.stages.known import known
from search.stages.order import advance
from search.stages.space import Ranges
from search.starting import catalog
from search.workers.stop import Stop
from search.workers.worker import Worker
from studies.answer import SearchEnd
from studies.database import open_engine, prepare, reading, transaction
from studies.definition import Screening, Study
from studies.protocol import declared
from studies.registry import Definition
from studies.states import RunState
from studies.tables import StudyRow, WorkRow
from tests.conftest import TABLE_STUDY, Ended
from tests.rows import query, study_row
from tests.table_study import STUDY, Formula, Table
from tests.waits import wait_for
from trainers.device import Site
from trainers.onecycle import OneCycle
from trainers.task import OwnLoop

Main = Callable[..., Ended]
AT_MOST = 16
RANGES = Ranges(
    others=STUDY.parameters, bracket=(0.02, 0.32), proposed_max_lr=0.08, first_choices=True
)


class Flat(Formula):
    """Every configuration scores alike, to a hundredth of a point."""

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        score = 0.9 + random.Random(f"{cycle.max_lr} {seed}").gauss(0, 1e-4)
        return score, score


class Loop(Table):
    """The table's trainer over a flat table."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.table = Flat()


class Steep(Formula):
    """Half of the points lie between two configurations that differ by a tenth of a decade."""

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        score = 0.5 + 0.4 * random.Random(f"{cycle.max_lr}").random()
        return score, score


@dataclasses.dataclass
class Bench:
    """A stored study over a flat table, and a way to work on it."""

    engine: Engine
    study: Study
    row: StudyRow
    site: Site

    def work(self, *, table: object = None, stop: Stop | None = None) -> str:
        trainer = Loop(self.site)
        if table is not None:
            trainer.table = table  # type: ignore[assignment]
        return Worker(
            self.engine,
            self.row,
            self.study,
            trainer=trainer,
            site=self.site,
            stop=stop or Stop(),
        ).work()

    def rows(self, stage: str = "search") -> list[WorkRow]:
        with reading(self.engine) as session:
            found = select(WorkRow).where(WorkRow.stage == stage).order_by(WorkRow.slot)
            return list(session.scalars(found))

    def stored(self) -> StudyRow:
        with reading(self.engine) as session:
            return session.get_one(StudyRow, self.row.id)


@pytest.fixture
def bench(url: URL, tmp_path: Path) -> Iterator[Bench]:
    yield from made(url, tmp_path, Screening(n_trials=AT_MOST, epochs=4))


def made(
    url: URL, tmp_path: Path, screening: Screening, n_trials: int | None = None
) -> Iterator[Bench]:
    task = OwnLoop(factory=Loop, batch_size=10, steps_per_epoch=10)
    study = dataclasses.replace(STUDY, name="flat", task=task, screening=screening)
    engine = open_engine(url)
    prepare(engine)
    row = catalog.find_or_create(
        engine, Definition(study, "", ""), name="flat", seed=None, n_trials=n_trials
    )
    yield Bench(engine, study, row, Site(device="cpu", data=None, cache=tmp_path / "cache"))
    engine.dispose()


def test_a_flat_table_ends_its_search_early_and_the_answer_says_so(bench: Bench) -> None:
    assert bench.work() == "finished"
    rows, stored = bench.rows(), bench.stored()
    assert 6 <= len(rows) < AT_MOST
    assert [(row.slot, row.state, row.told) for row in rows] == [
        (slot, "done", True) for slot in range(len(rows))
    ], "what was not begun is gone, and nothing waits or failed"
    assert stored.answer is not None
    end = stored.answer.search_end
    assert end is not None
    assert (end.n_cycles, end.at_most) == (len(rows), AT_MOST)
    assert 0 <= end.gain < 5e-4
    assert stored.n_trials == AT_MOST


def test_a_steep_table_is_searched_to_the_maximum(bench: Bench) -> None:
    assert bench.work(table=Steep()) == "finished"
    assert len(bench.rows()) == AT_MOST
    assert bench.stored().answer.search_end is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("screening", "asked"),
    [
        (Screening(n_trials=AT_MOST, epochs=4), 9),
        (Screening(n_trials=9, epochs=4, exact=True), None),
    ],
    ids=["--trials", "exact=True"],
)
def test_a_fixed_number_never_ends_early(
    sqlite_url: URL, tmp_path: Path, screening: Screening, asked: int | None
) -> None:
    for bench in made(sqlite_url, tmp_path, screening, asked):
        assert bench.work() == "finished"
        assert len(bench.rows()) == 9
        assert bench.stored().search_end is None


def begun(
    engine: Engine, *, n_done: int = 8, held: tuple[int, ...] = (), **values: object
) -> None:
    """Store a search over a flat table: so many cycles are done, some held, the rest waits."""
    points = [*first_choices(RANGES), *RANGES.candidates(AT_MOST, seed=0)]
    noise = random.Random(0)
    columns = {"n_trials": AT_MOST, "exact": False, "declared": declared(STUDY, "")}
    bracket = {"bracket_low": 0.02, "bracket_high": 0.32, "proposed_max_lr": 0.08}
    with transaction(engine) as session:
        session.add(study_row(id="s", **{**columns, **bracket, **values}))
        session.flush()
        for slot in range(AT_MOST):
            row = WorkRow(study_id="s", stage="search", round=0, epochs=4, slot=slot)
            if slot < n_done or slot in held:
                row.params, row.token, row.state = dict(points[slot]), 1, RunState.RUNNING
            if slot < n_done:
                row.state, row.outcome = RunState.DONE, "completed"
                row.score = 0.9 + noise.gauss(0, 1e-4)
            session.add(row)


def slots(engine: Engine) -> list[tuple[int, str]]:
    with reading(engine) as session:
        found = session.scalars(select(WorkRow).order_by(WorkRow.slot))
        return [(row.slot, row.state.value) for row in found]


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    engine = open_engine(url)
    prepare(engine)
    yield engine
    engine.dispose()


DONE = [(slot, "done") for slot in range(8)]
WHOLE = [*DONE, *((slot, "waiting") for slot in range(8, AT_MOST))]


def test_what_nobody_has_claimed_is_removed_and_what_others_train_stays(engine: Engine) -> None:
    begun(engine, held=(9, 11))
    end_if_enough(engine, "s", STUDY)
    assert slots(engine) == [*DONE, (9, "running"), (11, "running")]
    with reading(engine) as session:
        end = session.get_one(StudyRow, "s").search_end
    assert end is not None
    assert (end.n_cycles, end.at_most, end.unvisited) == (10, AT_MOST, None)
    assert 0 <= end.gain < 5e-4


@pytest.mark.parametrize(
    "values",
    [{"exact": True}, {"n_done": 5}, {"stage": "confirmation"}],
    ids=["a fixed number", "too few to tell", "another stage"],
)
def test_the_search_goes_on(engine: Engine, values: dict[str, object]) -> None:
    begun(engine, **values)  # type: ignore[arg-type]
    end_if_enough(engine, "s", STUDY)
    assert len(slots(engine)) == AT_MOST


def test_of_many_cycles_an_even_part_is_read_for_a_proposal(engine: Engine) -> None:
    begun(engine)
    points = RANGES.candidates(512, seed=1)
    with transaction(engine) as session:
        session.add_all(
            WorkRow(
                study_id="s",
                stage="search",
                round=0,
                epochs=4,
                slot=slot,
                state=RunState.DONE,
                score=0.9,
                params=dict(points[slot - AT_MOST]),
            )
            for slot in range(AT_MOST, AT_MOST + 512)
        )
    with reading(engine) as session:
        seen = known(session, session.get_one(StudyRow, "s"), STUDY, slot=9)
    assert seen.n_ended == 8 + 512
    assert seen.belief is not None
    slots_read = [each.slot for each in seen.belief.tried]
    assert 150 < len(slots_read) <= 200
    ended = [*range(8), *range(AT_MOST, AT_MOST + 512)]
    assert slots_read == [slot for slot in ended if slot % 3 == 0]


def test_what_was_read_once_is_not_read_again(engine: Engine) -> None:
    begun(engine)
    with reading(engine) as session:
        first = known(session, session.get_one(StudyRow, "s"), STUDY, slot=8)
    with transaction(engine) as session:
        next_one = session.scalars(select(WorkRow).where(WorkRow.slot == 8)).one()
        next_one.params = dict(first.cycles[3].params or {}) | {"max_lr": 0.05}
        next_one.state, next_one.score = RunState.DONE, 0.9
    with reading(engine) as session:
        row = session.get_one(StudyRow, "s")
        later = known(session, row, STUDY, slot=9, before=first)
        fresh = known(session, row, STUDY, slot=9)
    assert list(later.cycles) == list(range(9))
    assert all(later.cycles[slot] is first.cycles[slot] for slot in range(8))
    assert later.belief is not None
    assert fresh.belief is not None
    assert later.belief.tried == fresh.belief.tried
    assert later.belief.candidates == fresh.belief.candidates


def test_nothing_is_decided_while_a_run_that_had_an_owner_waits(engine: Engine) -> None:
    begun(engine)
    with transaction(engine) as session:
        given_back = session.scalars(select(WorkRow).where(WorkRow.slot == 8)).one()
        given_back.token = 1
    end_if_enough(engine, "s", STUDY)
    assert slots(engine) == WHOLE, "its owner would have claimed it on what was known before it"


@pytest.mark.parametrize("attempt", range(3))
def test_workers_that_decide_and_claim_at_once_neither_lose_nor_double_a_run(
    engine: Engine, attempt: int
) -> None:
    begun(engine)
    claimed: list[int] = []
    at_once = threading.Barrier(6)

    def claim(name: str) -> None:
        at_once.wait()
        found = Queue(engine, study_row(id="s"), owner=name, process=None).claim()
        if found is not None:
            claimed.append(found.slot)

    def decide() -> None:
        at_once.wait()
        end_if_enough(engine, "s", STUDY)

    threads = [threading.Thread(target=claim, args=(f"w{n}",)) for n in range(3)]
    threads += [threading.Thread(target=decide) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(claimed)) == len(claimed)
    left = [*DONE, *((slot, "running") for slot in sorted(claimed))]
    assert slots(engine) == left, "what was claimed stays, whoever came first"
    with reading(engine) as session:
        end = session.get_one(StudyRow, "s").search_end
    assert end is not None
    assert end.n_cycles == len(left)


def test_a_configuration_that_nobody_tried_comes_last_where_it_is_expected_to_be_the_best(
    engine: Engine,
) -> None:
    begun(engine, n_done=AT_MOST, search_end=SearchEnd(n_cycles=AT_MOST, at_most=24, gain=1e-4))
    with transaction(engine) as session:
        for row in session.scalars(select(WorkRow)):
            assert row.params is not None
            row.score = 0.9 - 0.3 * math.log10(row.params["max_lr"] / 0.05) ** 2
            if abs(math.log10(row.params["max_lr"] / 0.05)) < 0.12:
                row.state, row.score = RunState.FAILED, None
    assert advance(engine, "s", STUDY) == "search"
    with transaction(engine) as session:
        last = session.scalars(select(WorkRow).where(WorkRow.slot == AT_MOST)).one()
        assert last.params is not None
        assert abs(math.log10(last.params["max_lr"] / 0.05)) < 0.12
        end = session.get_one(StudyRow, "s").search_end
        assert end == SearchEnd(n_cycles=AT_MOST + 1, at_most=24, gain=1e-4, unvisited=AT_MOST)
        last.state, last.score, last.outcome = RunState.DONE, 0.9, "completed"
    assert advance(engine, "s", STUDY) == "confirmation"
    with reading(engine) as session:
        confirmed = session.scalars(select(WorkRow).where(WorkRow.stage == "confirmation"))
        assert AT_MOST in {row.candidate for row in confirmed}, "a finalist like others"


def test_without_such_a_configuration_the_confirmation_opens(engine: Engine) -> None:
    begun(engine, n_done=AT_MOST, search_end=SearchEnd(n_cycles=AT_MOST, at_most=24, gain=1e-4))
    assert advance(engine, "s", STUDY) == "confirmation"


def test_a_fixed_number_gets_no_configuration_more(engine: Engine) -> None:
    begun(engine, n_done=AT_MOST, exact=True)
    assert advance(engine, "s", STUDY) == "confirmation"


def test_the_same_start_again_changes_nothing_and_more_configurations_are_added_exactly(
    main_here: Main, tmp_path: Path
) -> None:
    study, storage = tmp_path / "flat.py", f"sqlite:///{tmp_path}/a.db"
    study.write_text(FLAT)
    run = ("run", "--study", str(study), "--storage", storage, "--workers", "1", "--json")
    plan = main_here(*run[:-1], "--dry-run")
    assert "at most 16 cycles" in plan.out
    first = json.loads(main_here(*run).out)
    n = first["n_trials"]
    assert 6 <= n < AT_MOST
    assert json.loads(main_here(*run).out)["n_trials"] == n
    refused = main_here(*run, "--trials", "16")
    assert refused.code == 2
    assert f"ended its search after {n} of at most 16; leave --trials out, add" in refused.err
    status = json.loads(main_here("status", "--study", "flat", "--storage", storage, "--json").out)
    assert status["search_end"]["n_cycles"] == n
    said = main_here("status", "--study", "flat", "--storage", storage).out
    assert f"the search ended by itself, with {n} of at most 16 configurations" in said
    more = json.loads(main_here(*run, "--trials", "+3").out)
    assert more["n_trials"] == n + 3
    assert json.loads(main_here(*run, "--trials", str(n + 3)).out)["n_trials"] == n + 3


def test_a_number_that_is_asked_for_in_time_becomes_exact(main_here: Main, tmp_path: Path) -> None:
    study, storage = str(TABLE_STUDY), f"sqlite:///{tmp_path}/a.db"
    run = ("run", "--study", study, "--storage", storage, "--workers", "1")
    assert main_here(*run, "--timeout-min", "0.0001").code == 75
    assert main_here(*run, "--trials", "12").code == 0
    engine = open_engine(make_url(storage))
    with reading(engine) as session:
        assert session.scalars(select(StudyRow)).one().exact
        searched = select(WorkRow).where(WorkRow.stage == "search")
        assert len(session.scalars(searched).all()) == 12
    engine.dispose()


FLAT = """
from dataclasses import replace
from studies.definition import Screening
from tests.table_study import STUDY as TABLE
from tests.test_early_end import Loop
from trainers.task import OwnLoop

STUDY = replace(
    TABLE,
    name="flat",
    screening=Screening(n_trials=16, epochs=4),
    task=OwnLoop(factory=Loop, batch_size=10, steps_per_epoch=10),
)
"""


@pytest.mark.slow
def test_a_search_that_is_killed_again_and_again_ends_where_an_undisturbed_one_does(
    start_onecycle: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    study, draw = tmp_path / "flat.py", random.Random(3)
    study.write_text(FLAT)
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "many")]

    def start(url: str) -> "subprocess.Popen[str]":
        flags = ("--study", str(study), "--storage", url, "--workers", "1", "--seed", "2")
        return start_onecycle("run", *flags, TABLE_SLEEP_S="0.003")

    def n_claims() -> int:
        return int(query(make_url(urls[1]), "SELECT sum(token) FROM work")[0][0] or 0)

    undisturbed = start(urls[0])
    before = 0
    for n_new in (5, 2, 3):
        process = start(urls[1])
        wait_for(lambda before=before, n_new=n_new: n_claims() >= before + n_new)
        time.sleep(draw.uniform(0.0, 0.15))
        process.kill()
        process.communicate()
        before = n_claims()
    for process in (start(urls[1]), undisturbed):
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    rows = "SELECT stage, round, slot, state, params, score FROM work ORDER BY stage, round, slot"
    one, many = (query(make_url(url), rows) for url in urls)
    assert many == one
    ends = [query(make_url(url), "SELECT n_trials, exact, search_end FROM study") for url in urls]
    assert ends[0] == ends[1]
    assert ends[0][0][2] is not None, "it ended by itself"
    states = [
        query(make_url(url), "SELECT state, count(*) FROM trials GROUP BY state") for url in urls
    ]
    assert states[0] == states[1], "Optuna knows as many"
