"""Optuna Dashboard on the study database: behind a password, and for reading unless told."""

import base64
import binascii
import hmac
import logging
import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import URL

from search.errors import UsageError
from studies.database import DatabaseUnreachableError, looking, masked_text, optuna_storage
from studies.upgrade import versions

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

_READING = ("GET", "HEAD")
_LOOK_AGAIN_S = 2.0


def create_app(url: URL, *, password: str, allow_writes: bool = False) -> "WSGIApplication":
    """Return Optuna Dashboard on a database whose tables are there, as a WSGI application.

    It has no authentication of its own and can rename and delete studies, hence the guard.
    """
    import optuna_dashboard

    app = optuna_dashboard.wsgi(optuna_storage(url, only_reads=not allow_writes))
    return _guarded(app, password=password, allow_writes=allow_writes)


def _guarded(app: "WSGIApplication", *, password: str, allow_writes: bool) -> "WSGIApplication":
    """Let in who knows the password (HTTP basic, any user name), and GET and HEAD alone."""

    def guard(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = _password_of(environ.get("HTTP_AUTHORIZATION", ""))
        if not hmac.compare_digest(given, password.encode()):
            ask = ("WWW-Authenticate", 'Basic realm="onecycle", charset="UTF-8"')
            return _refuse(start_response, "401 Unauthorized", ask)
        if not allow_writes and environ["REQUEST_METHOD"] not in _READING:
            return _refuse(start_response, "403 Forbidden")
        return app(environ, start_response)

    return guard


def _password_of(header: str) -> bytes:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def _refuse(
    start_response: "StartResponse", status: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain"), *headers])
    return [f"{status}\n".encode()]


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
        waitress.create_server(app, sockets=[listening]).run()


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
