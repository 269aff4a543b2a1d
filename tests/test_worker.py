"""One worker in this process: every way a run can end, and what is left behind."""

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import optuna
import pytest
import torch
from optuna.trial import TrialState
from PIL import UnidentifiedImageError
from sqlalchemy import URL, Engine, select

from search.history.optuna_study import History, repair
from search.queue.roster import process_identity
from search.queue.work import MAX_FAILURES, Ended, Queue
from search.starting import catalog
from search.workers.stop import Stop
from search.workers.worker import MAX_PLACE_FAILURES, Worker
from studies.database import (
    close_optuna,
    open_engine,
    optuna_storage,
    prepare,
    reading,
    transaction,
)
from studies.definition import Space, Study
from studies.registry import Definition
from studies.tables import StudyRow, WorkerRow, WorkRow
from tests.table_study import STUDY, Table
from tests.waits import wait_for
from trainers.device import Site
from trainers.errors import DataError, ScheduleError, TaskError, UserError
from trainers.onecycle import OneCycle
from trainers.run import Run, RunResult
from trainers.seeding import run_seed_for, seed_for
from trainers.sweeps.sweep import Sweep
from trainers.task import OwnLoop

Change = Callable[[Run], None]


class Changed(Table):
    """The table's trainer, with something that happens before each cycle."""

    def __init__(self, site: Site, change: Change) -> None:
        super().__init__(site)
        self.change = change

    def fit(self, run: Run) -> RunResult:
        if isinstance(run.plan, OneCycle):
            self.change(run)
        return super().fit(run)


@dataclasses.dataclass
class Bench:
    """A stored study, and a way to work on it."""

    engine: Engine
    study: Study
    row: StudyRow
    site: Site
    stop: Stop = dataclasses.field(default_factory=Stop)

    def work(self, change: Change = lambda run: None, trainer: object = None) -> str:
        """Work until the study ends or the stop is asked for."""
        used = trainer or Changed(self.site, change)
        worker = Worker(
            self.engine,
            self.row,
            self.study,
            trainer=used,
            site=self.site,
            stop=self.stop,  # type: ignore[arg-type]
        )
        return worker.work()

    def rows(self, stage: str = "search") -> list[WorkRow]:
        """Return the rows of a stage by slot."""
        with reading(self.engine) as session:
            found = select(WorkRow).where(WorkRow.stage == stage).order_by(WorkRow.slot)
            return list(session.scalars(found))

    def slot(self) -> int | None:
        """Return the slot of the search that is being trained; None in another stage."""
        with reading(self.engine) as session:
            running = select(WorkRow.slot).where(
                WorkRow.stage == "search", WorkRow.state == "running"
            )
            # The last of them: a test may have let another worker take an earlier one.
            return session.scalars(running.order_by(WorkRow.slot.desc())).first()

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """Return Optuna's trials, read with plain Optuna."""
        storage = optuna_storage(self.engine.url)
        try:
            return optuna.load_study(study_name="table", storage=storage).trials
        finally:
            close_optuna(storage)


@pytest.fixture
def bench(url: URL, tmp_path: Path) -> Iterator[Bench]:
    task = OwnLoop(factory=Table, batch_size=10, steps_per_epoch=10)
    study = dataclasses.replace(STUDY, task=task)
    engine = open_engine(url)
    prepare(engine)
    row = catalog.find_or_create(
        engine, Definition(study, "", ""), name="table", seed=None, n_trials=5
    )
    yield Bench(engine, study, row, Site(device="cpu", data=None, cache=tmp_path / "cache"))
    engine.dispose()


