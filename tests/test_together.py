"""Beats of the workers of a host are written together, and never where that is not theirs."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import Pipe

import pytest
from sqlalchemy import URL, Engine, event, select, update

from benchmarks.overhead import STUDY
from search import api
from search.queue import together
from search.queue.heartbeat import Heartbeat
from search.queue.together import Beat, Gatherer, write_beats
from search.queue.work import Claim, Queue, Reached
from search.starting import beats, catalog
from search.starting.beats import Piped, serve
from studies.database import open_engine, reading, transaction
from studies.states import RunState
from studies.tables import EpochRecord, WorkRow
from tests.conftest import TABLE_STUDY, plain
from tests.postgres import PostgresServer
from tests.queues import queue_on, round_trips, waiting_runs
from tests.waits import wait_for
from trainers.curve import Curve
from trainers.table import epoch_row

N = 8
GATHER_S = 1.0  # long enough for threads to begin within it on a busy machine
NEVER = threading.Event()
CURVE = Curve((1, 2), (0.1, 0.2), (2.0, None))


@pytest.fixture
def engine(postgres_url: URL) -> Iterator[Engine]:
    with waiting_runs(postgres_url, 30) as engine:
        yield engine


@pytest.fixture
def queue(engine: Engine) -> Queue:
    return queue_on(engine)


@pytest.fixture
def claims(queue: Queue) -> list[Claim]:
    claims = [queue.claim() for _ in range(N)]
    return [claim for claim in claims if claim is not None]


def rows(engine: Engine) -> dict[int, WorkRow]:
    with reading(engine) as session:
        running = select(WorkRow).where(WorkRow.state == RunState.RUNNING)
        return {row.id: row for row in session.scalars(running)}


def beat_of(claim: Claim, *epochs: int, reached: Reached | None = None) -> Beat:
    return Beat(claim.work_id, claim.token, tuple(epoch_row(n, 0.1) for n in epochs), reached)


def beat_at_once(gatherer: Gatherer, all_beats: list[Beat]) -> dict[int, bool]:
    """Let a thread for each beat; return which were written."""
    written: dict[int, bool] = {}

    def one(beat: Beat) -> None:
        written[beat.work_id] = gatherer.beat(beat, over=NEVER)

    threads = [threading.Thread(target=one, args=(beat,)) for beat in all_beats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return written


def test_beats_that_come_soon_after_each_other_are_one_statement(
    engine: Engine, claims: list[Claim]
) -> None:
    sent = round_trips(engine)
    gatherer = Gatherer(engine, gather_s=GATHER_S)
    written = beat_at_once(gatherer, [beat_of(claim) for claim in claims])
    assert written == {claim.work_id: True for claim in claims}
    assert len(sent) == 1
    assert sent[0].startswith("WITH ours")
    assert {row.beat for row in rows(engine).values()} == {1}


def test_epochs_and_curves_are_written_with_them_in_one_transaction(
    engine: Engine, claims: list[Claim]
) -> None:
    sent = round_trips(engine)
    first, second, *others = claims
    gatherer = Gatherer(engine, gather_s=GATHER_S)
    told = [
        beat_of(first, 1, 2, reached=Reached(7, CURVE)),
        beat_of(second, 1, 1),  # reported again: the last counts
        *(beat_of(claim) for claim in others),
    ]
    assert all(beat_at_once(gatherer, told).values())
    assert [word for word in sent if word in ("begin", "commit", "rollback")] == [
        "begin",
        "commit",
    ]
    with reading(engine) as session:
        known = session.execute(
            select(EpochRecord.work_id, EpochRecord.epoch)
            .where(EpochRecord.work_id.in_([claim.work_id for claim in claims]))
            .order_by(EpochRecord.work_id, EpochRecord.epoch)
        ).all()
        assert sorted(tuple(row) for row in known) == sorted(
            [(first.work_id, 1), (first.work_id, 2), (second.work_id, 1)]
        )
        row = session.get_one(WorkRow, first.work_id)
        assert (row.step, row.curve) == (7, CURVE)
    assert all(beat_at_once(gatherer, [beat_of(first), beat_of(second)]).values())
    with reading(engine) as session:
        row = session.get_one(WorkRow, first.work_id)
        assert (row.step, row.curve) == (7, CURVE), "a beat that says nothing leaves them"


def test_what_is_not_ours_any_more_is_left_out(
    engine: Engine, queue: Queue, claims: list[Claim]
) -> None:
    stale, ended, suspicious, locked, *others = claims
    queue.give_back(ended)
    with transaction(engine) as session:
        of_stale = update(WorkRow).where(WorkRow.id == stale.work_id)
        session.execute(of_stale.values(token=WorkRow.token + 1))
        of_suspicious = update(WorkRow).where(WorkRow.id == suspicious.work_id)
        session.execute(of_suspicious.values(deaths=1))
    with transaction(engine) as session:
        session.get_one(WorkRow, locked.work_id, with_for_update=True)
        began = time.monotonic()
        written = write_beats(engine, [beat_of(claim, 1) for claim in claims])
        assert time.monotonic() - began < 5, "it waits for no lock"
    assert written == {claim.work_id for claim in others}
    with reading(engine) as session:
        ids = [claim.work_id for claim in (stale, ended, suspicious, locked)]
        epochs = select(EpochRecord.epoch).where(EpochRecord.work_id.in_(ids))
        assert not session.scalars(epochs).all(), "nor are their epochs written"
    assert rows(engine)[suspicious.work_id].beat == 0


def test_the_statement_finds_its_rows_by_their_key(engine: Engine, claims: list[Claim]) -> None:
    with transaction(engine) as session:
        session.connection().exec_driver_sql("ANALYZE work")
    seen: list[tuple[str, object]] = []
    event.listen(
        engine,
        "before_cursor_execute",
        lambda _, __, sql, values, *___: seen.append((sql, values)),
    )
    write_beats(engine, [beat_of(claim) for claim in claims])
    statement, values = next(each for each in seen if each[0].startswith("WITH ours"))
    with transaction(engine) as session:
        connection = session.connection()
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # 30 rows are read as fast
        lines = connection.exec_driver_sql(f"EXPLAIN {statement}", values)  # type: ignore[arg-type]
        plan = "\n".join(lines.scalars())
    assert plan.count("work_pkey") == 2, plan
    assert "ix_work_study_state" not in plan, plan


def test_a_worker_that_lost_its_run_learns_it(engine: Engine, queue: Queue) -> None:
    claim = queue.claim()
    assert claim is not None
    gatherer = Gatherer(engine, gather_s=0.05)
    with Heartbeat(queue, claim, beat_s=0.1, together=gatherer) as heartbeat:
        heartbeat.epoch(epoch_row(1, 0.1))
        wait_for(lambda: heartbeat.unwritten == ())
        assert not heartbeat.lost
        with transaction(engine) as session:
            session.execute(update(WorkRow).values(token=WorkRow.token + 1))
        wait_for(lambda: heartbeat.lost)


def test_an_outage_is_met_by_each_worker_and_nothing_is_lost(
    engine: Engine, queue: Queue, claims: list[Claim], postgres_server: PostgresServer
) -> None:
    gatherer = Gatherer(engine, gather_s=0.05)
    first, second = (
        Heartbeat(queue, claim, beat_s=0.1, together=gatherer) for claim in claims[:2]
    )
    try:
        with first, second:
            postgres_server.stop()
            for heartbeat in (first, second):
                heartbeat.epoch(epoch_row(1, 0.1))
            time.sleep(0.5)
            assert [len(each.unwritten) for each in (first, second)] == [1, 1]
            postgres_server.start()
            wait_for(lambda: first.unwritten == () == second.unwritten)
            assert not first.lost
            assert not second.lost
    finally:
        postgres_server.start_if_down()
    with reading(engine) as session:
        ids = [claim.work_id for claim in claims[:2]]
        epochs = select(EpochRecord.work_id).where(EpochRecord.work_id.in_(ids))
        assert sorted(session.scalars(epochs)) == sorted(ids)


def test_the_end_of_a_run_does_not_wait_for_others(engine: Engine, queue: Queue) -> None:
    gatherer = Gatherer(engine, gather_s=600.0)
    claims = [queue.claim(), queue.claim()]
    started = threading.Event()
    began = time.monotonic()
    for claim in claims:
        assert claim is not None
        with Heartbeat(queue, claim, beat_s=0.1, together=gatherer):
            started.wait(0.3)  # it waits for others by then
    assert time.monotonic() - began < 60


class Frozen:
    """A parent of which nothing comes back."""

    def __init__(self) -> None:
        self.ours, self.theirs = Pipe()


def test_a_parent_that_is_gone_or_frozen_leaves_the_worker_to_beat_alone(
    engine: Engine, claims: list[Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beats, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(beats, "GATHER_S", 0.1)
    row = catalog.find(engine, STUDY.name)
    frozen = Frozen()
    worker = Piped(frozen.theirs, row)
    beat = beat_of(claims[0])
    assert not worker.beat(beat, over=NEVER)
    assert not worker.beat(beat, over=NEVER)
    frozen.ours.recv()
    assert not frozen.ours.poll(), "it is not asked again"
    gone = Frozen()
    gone.ours.close()
    worker = Piped(gone.theirs, row)
    assert not worker.beat(beat, over=NEVER)
    assert not worker.beat(beat, over=NEVER)


def test_a_pipe_that_nobody_reads_does_not_fill_up(engine: Engine, claims: list[Claim]) -> None:
    frozen, over = Frozen(), threading.Event()
    over.set()  # runs that end at once
    worker = Piped(frozen.theirs, catalog.find(engine, STUDY.name))
    for _ in range(50):
        assert not worker.beat(beat_of(claims[0]), over=over)
    n = 0
    while frozen.ours.poll():
        frozen.ours.recv()
        n += 1
    assert 1 <= n <= 4


def test_one_that_comes_alone_is_left_to_beat_alone(engine: Engine, claims: list[Claim]) -> None:
    sent = round_trips(engine)
    assert not Gatherer(engine, gather_s=0.05).beat(beat_of(claims[0]), over=NEVER)
    assert not sent


def test_workers_beat_through_their_parent(engine: Engine, claims: list[Claim]) -> None:
    gatherer = Gatherer(engine, gather_s=GATHER_S)
    row = catalog.find(engine, STUDY.name)
    ends = [Pipe(), Pipe()]
    for ours, _ in ends:
        serve(gatherer, ours)
    workers = [Piped(theirs, row) for _, theirs in ends]
    over = threading.Event()

    def both(first: Beat, second: Beat) -> list[bool]:
        with ThreadPoolExecutor(2) as pool:
            pairs = zip(workers, (first, second), strict=True)
            done = [pool.submit(worker.beat, beat, over=over) for worker, beat in pairs]
            return [each.result() for each in done]

    first, second = (beat_of(claim, 1) for claim in claims[:2])
    assert both(first, second) == [True, True]
    assert {rows(engine)[claim.work_id].beat for claim in claims[:2]} == {1}
    over.set()
    assert both(first, second) == [False, False], "their answers come later"
    over.clear()
    assert both(first, replace(second, token=second.token + 1)) == [True, False]
    for _, theirs in ends:
        theirs.close()
    wait_for(lambda: all(ours.closed for ours, _ in ends))


@pytest.mark.parametrize("forks", [pytest.param("0", marks=pytest.mark.slow), "1"])
def test_workers_of_a_start_beat_together_and_do_every_run_once(
    postgres_url: URL, monkeypatch: pytest.MonkeyPatch, forks: str
) -> None:
    monkeypatch.setenv("TABLE_FORKS", forks)
    monkeypatch.setenv("TABLE_SLEEP_S", "0.01")
    monkeypatch.setattr(catalog, "BEAT_S", 0.2)
    sizes: list[int] = []

    def counted(engine: Engine, all_beats: list[Beat]) -> frozenset[int]:
        written = write_beats(engine, all_beats)
        sizes.append(len(written))
        return written

    monkeypatch.setattr(together, "write_beats", counted)
    api.run(str(TABLE_STUDY), storage=plain(postgres_url), workers=3)
    assert max(sizes) >= 2, "some came together"
    engine = open_engine(postgres_url)
    with reading(engine) as session:
        runs = session.scalars(select(WorkRow)).all()
        epochs = session.scalars(select(EpochRecord.epoch)).all()
    engine.dispose()
    assert {run.state for run in runs} == {RunState.DONE}
    assert {run.token for run in runs} == {1}
    assert len(epochs) == 4 * sum(run.epochs is not None for run in runs)
