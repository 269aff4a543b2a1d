"""What stands in front of Optuna Dashboard: a password, reading alone, cards of our own."""

import base64
import binascii
import hmac
import json
import logging
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from search.history.optuna_study import OWNER
from search.views.dashboard.cards import Cards
from studies.errors import DatabaseError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

_READING = ("GET", "HEAD")
_FOR_KNOWN = "any user name, and the password that ONECYCLE_DASHBOARD_PASSWORD holds"
_FOR_READING = "this dashboard is for reading; `onecycle dashboard --allow-writes` opens it"
_STUDY = re.compile(r"/api/studies/\d+/*")


def guarded(app: "WSGIApplication", *, password: str, allow_writes: bool) -> "WSGIApplication":
    """Let in who knows the password (HTTP basic, any user name), and GET and HEAD alone."""

    def guard(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = _password_of(environ.get("HTTP_AUTHORIZATION", ""))
        if not hmac.compare_digest(given, password.encode()):
            ask = ("WWW-Authenticate", 'Basic realm="onecycle", charset="UTF-8"')
            return _refuse(start_response, "401 Unauthorized", _FOR_KNOWN, ask)
        if not allow_writes and environ["REQUEST_METHOD"] not in _READING:
            return _refuse(start_response, "403 Forbidden", _FOR_READING)
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
    start_response: "StartResponse", status: str, reason: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    """Answer as the dashboard's own errors do: its page shows the reason."""
    start_response(status, [("Content-Type", "application/json"), *headers])
    return [json.dumps({"reason": reason}).encode()]


def with_cards(app: "WSGIApplication", cards: Cards) -> "WSGIApplication":
    """Add cards and note to what the application answers about one study; nothing is stored.

    Stored in Optuna's study, which save_plotly_graph_object() does, they would age, and the page
    would show them in any order, for it keeps their ids in a set.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        asked = environ["REQUEST_METHOD"] == "GET" and _STUDY.fullmatch(environ["PATH_INFO"])
        if not asked:
            return app(environ, start_response)
        status, headers, body = _answered(app, environ)
        if status.startswith("200"):
            body = json.dumps(_completed(json.loads(body), cards)).encode()
            headers = [header for header in headers if header[0].lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        start_response(status, headers)
        return [body]

    return answer


def _completed(study: dict[str, Any], cards: Cards) -> dict[str, Any]:
    """Return what is told about an Optuna study, with what we have to add to one of ours.

    A note that somebody wrote on the dashboard stands in the place of ours.
    """
    ours = next((a["value"] for a in study["user_attrs"] if a["key"] == OWNER), None)
    try:
        shown = None if ours is None else cards.of(ours)
    except DatabaseError as error:
        log.warning("%s", error)
        return study
    if shown is None:
        return study
    drawn = [{"id": name, "graph_object": text} for name, text in shown.figures.items()]
    note = study["note"] if study["note"]["body"] else {**study["note"], "body": shown.note}
    return {
        **study,
        "plotly_graph_objects": [*drawn, *study["plotly_graph_objects"]],
        "note": note,
        "objective_names": [shown.metric],
    }


def with_bodies(app: "WSGIApplication") -> "WSGIApplication":
    """Answer 200 and an empty document where there is no content.

    The page of optuna-dashboard 0.21 reads JSON of every answer to a write, and says that what
    has been deleted or saved has failed where it finds none.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _READING:
            return app(environ, start_response)
        status, headers, body = _answered(app, environ)
        if status.startswith("204"):
            body = b"{}"
            status, headers = "200 OK", [("Content-Type", "application/json")]
        start_response(status, headers)
        return [body]

    return answer


def _answered(
    app: "WSGIApplication", environ: "WSGIEnvironment"
) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return status, headers and body of an answer that comes in one piece."""
    heads: list[tuple[str, list[tuple[str, str]]]] = []

    def start(
        status: str, headers: list[tuple[str, str]], error: object = None, /
    ) -> Callable[[bytes], object]:
        heads.append((status, headers))
        return lambda data: None

    body = b"".join(app(environ, start))
    return *heads[-1], body