def test_an_undisturbed_study_finishes_and_optuna_knows_every_value(bench: Bench) -> None:
    assert bench.work() == "finished"
    rows, trials = bench.rows(), bench.trials()
    assert [row.state for row in rows] == ["done"] * 5
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5
    assert {t.user_attrs["slot"]: t.value for t in trials} == {r.slot: r.score for r in rows}
    assert {t.number: t.params["max_lr"] for t in trials} == {
        r.trial_number: (r.params or {})["max_lr"] for r in rows
    }
    for trial, row in zip(trials, sorted(rows, key=lambda r: r.trial_number or 0), strict=True):
        assert row.n_images is not None
        assert row.seconds is not None
        assert trial.user_attrs == {
            "slot": row.slot,
            "worker": row.owner,
            "device": row.device,
            "outcome": "completed",
            "seconds": pytest.approx(row.seconds, abs=1e-3),
            "images_per_s": pytest.approx(row.n_images / row.seconds, abs=0.5),
        }
    assert not (bench.site.cache / "checkpoints").exists()


def test_the_same_study_seed_gives_the_same_configurations_and_scores(bench: Bench) -> None:
    bench.work()
    first = [(row.params, row.score) for row in bench.rows()]
    assert all(params is not None for params, _ in first)
    catalog.delete(bench.engine, "table")
    bench.row = catalog.find_or_create(
        bench.engine, Definition(bench.study, "", ""), name="table", seed=None, n_trials=5
    )
    bench.work()
    assert [(row.params, row.score) for row in bench.rows()] == first


def test_the_seed_of_every_run_is_one_that_numpy_takes(bench: Bench) -> None:
    seeds: list[int] = []
    assert bench.work(lambda run: seeds.append(run.seed)) == "finished"
    assert seeds.count(run_seed_for(0, "search", 0, 0)) == 5, "all of the search share one"
    for seed in seeds:
        numpy.random.RandomState(seed + 1)  # a rank may be added


@pytest.mark.parametrize(
    ("gone", "derive"),
    [
        (("seeds of the runs", "seeds of the search"), seed_for),
        (("seeds of the search",), run_seed_for),
    ],
    ids=["long seeds", "a seed for each slot"],
)
def test_a_study_of_before_keeps_the_seeds_that_it_had(
    bench: Bench, gone: tuple[str, ...], derive: Callable[..., int]
) -> None:
    with transaction(bench.engine) as session:
        stored = session.get_one(StudyRow, bench.row.id)
        stored.declared = {k: v for k, v in stored.declared.items() if k not in gone}
    bench.row = catalog.find_or_create(
        bench.engine, Definition(bench.study, "", ""), name="table", seed=None, n_trials=5
    )
    seeds: list[int] = []
    assert bench.work(lambda run: seeds.append(run.seed)) == "finished"
    assert set(seeds) >= {derive(0, "search", 0, slot) for slot in range(5)}


def test_a_cycle_that_diverges_is_a_result_at_chance_level(bench: Bench) -> None:
    def explode(run: Run) -> None:
        if run.sealed_split is None and bench.slot() in (1, 3):
            run.report(0, math.nan, lrs=[run.plan.lrs()[0]])
            run.look()

    assert bench.work(explode) == "finished"
    broken = [row for row in bench.rows() if row.outcome == "diverged"]
    assert [row.slot for row in broken] == [1, 3]
    assert {row.score for row in broken} == {0.1}
    assert {row.diverged_step for row in broken} == {0}
    told = {t.user_attrs["slot"]: t for t in bench.trials()}
    assert all(told[row.slot].state == TrialState.COMPLETE for row in broken)
    assert all(told[row.slot].value == 0.1 for row in broken)


def test_a_run_that_always_raises_is_given_up_and_the_rest_finishes(bench: Bench) -> None:
    def raise_on_slot_2(run: Run) -> None:
        if bench.slot() == 2:
            raise RuntimeError("poisoned")

    assert bench.work(raise_on_slot_2) == "finished"
    states = [row.state for row in bench.rows()]
    assert states == ["done", "done", "failed", "done", "done"]
    given_up = bench.rows()[2]
    assert (given_up.token, given_up.failures) == (MAX_FAILURES, MAX_FAILURES)
    assert "RuntimeError: poisoned" in (given_up.traceback or "")
    assert sum(t.state == TrialState.COMPLETE for t in bench.trials()) == 4
    assert sum(t.state == TrialState.FAIL for t in bench.trials()) == 1


