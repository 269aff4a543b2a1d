"""What a configuration costs the database, and that clients at once share the work exactly."""

import multiprocessing

from sqlalchemy import URL, Engine, event, update

from benchmarks.cluster import client_worker, count_wrong, serve, study_with
from benchmarks.overhead import STUDY, fill, make_both
from search.starting import catalog
from studies.database import open_engine, optuna_storage, transaction
from studies.tables import StudyRow

N = 6


def round_trips(engine: Engine) -> list[str]:
    """Return what will be sent to the server, pings left out."""
    sent: list[str] = []

    def executed(_: object, __: object, statement: str, *rest: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", executed)
    for name in ("begin", "commit", "rollback"):
        event.listen(engine, name, lambda _, name=name: sent.append(name))
    return sent


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
    # A beat may come within a cycle, with epochs or without: 4 round trips.
    assert len(ours) / N <= 15 + 4, ours[-25:]
    assert len(optunas) / N <= 14, optunas[-20:]


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
