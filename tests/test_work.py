"""The table of work: exact claims, fenced writes, leases by the observer's own clock."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import URL, Engine, make_url, select

from search.params import Params
from search.queue.leases import Leases
from search.queue.roster import is_gone, process_identity
from search.queue.rows import MAX_DEATHS, SUSPICIOUS_DEATHS
from search.queue.work import MAX_FAILURES, Claim, Ended, FencedOffError, Queue
from studies.database import open_engine, prepare, reading, transaction
from studies.errors import DatabaseUnreachableError
from studies.states import FailureKind
from studies.tables import EpochRecord, PointRecord, StudyRow, WorkRow
from tests.rows import study_row
from tests.waits import HandClock
from trainers.run import EpochRow, Point

N_SLOTS = 40


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    """A database that holds one study with N_SLOTS waiting slots."""
    engine = open_engine(url)
    prepare(engine)
    study = study_row(id="s", grace_s=0.2)
    with transaction(engine) as session:
        session.add(study)
        session.flush()
        session.add_all(
            WorkRow(study_id="s", stage="search", round=0, epochs=2, slot=slot)
            for slot in range(N_SLOTS)
        )
    yield engine
    engine.dispose()


def queue_on(
    engine: Engine,
    *,
    owner: str = "w",
    process: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Queue:
    with reading(engine) as session:
        study = session.get_one(StudyRow, "s")
    return Queue(engine, study, owner=owner, process=process, clock=clock)


def row_of(engine: Engine, claim: Claim) -> WorkRow:
    with reading(engine) as session:
        return session.get_one(WorkRow, claim.work_id)


def claimed(queue: Queue) -> Claim:
    claim = queue.claim()
    assert claim is not None
    return claim


def ended(**values: object) -> Ended:
    columns: dict[str, object] = {
        "outcome": "completed",
        "score": 0.5,
        "sealed_score": None,
        "n_steps": 20,
        "n_images": 200,
        "seconds": 1.0,
        "device": "cpu",
        "diverged": None,
    }
    return Ended(**{**columns, **values})  # type: ignore[arg-type]


EPOCH = EpochRow(
    epoch=1,
    lr_first=0.1,
    lr_last=0.2,
    train_loss=1.0,
    train_accuracy=0.5,
    validation_loss=1.1,
    validation_accuracy=0.4,
    seconds=1.0,
    images_per_s=100.0,
)


def _claim_all(url: str, claims: "multiprocessing.queues.Queue[int]") -> None:
    engine = open_engine(make_url(url))
    queue = queue_on(engine, owner=str(os.getpid()))
    while (claim := queue.claim()) is not None:
        claims.put(claim.slot)
    engine.dispose()


def test_five_processes_claim_each_slot_exactly_once(engine: Engine) -> None:
    context = multiprocessing.get_context("forkserver")  # one warm parent for all of them
    context.set_forkserver_preload([__name__])
    claims = context.Queue()
    url = engine.url.render_as_string(hide_password=False)
    with transaction(engine) as session:
        session.get_one(StudyRow, "s").grace_s = 60
    processes = [context.Process(target=_claim_all, args=(url, claims)) for _ in range(5)]
    for process in processes:
        process.start()
    slots = sorted(claims.get(timeout=300) for _ in range(N_SLOTS))
    for process in processes:
        process.join()
    assert claims.empty()
    assert slots == list(range(N_SLOTS))
    with reading(engine) as session:
        assert set(session.scalars(select(WorkRow.token))) == {1}


def test_slots_are_claimed_in_order(engine: Engine) -> None:
    queue = queue_on(engine)
    assert [claimed(queue).slot for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_given_back_run_is_the_next_one_claimed_and_keeps_its_parameters(engine: Engine) -> None:
    queue = queue_on(engine)
    first = claimed(queue)
    queue.bind(first, 7, Params(max_lr=0.1, pct_start=0.3, div_factor=25.0))
    queue.give_back(first)
    again = claimed(queue)
    assert (again.slot, again.token, again.params) == (
        0,
        2,
        Params(max_lr=0.1, pct_start=0.3, div_factor=25.0),
    )


def test_an_owner_that_was_replaced_can_write_nothing(engine: Engine) -> None:
    old = queue_on(engine, owner="old")
    claim = claimed(old)
    old.give_back(claim)
    new = claimed(queue_on(engine, owner="new"))
    assert new.work_id == claim.work_id
    before = row_of(engine, claim)
    writes = (
        lambda: old.beat(claim),
        lambda: old.bind(claim, 3, Params(max_lr=0.1, pct_start=0.3, div_factor=25.0)),
        lambda: old.beat(claim, [EPOCH]),
        lambda: old.finish(claim, ended()),
        lambda: old.give_back(claim),
        lambda: old.fail(claim, FailureKind.BUG, "..."),
    )
    for write in writes:
        with pytest.raises(FencedOffError):
            write()
    after = row_of(engine, claim)
    assert (after.state, after.token, after.owner) == ("running", new.token, "new")
    assert (after.score, after.trial_number, after.failures) == (None, None, 0)
    assert before.beat == after.beat
    with reading(engine) as session:
        assert session.scalars(select(EpochRecord)).all() == []


def test_a_silent_owner_is_replaced_after_the_grace_time_of_the_observer(engine: Engine) -> None:
    clock = HandClock()
    claim_everything_but_one(engine)
    silent = claimed(queue_on(engine, owner="silent"))
    observer = queue_on(engine, owner="observer", clock=clock)
    assert observer.claim() is None, "the first look starts the watch, whatever beat_at says"
    clock.forward(0.3)
    taken = claimed(observer)
    assert (taken.slot, taken.token) == (silent.slot, silent.token + 1)


def test_an_owner_that_beats_is_never_replaced(engine: Engine) -> None:
    clock = HandClock()
    claim_everything_but_one(engine)
    living = queue_on(engine, owner="living")
    claim = claimed(living)
    observer = queue_on(engine, owner="observer", clock=clock)
    for _ in range(8):
        assert observer.claim() is None
        clock.forward(0.1)
        living.beat(claim)


def test_after_an_outage_the_watch_starts_anew(engine: Engine) -> None:
    clock = HandClock()
    claim_everything_but_one(engine)
    claimed(queue_on(engine, owner="living"))
    observer = queue_on(engine, owner="observer", clock=clock)
    assert observer.claim() is None
    clock.forward(0.3)
    observer.leases.forget()
    assert observer.claim() is None


def test_a_database_that_does_not_answer_restarts_the_watch(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    if engine.dialect.name != "sqlite":
        pytest.skip("a locked file stands for the outage")
    claim_everything_but_one(engine)
    claimed(queue_on(engine, owner="living"))
    monkeypatch.setattr("studies.connections.BUSY_TIMEOUT_S", 0.05)
    impatient = open_engine(engine.url)
    observer = queue_on(impatient, owner="observer", clock=clock)
    assert observer.claim() is None
    clock.forward(0.3)
    with transaction(engine) as session:
        session.scalars(select(WorkRow)).first()
        with pytest.raises(DatabaseUnreachableError):
            observer.claim()
    assert observer.claim() is None, "silence during the outage does not count"
    impatient.dispose()


def test_a_lease_of_a_dead_process_of_this_host_is_stale_at_once(engine: Engine) -> None:
    claim_everything_but_one(engine)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(process.pid)
    assert identity is not None
    claim = claimed(queue_on(engine, owner="doomed", process=identity))
    observer = queue_on(engine, owner="observer")
    assert observer.claim() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert claimed(observer).slot == claim.slot


def dead_process() -> str:
    """Return the identity of a process of this host that is gone."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(process.pid)
    assert identity is not None
    process.kill()
    process.communicate()
    return identity