def test_a_loop_that_leaves_the_plan_is_never_a_result(bench: Bench) -> None:
    class PerEpoch(Table):
        def fit(self, run: Run) -> RunResult:
            if isinstance(run.plan, Sweep):
                return super().fit(run)
            for step in range(run.plan.total_steps):
                run.report(step, 1.0, lrs=[run.plan.lrs()[step // 10]])
            return RunResult(
                score=0.99,
                outcome="completed",
                n_steps=run.plan.total_steps,
                n_images=0,
                seconds=0.0,
            )

    assert bench.work(trainer=PerEpoch(bench.site)) == "failed"
    assert [row.failures for row in bench.rows()] == [3, 3, 0, 0, 0], "six bugs stop the study"
    assert "step the scheduler once per optimizer step" in (bench.rows()[0].traceback or "")


def test_a_cycle_without_a_score_is_a_failed_attempt(bench: Bench) -> None:
    class Scoreless(Table):
        def fit(self, run: Run) -> RunResult:
            return dataclasses.replace(super().fit(run), score=None)

    assert bench.work(trainer=Scoreless(bench.site)) == "failed"
    assert "done" not in {row.state for row in bench.rows()}
    assert "completed a cycle without a score" in (bench.rows()[0].traceback or "")


def test_a_stop_in_mid_run_gives_the_work_back_and_the_next_worker_goes_on(bench: Bench) -> None:
    def stop_in_slot_1(run: Run) -> None:
        if bench.slot() == 1:
            bench.stop.ask()

    assert bench.work(stop_in_slot_1) == "stopped"
    given_back = bench.rows()[1]
    assert (given_back.state, given_back.owner, given_back.failures) == ("waiting", None, 0)
    before = given_back.trial_number, given_back.params
    bench.stop = Stop()
    assert bench.work() == "finished"
    after = bench.rows()[1]
    assert (after.trial_number, after.params) == before
    assert len(bench.trials()) == 5


def test_an_exception_after_a_stop_request_is_no_failure(bench: Bench) -> None:
    def stop_and_raise(run: Run) -> None:
        bench.stop.ask()
        raise RuntimeError("a data loader was killed by the signal")

    assert bench.work(stop_and_raise) == "stopped"
    assert bench.rows()[0].state == "waiting"
    assert bench.rows()[0].failures == 0


def test_a_worker_that_was_fenced_off_drops_its_result_and_takes_other_work(bench: Bench) -> None:
    taken: list[int] = []

    def take_over(run: Run) -> None:
        """Do what another worker's take-over does to the row, once, in mid-run."""
        if bench.slot() != 1 or taken:
            return
        with transaction(bench.engine) as session:
            row = session.scalars(
                select(WorkRow).where(WorkRow.state == "running", WorkRow.slot == 1)
            ).one()
            row.token += 1
            row.owner, row.process = "another", "boot/other-namespace/1/1"
            taken.append(row.id)

    bench.row.grace_s = 0.5
    assert bench.work(take_over) == "finished"
    assert taken
    row = bench.rows()[1]
    assert (row.state, row.token) == ("done", 3), "claimed, taken over, taken back when silent"
    assert len(bench.trials()) == 5


def test_a_user_error_in_a_run_ends_the_worker_and_gives_the_run_back(bench: Bench) -> None:
    def lose_the_model(run: Run) -> None:
        raise TaskError("the model's file went away")

    with pytest.raises(TaskError, match="went away"):
        bench.work(lose_the_model)
    row = bench.rows()[0]
    assert (row.state, row.failure, row.failures) == ("waiting", None, 0)


def test_a_crash_between_our_write_and_optunas_is_repaired(bench: Bench) -> None:
    def stop_before_slot_0(run: Run) -> None:
        bench.stop.ask()

    bench.work(stop_before_slot_0)
    with reading(bench.engine) as session:
        study = session.get_one(StudyRow, bench.row.id)
    queue = Queue(bench.engine, study, owner="crashed", process=None)
    claim = queue.claim()
    assert claim is not None
    queue.finish(
        claim,
        Ended(
            outcome="completed",
            score=0.77,
            sealed_score=None,
            n_steps=40,
            n_images=400,
            seconds=1.0,
            device="cpu",
            diverged=None,
        ),
    )
    assert bench.trials()[0].state == TrialState.RUNNING, "the owner died before telling"
    history = History.stored(bench.engine.url, bench.row)
    repair(queue, history)
    history.close()
    assert (bench.trials()[0].state, bench.trials()[0].value) == (TrialState.COMPLETE, 0.77)
    assert queue.untold() == []


def test_the_owner_beats_while_it_trains(bench: Bench) -> None:
    beats: list[int] = []

    def train_for_a_while(run: Run) -> None:
        if not beats:
            wait_for(lambda: max(beats_of_the_running()) >= 3)
            beats.extend(beats_of_the_running())

    def beats_of_the_running() -> Sequence[int]:
        with reading(bench.engine) as session:
            return session.scalars(select(WorkRow.beat).where(WorkRow.state == "running")).all()

    bench.row.beat_s = 0.05
    bench.work(train_for_a_while)
    assert beats[0] >= 3


@pytest.mark.parametrize(
    ("score", "outcome"),
    [
        (math.nan, "score no number"),
        (-math.inf, "score no number"),
        (1e300, "score no number"),
        (0.05, "did not learn"),
    ],
)
def test_a_score_that_is_no_number_or_worse_than_a_broken_cycles_is_worth_as_much(
    bench: Bench, score: float, outcome: str
) -> None:
    class NoScore(Table):
        def fit(self, run: Run) -> RunResult:
            result = super().fit(run)
            return dataclasses.replace(result, score=score) if run.split else result

    assert bench.work(trainer=NoScore(bench.site)) == "failed"
    assert {(row.outcome, row.score) for row in bench.rows()} == {(outcome, 0.1)}
    with reading(bench.engine) as session:
        reason = session.get_one(StudyRow, bench.row.id).reason or ""
    assert reason.startswith("none of its 5 cycles has a usable score: ")
    words = {"score no number": "the score was no number in 5", "did not learn": "(0.1) in 5"}
    assert words[outcome] in reason


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (MemoryError(), "memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: no"), "memory"),
        (OSError(28, "No space left on device"), "infrastructure"),
        (ConnectionResetError(), "infrastructure"),
        (ValueError("shapes differ"), "bug"),
    ],
)
def test_failures_are_told_apart(bench: Bench, error: Exception, kind: str) -> None:
    raised: list[int] = []

    def raise_once(run: Run) -> None:
        if not raised:
            raised.append(run.seed)
            raise error

    ended = bench.work(raise_once)
    row = bench.rows()[0]
    if kind == "memory":
        assert (ended, row.state, row.failure) == ("renew", "waiting", "memory")
        assert [r.token for r in bench.rows()] == [1, 0, 0, 0, 0], "nothing else was begun"
        assert bench.work() == "finished"
    assert bench.rows()[0].state == "done"
    assert bench.rows()[0].failures == (0 if kind == "infrastructure" else 1)


