"""Optuna Dashboard on the study database: our cards, a password, for reading unless told."""

import logging
import socket
import time
from typing import TYPE_CHECKING

from sqlalchemy import URL

from search.errors import UsageError
from search.views.dashboard.cards import Cards
from search.views.dashboard.guard import MOST_DELAYED, guarded
from search.views.dashboard.wsgi import with_bodies, with_cards, with_importances, with_order
from studies.database import looking, open_engine, optuna_storage, prepare
from studies.errors import DatabaseUnreachableError
from studies.upgrade import versions
from studies.urls import masked_text

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 2.0
_THREADS = 8


def create_app(url: URL, *, password: str, allow_writes: bool = False) -> "WSGIApplication":
    """Return Optuna Dashboard on a database whose tables are there, as a WSGI application.

    It has no authentication of its own and can rename and delete studies, hence the guard.
    Raises DatabaseError for tables of another version.
    """
    import optuna_dashboard

    engine = open_engine(url)
    prepare(engine)
    storage = optuna_storage(url, only_reads=not allow_writes)
    cards = Cards(engine)
    app = with_cards(optuna_dashboard.wsgi(storage), cards)
    app = with_order(with_bodies(with_importances(app, cards, storage)))
    return guarded(app, password=password, allow_writes=allow_writes)


def serve(url: URL, *, host: str, port: int, password: str, allow_writes: bool = False) -> None:
    """Serve the dashboard until the process is told to end; wait for tables that are not there.

    Raises UsageError where the packages are missing or nothing can listen at `host` and `port`.
    """
    try:
        import optuna_dashboard  # noqa: F401
        import waitress
    except ModuleNotFoundError as error:
        raise UsageError(
            f"dashboard needs {error.name}: pip install 'onecycle-search[dashboard]'"
        ) from error
    _wait_for_tables(url)
    app = create_app(url, password=password, allow_writes=allow_writes)
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise UsageError(f"--host {host} --port {port}: {error.strerror or error}") from error
    with listening:
        where = f"http://{host}:{listening.getsockname()[1]}"
        may = "reads and writes" if allow_writes else "reads only; --allow-writes opens it"
        log.info("dashboard of %s at %s (%s)", masked_text(url), where, may)
        threads = MOST_DELAYED + _THREADS  # those that wait leave enough for readers
        waitress.create_server(app, sockets=[listening], threads=threads).run()


def _wait_for_tables(url: URL) -> None:
    """Wait for the database and its tables, and say once what is missing."""
    said = ""
    while (missing := _missing(url)) is not None:
        if missing != said:
            log.info("%s; waiting for it", missing)
        said = missing
        time.sleep(_LOOK_AGAIN_S)


def _missing(url: URL) -> str | None:
    try:
        with looking(url) as engine:
            empty = None in versions(engine)
    except DatabaseUnreachableError as error:
        return str(error)
    return f"database {masked_text(url)} has no tables yet" if empty else None