def claim_everything_but_one(engine: Engine) -> None:
    """Finish all slots but the last."""
    queue = queue_on(engine)
    for _ in range(N_SLOTS - 1):
        queue.finish(claimed(queue), ended())


def test_two_observers_take_a_stale_run_once(engine: Engine) -> None:
    clock = HandClock()
    claim_everything_but_one(engine)
    claimed(queue_on(engine, owner="silent"))
    observers = [queue_on(engine, owner=f"observer {n}", clock=clock) for n in range(4)]
    assert [observer.claim() for observer in observers] == [None] * 4
    clock.forward(0.3)
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(Queue.claim, observers))
    assert sum(claim is not None for claim in taken) == 1


def test_a_run_that_keeps_failing_is_given_up_with_its_traceback(engine: Engine) -> None:
    queue = queue_on(engine)
    for attempt in range(1, MAX_FAILURES + 1):
        claim = claimed(queue)
        assert claim.slot == 0
        assert queue.fail(claim, FailureKind.BUG, f"attempt {attempt}") is (
            attempt == MAX_FAILURES
        )
    row = row_of(engine, claim)
    assert (row.state, row.failure, row.traceback) == ("failed", "bug", "attempt 3")
    assert claimed(queue).slot == 1


def test_an_owner_that_gives_back_counts_neither_as_a_failure_nor_as_a_death(
    engine: Engine,
) -> None:
    queue = queue_on(engine)
    for _ in range(2 * max(MAX_FAILURES, MAX_DEATHS)):
        queue.give_back(claimed(queue))
    claim = claimed(queue)
    row = row_of(engine, claim)
    assert (claim.slot, row.failures, row.deaths) == (0, 0, 0)