def test_a_worker_whose_place_keeps_failing_ends_and_gives_nothing_up(bench: Bench) -> None:
    def disk_is_full(run: Run) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"3 attempts in a row failed here.*No space left"):
        bench.work(disk_is_full)
    row = bench.rows()[0]
    assert (row.state, row.failure, row.failures, row.token) == (
        "waiting",
        "infrastructure",
        0,
        MAX_PLACE_FAILURES,
    )
    assert bench.work() == "finished"


@pytest.mark.parametrize("error", [DataError("class 3 has no images"), UnidentifiedImageError()])
def test_broken_data_is_recorded_and_ends_the_worker(bench: Bench, error: Exception) -> None:
    def read_a_broken_file(run: Run) -> None:
        raise error

    with pytest.raises(DataError):
        bench.work(read_a_broken_file)
    row = bench.rows()[0]
    assert (row.state, row.failure, row.failures) == ("waiting", "data", 0)
    assert type(error).__name__ in (row.traceback or "")


def test_bugs_with_finished_runs_between_them_do_not_stop_the_study(bench: Bench) -> None:
    failed: set[int | None] = set()

    def raise_once_each(run: Run) -> None:
        slot = bench.slot()
        if slot is not None and slot not in failed:
            failed.add(slot)
            raise RuntimeError("flaky")

    assert bench.work(raise_once_each) == "finished"
    assert [row.failures for row in bench.rows()] == [1] * 5


