"""An owner trains on through an outage of its database, and writes what it kept afterwards."""

import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, Engine, event, select

from search.queue.heartbeat import Heartbeat
from search.queue.work import Claim, FencedOffError, Queue
from search.workers.patience import Patience
from search.workers.stop import Stop
from studies.database import open_engine, prepare, reading, transaction
from studies.errors import DatabaseUnreachableError
from studies.tables import EpochRecord, StudyRow, WorkRow
from tests.postgres import PostgresServer
from tests.rows import study_row
from tests.waits import HandClock, wait_for
from trainers.table import epoch_row

BEAT_S, GRACE_S = 0.1, 1.0


@pytest.fixture
def engine(postgres_url: URL) -> Iterator[Engine]:
    """A study with one waiting run, on a server that can be stopped."""
    engine = open_engine(postgres_url)
    prepare(engine)
    with transaction(engine) as session:
        session.add(study_row(id="s", beat_s=BEAT_S, grace_s=GRACE_S))
        session.flush()
        session.add(WorkRow(study_id="s", stage="search", round=0, epochs=4, slot=0))
    yield engine
    engine.dispose()


@pytest.fixture
def stopped(postgres_server: PostgresServer, postgres_url: URL) -> Iterator[Callable[[], None]]:
    """Stops the server; at the end of the test it runs again whatever happened."""
    yield postgres_server.stop
    postgres_server.start_if_down()


@pytest.fixture
def attempts(engine: Engine) -> list[float]:
    """The moments at which somebody tried to connect."""
    moments: list[float] = []
    event.listen(engine, "do_connect", lambda *_: moments.append(time.monotonic()))
    return moments


def queue_on(engine: Engine, owner: str, *, clock: Callable[[], float] = time.monotonic) -> Queue:
    with reading(engine) as session:
        study = session.get_one(StudyRow, "s")
    return Queue(engine, study, owner=owner, process=None, clock=clock)


def claimed(queue: Queue) -> Claim:
    claim = queue.claim()
    assert claim is not None
    return claim


def beats(engine: Engine, claim: Claim) -> int:
    with reading(engine) as session:
        return session.get_one(WorkRow, claim.work_id).beat


def stored_epochs(engine: Engine) -> list[int]:
    with reading(engine) as session:
        return list(session.scalars(select(EpochRecord.epoch).order_by(EpochRecord.epoch)))


def test_epochs_reported_while_the_database_is_away_are_written_when_it_is_back(
    engine: Engine,
    postgres_server: PostgresServer,
    stopped: Callable[[], None],
    attempts: list[float],
) -> None:
    queue = queue_on(engine, "living")
    claim = claimed(queue)
    with Heartbeat(queue, claim, beat_s=BEAT_S) as heartbeat:
        heartbeat.epoch(epoch_row(1, 0.1))
        wait_for(lambda: heartbeat.unwritten == ())
        stopped()
        attempts.clear()
        took = []
        for epoch in (2, 3, 4):
            began = time.monotonic()
            heartbeat.epoch(epoch_row(epoch, 0.1))
            took.append(time.monotonic() - began)
        assert min(took) < 0.05, "training does not wait"
        wait_for(lambda: len(attempts) >= 5)
        assert [row.epoch for row in heartbeat.unwritten] == [2, 3, 4]
        postgres_server.start()
        wait_for(lambda: heartbeat.unwritten == ())
        assert not heartbeat.lost
    assert stored_epochs(engine) == [1, 2, 3, 4]
    with reading(engine) as session:
        row = session.get_one(WorkRow, claim.work_id)
    assert (row.owner, row.token) == ("living", 1)


def test_an_outage_longer_than_the_grace_time_takes_no_run_from_the_living(
    engine: Engine,
    postgres_server: PostgresServer,
    stopped: Callable[[], None],
    attempts: list[float],
) -> None:
    clock = HandClock()
    queue, observer = queue_on(engine, "living"), queue_on(engine, "observer", clock=clock)
    claim = claimed(queue)
    with Heartbeat(queue, claim, beat_s=BEAT_S) as heartbeat:
        assert observer.claim() is None
        stopped()
        attempts.clear()
        wait_for(lambda: len(attempts) >= 5)
        clock.forward(1.5 * GRACE_S)
        postgres_server.start()
        for _ in range(6):
            assert observer.claim() is None
            seen = beats(engine, claim)
            wait_for(lambda seen=seen: beats(engine, claim) > seen)
            clock.forward(0.4 * GRACE_S)
        assert not heartbeat.lost
    assert observer.claim() is None
    for _ in range(2):
        clock.forward(0.4 * GRACE_S)
        assert observer.claim() is None
    clock.forward(0.4 * GRACE_S)
    taken = observer.claim()
    assert taken is not None, "an owner that is silent by itself is replaced"
    assert taken.token == 2


def test_what_an_owner_kept_through_the_outage_is_refused_once_it_was_replaced(
    engine: Engine,
    postgres_server: PostgresServer,
    stopped: Callable[[], None],
    attempts: list[float],
) -> None:
    queue = queue_on(engine, "old")
    claim = claimed(queue)
    with Heartbeat(queue, claim, beat_s=BEAT_S) as heartbeat:
        stopped()
        heartbeat.epoch(epoch_row(1, 0.1))
        attempts.clear()
        wait_for(lambda: len(attempts) >= 2)
        heartbeat_paused(heartbeat)
        postgres_server.start()
        with transaction(engine) as session:
            session.get_one(WorkRow, claim.work_id).token += 1
    with pytest.raises(FencedOffError):
        queue.give_back(claim, heartbeat.unwritten)
    assert stored_epochs(engine) == []


def heartbeat_paused(heartbeat: Heartbeat) -> None:
    """End the thread, as if the process had been stopped for a while."""
    heartbeat.__exit__(None, None, None)


def test_a_worker_waits_for_a_database_that_comes_back(
    engine: Engine, postgres_server: PostgresServer, stopped: Callable[[], None]
) -> None:
    queue = queue_on(engine, "w")
    stopped()
    calls = []

    def claim() -> Claim | None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            postgres_server.start()
        return queue.claim()

    assert Patience(Stop())(claim) is not None
    assert len(calls) >= 3


def test_a_worker_that_was_asked_to_stop_waits_no_longer(
    engine: Engine, stopped: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.workers.patience.PATIENCE_WHEN_STOPPED_S", 0.5)
    queue = queue_on(engine, "w")
    stopped()
    stop = Stop()
    stop.ask()
    began = time.monotonic()
    with pytest.raises(DatabaseUnreachableError):
        Patience(stop)(queue.claim)
    assert time.monotonic() - began < 60, "not the half hour of who was not asked"
