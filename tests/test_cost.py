"""What a configuration costs the database, and that clients at once share the work exactly."""

import multiprocessing
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import URL, Engine, event, text, update

from benchmarks.cluster import client_worker, count_wrong, serve, study_with
from benchmarks.overhead import STUDY, fill, make_both
from search.queue.heartbeat import Heartbeat
from search.queue.work import Claim, Queue, Reached
from search.starting import catalog
from search.workers.stop import Stop
from studies import connections
from studies.database import open_engine, optuna_storage, reading, transaction
from studies.errors import DatabaseUnreachableError
from studies.tables import StudyRow, WorkerRow, WorkRow
from tests.queues import queue_on, round_trips, waiting_runs
from tests.waits import wait_for
from trainers.run import EpochRow
from trainers.table import epoch_row

N = 6


def test_a_configuration_costs_no_more_round_trips_than_it_did(postgres_url: URL) -> None:
    make_both(postgres_url)
    fill(postgres_url, first=0, last=4, n_waiting=2 * N)
    engine, storage = open_engine(postgres_url), optuna_storage(postgres_url)
    row = catalog.find(engine, STUDY.name)
    row.exact = True
    worker = client_worker(engine, storage, row, study_with("qmc"), cycle_s=0.0)

    def one() -> None:
        worker._look_ahead()
        claim = worker.queue.claim()
        assert claim is not None
        worker._perform(claim)

    one()
    ours, optunas = round_trips(engine), round_trips(storage.engine)
    for _ in range(N):
        one()
    worker.history.close()
    engine.dispose()
    # A beat may come within a cycle; with epochs it is 4 round trips.
    assert len(ours) / N <= 8 + 4, ours[-25:]
    assert len(optunas) / N <= 13, optunas[-20:]


def test_clients_at_once_do_every_configuration_exactly_once(postgres_url: URL) -> None:
    clients = 12
    make_both(postgres_url)
    fill(postgres_url, first=0, last=4, n_waiting=3 * clients)
    found: multiprocessing.SimpleQueue[list[float]] = multiprocessing.SimpleQueue()
    study = study_with("qmc")
    engine = open_engine(postgres_url)
    with transaction(engine) as session:
        session.execute(update(StudyRow).values(exact=True))
    engine.dispose()
    serve(postgres_url, study, clients, each=2, cycle_s=0.0, found=found)
    assert len(found.get()) == 2 * clients
    assert count_wrong(postgres_url, 4, 2 * clients) == 0


@pytest.fixture
def engine(postgres_url: URL) -> Iterator[Engine]:
    with waiting_runs(postgres_url, 1000) as engine:
        yield engine


def test_a_claim_a_beat_and_a_look_are_one_round_trip_each(engine: Engine) -> None:
    queue = queue_on(engine)
    sent = round_trips(engine)
    claim = queue.claim()
    assert claim is not None
    for _ in range(3):
        queue.beat(claim)
    assert len(sent) == 4, sent
    with reading(engine) as session:
        assert session.get_one(WorkRow, claim.work_id).beat == 3
    assert len(sent) == 5, sent[4:]


def test_a_claim_finds_its_run_in_the_order_of_the_index(engine: Engine) -> None:
    seen: list[tuple[str, object]] = []
    event.listen(
        engine,
        "before_cursor_execute",
        lambda _, __, statement, parameters, *rest: seen.append((statement, parameters)),
    )
    queue = queue_on(engine)
    assert queue.claim() is not None
    (statement, parameters) = next(each for each in seen if each[0].startswith("UPDATE work"))
    with transaction(engine) as session:
        session.execute(text("ANALYZE work"))
        connection = session.connection()
        lines = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
        plan = "\n".join(lines)
    assert "Index Scan using ix_work_next" in plan, plan
    # A prepared statement is planned without its values: only a literal fits the index.
    assert "work.state = 'waiting'" in statement


@pytest.mark.parametrize("rested", [True, False])
def test_only_a_connection_that_rested_is_asked_whether_it_lives(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, rested: bool
) -> None:
    monkeypatch.setattr(connections, "_RESTED_S", 0.0 if rested else 3600.0)
    queue = queue_on(engine)
    claim = queue.claim()
    assert claim is not None
    sent = round_trips(engine)
    _end_all_connections(engine)
    if not rested:
        with pytest.raises(DatabaseUnreachableError):
            queue.beat(claim)
        assert "ping" not in sent
    queue.beat(claim)
    with reading(engine) as session:
        assert session.get_one(WorkRow, claim.work_id).beat == 1


def _end_all_connections(engine: Engine) -> None:
    """Do what a restart of the server does to those who are connected."""
    others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = "
    admin = open_engine(engine.url)
    with transaction(admin) as session:
        session.execute(text(f"{others}current_database() AND pid != pg_backend_pid()"))
    admin.dispose()


class Counted(Queue):
    """Notes how many epochs each beat brought."""

    beats: list[int]

    def beat(
        self, claim: Claim, epochs: Sequence[EpochRow] = (), reached: Reached | None = None
    ) -> None:
        super().beat(claim, epochs, reached)
        self.beats.append(len(epochs))


def test_epochs_that_end_together_are_written_together(engine: Engine) -> None:
    queue = Counted(engine, catalog.find(engine, STUDY.name), owner="a", process=None)
    queue.beats = []
    claim = queue.claim()
    assert claim is not None
    with Heartbeat(queue, claim, beat_s=5.0) as heartbeat:
        heartbeat.epoch(epoch_row(1, lr=0.1))
        wait_for(lambda: sum(queue.beats) == 1)
        for number in range(2, 52):
            heartbeat.epoch(epoch_row(number, lr=0.1))
        wait_for(lambda: sum(queue.beats) == 51)
    assert len(queue.beats) <= 3, queue.beats


def test_many_that_wait_ask_less_often_each(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = catalog.find(engine, STUDY.name)
    with transaction(engine) as session:
        session.add_all(
            WorkerRow(name=f"w{n}", study_id=row.id, device="cpu", waits_for="1 run")
            for n in range(100)
        )
    worker = client_worker(engine, optuna_storage(engine.url), row, study_with("qmc"), cycle_s=0.0)
    worker.roster.join()
    naps: list[float] = []
    monkeypatch.setattr(Stop, "sleep", lambda _, seconds: naps.append(seconds))
    monkeypatch.setattr(Queue, "held", lambda _: 3)
    worker._waits_since = -1e9  # for ages
    worker._wait(row.stage)
    assert naps == [1.01], "101 ask a hundred times a second together"
    with transaction(engine) as session:
        session.execute(update(WorkerRow).values(waits_for=None))
    monkeypatch.setattr(Queue, "held", lambda _: 2)
    worker._wait(row.stage)
    assert naps[1:] == [0.2], "alone it asks five times a second"
    worker.history.close()