def test_a_run_whose_owners_keep_dying_is_given_up(engine: Engine) -> None:
    claim_everything_but_one(engine)
    gone = dead_process()
    for death in range(1, MAX_DEATHS + 1):
        claim = claimed(queue_on(engine, owner=f"owner {death}", process=gone))
        assert (claim.slot, claim.token) == (N_SLOTS - 1, death)
        queue_on(engine).release_dead()
        row = row_of(engine, claim)
        assert (row.deaths, row.failures) == (death, 0)
        assert row.state == ("waiting" if death < MAX_DEATHS else "failed")
    assert row.failure == "died"
    assert f"died {MAX_DEATHS} times, the last in owner {MAX_DEATHS}" in (row.traceback or "")
    assert queue_on(engine).claim() is None


def test_a_run_whose_owners_died_thrice_comes_after_the_others(engine: Engine) -> None:
    gone = dead_process()
    for _ in range(SUSPICIOUS_DEATHS):
        assert claimed(queue_on(engine, process=gone)).slot == 0, "until then it is the next"
        queue_on(engine).release_dead()
    queue = queue_on(engine)
    assert [claimed(queue).slot for _ in range(N_SLOTS)] == [*range(1, N_SLOTS), 0]


def test_a_run_that_gets_further_between_deaths_is_not_given_up(engine: Engine) -> None:
    gone = dead_process()
    for death in range(1, 2 * MAX_DEATHS + 1):
        owner = queue_on(engine, owner=f"owner {death}", process=gone)
        claim = claimed(owner)
        owner.beat(claim, [replace(EPOCH, epoch=death)])
        owner.release_dead()
    assert (row_of(engine, claim).state, row_of(engine, claim).deaths) == ("waiting", 1)


def test_epochs_that_were_there_before_are_no_progress(engine: Engine) -> None:
    claim_everything_but_one(engine)
    gone = dead_process()
    for _ in range(MAX_DEATHS):
        owner = queue_on(engine, process=gone)
        claim = claimed(owner)
        for epoch in (1, 2):
            owner.beat(claim, [replace(EPOCH, epoch=epoch)])
        owner.release_dead()
    assert row_of(engine, claim).state == "failed"


def test_a_lease_that_went_stale_counts_as_a_death(engine: Engine) -> None:
    clock = HandClock()
    claim_everything_but_one(engine)
    silent = claimed(queue_on(engine, owner="silent"))
    observer = queue_on(engine, owner="observer", clock=clock)
    assert observer.claim() is None
    clock.forward(0.3)
    again = claimed(observer)
    assert (again.work_id, row_of(engine, again).deaths) == (silent.work_id, 1)


def test_an_epoch_trained_again_replaces_the_first_row(engine: Engine) -> None:
    queue = queue_on(engine)
    claim = claimed(queue)
    queue.beat(claim, [EPOCH])
    queue.give_back(claim)
    again = claimed(queue)
    queue.beat(again, [EPOCH])
    with reading(engine) as session:
        rows = session.scalars(select(EpochRecord)).all()
    assert [(row.epoch, row.validation_accuracy) for row in rows] == [(1, 0.4)]


