"""The dashboard: who may read it, that nobody may write, and that it waits for its database."""

import base64
import json
import re
import signal
import socket
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

import pytest
from sqlalchemy import URL, make_url

from search.dashboard import create_app
from studies.database import open_engine, prepare
from tests.conftest import Ended, Finished, plain

PASSWORD = "s3cret: ü"


def authorization(password: str, *, user: str = "anyone") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def asked(
    app: WSGIApplication, path: str, header: str | None, *, method: str = "GET"
) -> tuple[str, bytes]:
    """Return the status and the body that the application answers."""
    environ: dict[str, object] = {"PATH_INFO": path, "REQUEST_METHOD": method}
    if header is not None:
        environ["HTTP_AUTHORIZATION"] = header
    setup_testing_defaults(environ)
    seen: list[str] = []
    answer = app(environ, lambda status, headers, *_: seen.append(status))  # type: ignore
    body = b"".join(answer)
    if hasattr(answer, "close"):  # as servers do
        answer.close()
    return seen[0], body


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> URL:
    return make_url(finished.copied_to(tmp_path))


def studies(app: WSGIApplication) -> list[str]:
    status, body = asked(app, "/api/studies", authorization(PASSWORD))
    assert status == "200 OK"
    return [study["study_name"] for study in json.loads(body)["study_summaries"]]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Basic",
        "Basic !!!",
        authorization(""),
        authorization("wrong"),
        authorization(PASSWORD).replace("Basic", "Bearer"),
    ],
)
def test_nothing_is_shown_without_the_password(header: str | None, copy: URL) -> None:
    app = create_app(copy, password=PASSWORD)
    for path in ("/", "/dashboard", "/api/studies", "/static/bundle.js"):
        assert asked(app, path, header) == ("401 Unauthorized", b"401 Unauthorized\n")


def test_with_the_password_the_studies_and_their_trials_are_shown(copy: URL) -> None:
    app = create_app(copy, password=PASSWORD)
    assert "table" in studies(app)
    status, page = asked(app, "/dashboard", authorization(PASSWORD))
    assert status == "200 OK"
    assert b"Optuna Dashboard" in page
    assert asked(app, "/api/studies", authorization(PASSWORD), method="HEAD")[0] == "200 OK"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_request_that_writes_is_refused_and_changes_nothing(method: str, copy: URL) -> None:
    app = create_app(copy, password=PASSWORD)
    before = studies(app)
    for path in ("/api/studies/1", "/api/studies", "/api/studies/1/rename"):
        assert asked(app, path, authorization(PASSWORD), method=method)[0] == "403 Forbidden"
    assert studies(app) == before


def test_writes_are_let_through_where_they_were_allowed(copy: URL) -> None:
    app = create_app(copy, password=PASSWORD, allow_writes=True)
    assert "table" in studies(app)
    gone = asked(app, "/api/studies/1", authorization(PASSWORD), method="DELETE")
    assert gone[0] == "204 No Content"
    assert "table" not in studies(app)
    assert asked(app, "/api/studies/1", None, method="DELETE")[0] == "401 Unauthorized"


def test_a_reader_neither_waits_for_a_writer_nor_holds_one_up(copy: URL) -> None:
    app = create_app(copy, password=PASSWORD)
    writer = sqlite3.connect(str(copy.database), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert "table" in studies(app)
    writer.execute("COMMIT")
    writer.close()


def test_the_command_waits_for_the_tables_answers_and_ends_when_told(
    url: URL, start_onecycle: Callable[..., "subprocess.Popen[str]"]
) -> None:
    dashboard = start_onecycle(
        "dashboard", "--storage", plain(url), "--port", "0", ONECYCLE_DASHBOARD_PASSWORD=PASSWORD
    )
    assert dashboard.stderr is not None
    assert "waiting for it" in dashboard.stderr.readline()
    engine = open_engine(url)
    prepare(engine)
    engine.dispose()
    line = dashboard.stderr.readline()
    found = re.search(r"at (http://127\.0\.0\.1:\d+) \(reads only", line)
    assert found is not None, line
    assert str(url.password) not in line
    request = urllib.request.Request(found[1], headers={"Authorization": authorization(PASSWORD)})
    with urllib.request.urlopen(request) as answer:
        assert b"Optuna Dashboard" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(found[1])
    dashboard.send_signal(signal.SIGTERM)
    assert dashboard.wait(timeout=20) == 0


def test_no_password_and_a_port_in_use_are_refused_in_one_line(
    main_here: Callable[..., Ended], finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONECYCLE_DASHBOARD_PASSWORD", raising=False)
    ended = main_here("dashboard", "--storage", finished.storage)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "ONECYCLE_DASHBOARD_PASSWORD is not set" in ended.err
    monkeypatch.setenv("ONECYCLE_DASHBOARD_PASSWORD", PASSWORD)
    before = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = main_here("dashboard", "--storage", finished.storage, "--port", port)
    signal.signal(signal.SIGTERM, before)
    assert ended.code == 2
    assert f"--port {port}: Address already in use" in ended.err