def test_a_study_that_was_stopped_hands_out_no_more_work(bench: Bench) -> None:
    def always(run: Run) -> None:
        raise RuntimeError("broken")

    assert bench.work(always) == "failed"
    assert any(row.state == "waiting" for row in bench.rows())
    with reading(bench.engine) as session:
        study = session.get_one(StudyRow, bench.row.id)
    assert Queue(bench.engine, study, owner="late", process=None).claim() is None
    assert study.reason is not None
    assert study.reason.endswith("the last with RuntimeError: broken")


def test_a_worker_at_the_end_of_a_stage_says_what_it_waits_for(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    other = Queue(bench.engine, bench.row, owner="other", process=None)
    claim = other.claim()
    assert claim is not None

    def give_back_when_waited_for() -> str:
        while True:
            with reading(bench.engine) as session:
                reason = session.scalars(select(WorkerRow.waits_for)).one_or_none()
            if reason is not None:
                other.give_back(claim)
                return reason
            other.beat(claim)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(give_back_when_waited_for)
        assert bench.work() == "finished"
        assert waiting.result() == "1 range test run(s) of other workers"
    assert "waiting for 1 range test run(s) of other workers to end" in caplog.messages
    with reading(bench.engine) as session:
        assert session.scalars(select(WorkerRow)).all() == [], "it has left"


def test_a_run_of_a_dead_process_is_taken_before_anything_new_is_asked_for(bench: Bench) -> None:
    def stop_in_the_search(run: Run) -> None:
        if bench.slot() == 2:
            bench.stop.ask()

    bench.work(stop_in_the_search)
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = process_identity(process.pid)
    killed = Queue(bench.engine, bench.row, owner="killed", process=identity)
    claim = killed.claim()
    assert claim is not None
    process.wait()
    order: list[int | None] = []
    bench.stop = Stop()
    bench.work(lambda run: order.append(bench.slot()))
    assert order[0] == claim.slot


@pytest.mark.filterwarnings("ignore:Fixed parameter pct_start")
def test_no_trial_is_spent_on_a_broken_schedule(bench: Bench) -> None:
    broken = Space(pct_start=(0.955, 0.97))
    object.__setattr__(bench.study, "space", broken)  # past the look at the corners
    trained = []
    with pytest.raises(ScheduleError, match=r"^search 1: error: no-anneal: .* leave 1\.\d"):
        bench.work(lambda run: trained.append(run.plan.pct_start))  # type: ignore[attr-defined]
    assert trained == [0.3]  # the baseline, which torch's defaults keep sound
    assert [(row.state, row.failures) for row in bench.rows()][1] == ("waiting", 0)


def test_deleting_a_study_deletes_the_optuna_studies_that_earlier_versions_made(
    bench: Bench,
) -> None:
    storage = optuna_storage(bench.engine.url)
    for name in ("table/screen-2", "somebody-elses"):
        made = optuna.create_study(storage=storage, study_name=name)
        made.set_user_attr("onecycle_study", bench.row.id if name.startswith("table") else "x")
    catalog.delete(bench.engine, "table")
    assert optuna.get_all_study_names(storage) == ["somebody-elses"]
    close_optuna(storage)
