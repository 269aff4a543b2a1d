"""A study of many waiting runs, its queue, and what is sent to its server."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from benchmarks.overhead import STUDY, fill, make_both
from search.queue.work import Queue
from search.starting import catalog
from studies.database import open_engine


@contextmanager
def waiting_runs(url: URL, n: int) -> Iterator[Engine]:
    """Give an engine on a database with a study of so many waiting runs."""
    make_both(url)
    fill(url, first=0, last=2, n_waiting=n)
    engine = open_engine(url)
    yield engine
    engine.dispose()


def queue_on(engine: Engine) -> Queue:
    return Queue(engine, catalog.find(engine, STUDY.name), owner="a", process=None)


def round_trips(engine: Engine) -> list[str]:
    """Return what will be sent to the server, in its order."""
    sent: list[str] = []
    ping = engine.dialect.do_ping

    def pinged(connection: DBAPIConnection) -> bool:
        sent.append("ping")
        return ping(connection)

    def executed(_: object, __: object, statement: str, *rest: object) -> None:
        sent.append(statement)

    engine.dialect.do_ping = pinged  # type: ignore[method-assign]
    event.listen(engine, "before_cursor_execute", executed)

    def of_transaction(connection: Connection, name: str) -> None:
        # Said by SQLAlchemy in any case, and sent only where a transaction was asked for.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            sent.append(name)

    for name in ("begin", "commit", "rollback"):
        event.listen(engine, name, lambda connection, name=name: of_transaction(connection, name))
    return sent