def test_the_points_of_a_sweep_are_stored_raw(engine: Engine) -> None:
    queue = queue_on(engine)
    claim = claimed(queue)
    points = [
        Point(0, 1e-5, 2.3, 0.7, (1e-4,)),
        Point(1, 1e-4, float("nan")),
        Point(2, 1e-3, float("inf")),
    ]
    queue.finish(claim, ended(score=None, points=points, diverged=points[1]))
    with reading(engine) as session:
        rows = session.scalars(select(PointRecord).order_by(PointRecord.step)).all()
    assert [(r.step, r.lr, r.other_lrs, r.loss, r.grad_norm) for r in rows] == [
        (0, 1e-5, [1e-4], 2.3, 0.7),
        (1, 1e-4, None, None, None),
        (2, 1e-3, None, None, None),
    ]
    row = row_of(engine, claim)
    assert (row.diverged_step, row.diverged_lr) == (1, 1e-4)


def test_a_waiting_claim_does_not_block_others_on_the_server(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction(engine) as session:
            session.scalars(select(WorkRow).where(WorkRow.slot == 0).with_for_update()).one()
            holding.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(10)
    assert claimed(queue_on(engine)).slot == 1
    go_on.set()
    thread.join()


def test_a_process_is_known_by_more_than_its_number() -> None:
    own = process_identity()
    assert own is not None
    assert not is_gone(own)
    boot, namespace, pid, started = own.split("/")
    assert is_gone(f"{boot}/{namespace}/{pid}/{int(started) - 1}"), "the number is used again"
    assert not is_gone(f"another-boot/{namespace}/{pid}/1"), "another host says nothing"
    assert not is_gone(None)


def test_leases_watch_each_row_by_itself() -> None:
    clock = HandClock()
    leases = Leases(beat_s=1, grace_s=30, clock=clock)
    first, second = (WorkRow(id=n, token=1, beat=0, process=None) for n in (1, 2))
    assert not leases.is_stale(first)
    clock.forward(1)
    assert not leases.is_stale(first)
    for _ in range(29):
        clock.forward(1)
        leases.answered()
    assert leases.is_stale(first)
    assert not leases.is_stale(second)


def test_a_gap_in_the_looks_starts_the_watch_anew() -> None:
    clock = HandClock()
    leases = Leases(beat_s=5, grace_s=20, clock=clock)
    silent = WorkRow(id=1, token=1, beat=0, process=None)
    assert not leases.is_stale(silent)
    clock.forward(25)
    assert not leases.is_stale(silent), "the database may have been away in between"
    for _ in range(5):
        clock.forward(5)
        leases.answered()
    assert leases.is_stale(silent), "answered all the time, and the owner was silent"


@pytest.mark.parametrize(
    ("kind", "failures"),
    [(FailureKind.DATA, 0), (FailureKind.INFRASTRUCTURE, 0), (FailureKind.BUG, 1)],
)
def test_failures_of_the_place_are_recorded_and_not_counted_against_the_run(
    engine: Engine, kind: FailureKind, failures: int
) -> None:
    queue = queue_on(engine)
    claim = claimed(queue)
    assert not queue.fail(claim, kind, "Traceback\nOSError: no space")
    row = row_of(engine, claim)
    assert (row.state, row.failure, row.failures) == ("waiting", kind, failures)
    assert row.traceback == "Traceback\nOSError: no space"


def test_epochs_are_written_with_the_end_of_their_run(engine: Engine) -> None:
    queue = queue_on(engine)
    claim = claimed(queue)
    queue.beat(claim, [EPOCH])
    queue.finish(claim, ended(), [replace(EPOCH, epoch=2), replace(EPOCH, epoch=3)])
    with reading(engine) as session:
        epochs = session.scalars(select(EpochRecord.epoch).order_by(EpochRecord.epoch)).all()
    assert epochs == [1, 2, 3]


def test_a_sqlite_that_knows_no_returning_claims_and_fences_as_well(
    engine: Engine,
) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL always knew it")
    engine.dialect.update_returning = False  # before SQLite 3.35
    queue, other = queue_on(engine), queue_on(engine)
    claim, second = claimed(queue), claimed(other)
    assert (claim.slot, second.slot, claim.token) == (0, 1, 1)
    queue.beat(claim, [EPOCH])
    with transaction(engine) as session:
        session.get_one(WorkRow, claim.work_id).token += 1
    with pytest.raises(FencedOffError):
        queue.finish(claim, ended())
    assert other.finish(second, ended(), [EPOCH]).state == "done"
