"""The dashboard: who may read it, that nobody may write, our cards, waiting for its database."""

import base64
import json
import re
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import plotly.graph_objects
import pytest
from sqlalchemy import URL, make_url, select

from search.results.result import load_result
from search.views.dashboard.guard import FIRST_DELAY_S, MOST_DELAYED, Brake, guarded
from search.views.dashboard.serving import create_app
from studies.database import open_engine, optuna_storage, prepare, transaction
from studies.tables import StudyRow
from tests.conftest import Ended, Finished, plain
from tests.rows import query

PASSWORD = "s3cret: ü"


def authorization(password: str, *, user: str = "anyone") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def asked(
    app: WSGIApplication, path: str, header: str | None, *, method: str = "GET", query: str = ""
) -> tuple[str, bytes]:
    """Return the status and the body that the application answers."""
    environ: dict[str, object] = {
        "PATH_INFO": path,
        "REQUEST_METHOD": method,
        "QUERY_STRING": query,
    }
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
        "Basic \xff",
        "Basic \u20ac",
        "\xff\xfe",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic " + base64.b64encode(b"a:" + b"x" * 100_000).decode(),
        "Basic " + base64.b64encode(PASSWORD.encode()).decode(),
        "Basic " + base64.b64encode(f"a:{PASSWORD}".encode("latin-1")).decode(),
        authorization(PASSWORD + "\0"),
    ],
)
def test_nothing_is_shown_without_the_password(header: str | None, copy: URL) -> None:
    app = create_app(copy, password=PASSWORD)
    for path in ("/", "/dashboard", "/api/studies", "/static/bundle.js"):
        status, body = asked(app, path, header)
        assert status == "401 Unauthorized"
        assert list(json.loads(body)) == ["reason"]


def shown_at(app: WSGIApplication, address: str, password: str) -> tuple[str, float]:
    """Return the status of a request from an address, and how long it took."""
    environ: dict[str, object] = {"PATH_INFO": "/api/studies", "REMOTE_ADDR": address}
    environ["HTTP_AUTHORIZATION"] = authorization(password)
    setup_testing_defaults(environ)
    seen: list[str] = []
    began = time.monotonic()
    list(app(environ, lambda status, headers, *_: seen.append(status)))  # type: ignore
    return seen[0], time.monotonic() - began


def at_once(app: WSGIApplication, address: str) -> bool:
    """Whether the right password is let in without a delay: one of several looks has none."""
    looks = [shown_at(app, address, PASSWORD) for _ in range(5)]
    assert {status for status, _ in looks} == {"200 OK"}
    return min(seconds for _, seconds in looks) < FIRST_DELAY_S


def nothing(environ: object, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return []


def test_wrong_passwords_of_an_address_take_longer_each_time_and_the_right_one_never() -> None:
    app = guarded(nothing, password=PASSWORD, allow_writes=False)
    took = []
    for _ in range(4):
        status, seconds = shown_at(app, "10.0.0.1", "wrong")
        assert status == "401 Unauthorized"
        took.append(seconds)
    for n, seconds in enumerate(took):
        assert seconds >= FIRST_DELAY_S * 2**n
    assert at_once(app, "10.0.0.1")
    assert shown_at(app, "10.0.0.1", "wrong")[1] < took[-1], "forgiven after the right one"


def test_many_guessers_together_are_slow_and_do_not_lock_out_who_was_let_in() -> None:
    app = guarded(nothing, password=PASSWORD, allow_writes=False)
    assert shown_at(app, "10.9.9.9", PASSWORD)[0] == "200 OK"
    n = 5 * MOST_DELAYED
    began = time.monotonic()
    with ThreadPoolExecutor(n) as pool:
        guesses = [
            pool.submit(shown_at, app, f"10.0.{k}.1", "wrong") for k in range(n) for _ in range(3)
        ]
        time.sleep(FIRST_DELAY_S / 2)
        assert at_once(app, "10.9.9.9")
        answers = [guess.result()[0] for guess in guesses]
    seconds = time.monotonic() - began
    looked_at = answers.count("401 Unauthorized")
    assert set(answers) <= {"401 Unauthorized", "429 Too Many Requests"}
    assert looked_at <= (seconds / FIRST_DELAY_S + 1) * MOST_DELAYED
    assert shown_at(app, "10.8.8.8", PASSWORD)[0] == "200 OK", "a new one, after them"


def test_who_guesses_from_ever_new_addresses_fills_no_memory() -> None:
    brake = Brake()
    for n in range(3_000):
        assert brake.heard(f"10.{n}", right=True)
        brake._delay_s(f"10.{n}")
    assert len(brake._known) == len(brake._wrong) == 1_000


def test_with_the_password_the_studies_and_their_trials_are_shown(copy: URL) -> None:
    app = create_app(copy, password=PASSWORD)
    assert "table" in studies(app)
    status, page = asked(app, "/dashboard", authorization(PASSWORD))
    assert status == "200 OK"
    assert b"Optuna Dashboard" in page
    assert asked(app, "/api/studies", authorization(PASSWORD), method="HEAD")[0] == "200 OK"


def test_every_request_that_writes_is_refused_and_changes_nothing(copy: URL) -> None:
    writing = {
        (route.method, re.sub(r"<.*?>", "1", route.rule))
        for route in optuna_dashboard.wsgi(optuna_storage(copy)).routes
        if route.method not in ("GET", "HEAD")
    }
    writing |= {(method, "/api/studies") for method in ("PATCH", "OPTIONS", "TRACE", "get")}
    assert ("DELETE", "/api/studies/1") in writing
    app, before = create_app(copy, password=PASSWORD), stored(copy)
    for method, path in sorted(writing):
        status, body = asked(app, path, authorization(PASSWORD), method=method)
        assert status == "403 Forbidden", path
        assert "--allow-writes" in json.loads(body)["reason"]
    assert stored(copy) == before


def stored(url: URL) -> list[str]:
    """Return all that a SQLite file holds, as SQL."""
    connection = sqlite3.connect(str(url.database))
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def test_writes_are_let_through_where_they_were_allowed(copy: URL) -> None:
    app = create_app(copy, password=PASSWORD, allow_writes=True)
    assert "table" in studies(app)
    gone = asked(app, "/api/studies/1", authorization(PASSWORD), method="DELETE")
    assert gone == ("200 OK", b"{}")  # its page takes an answer without JSON for a failure
    assert "table" not in studies(app)
    assert asked(app, "/api/studies/1", None, method="DELETE")[0] == "401 Unauthorized"


def test_a_study_of_ours_has_cards_and_a_note_that_are_stored_nowhere(copy: URL) -> None:
    app, before = create_app(copy, password=PASSWORD), stored(copy)
    shown = study(app, 1)
    assert [card["id"] for card in shown["plotly_graph_objects"]] == [
        "onecycle-answer",
        "onecycle-confirmation",
        "onecycle-search",
        "onecycle-curves",
        *(f"onecycle-slice-{name}" for name in ("max_lr", "pct_start", "div_factor")),
        "onecycle-map",
        "onecycle-parallel",
        "onecycle-importance",
        "onecycle-range-test",
        "onecycle-schedules",
    ]
    assert shown["note"]["body"].startswith("## Study `table`: finished")
    assert shown["objective_names"] == ["accuracy"]
    assert len(shown["trials"]) == 12
    assert stored(copy) == before


def test_best_trial_is_our_answer_with_its_mean_over_fresh_seeds(copy: URL) -> None:
    engine = open_engine(copy)
    result = load_result(engine, "table")
    ((number,),) = query(
        copy,
        f"SELECT trial_number FROM work WHERE stage='search' AND slot={result.recommended.slot}",
    )
    engine.dispose()
    app = create_app(copy, password=PASSWORD)
    for after in ("", "after=11", "after=12"):
        (best,) = study(app, 1, query=after)["best_trials"]
        assert best["number"] == number
        assert best["values"] == [pytest.approx(result.recommended.validation.mean, abs=1e-6)]
        assert best["params"]
    everything = study(app, 1)
    assert max(t["values"][0] for t in everything["trials"]) != best["values"][0]
    assert "'Best Trial' on this page is this answer" in everything["note"]["body"]


def test_importances_are_those_that_the_answer_prints(copy: URL) -> None:
    engine = open_engine(copy)
    expected = load_result(engine, "table").shares
    app = create_app(copy, password=PASSWORD)
    listed = importances(app, 1)
    assert {each["name"]: each["importance"] for each in listed} == expected
    assert list(expected) == [each["name"] for each in listed]
    with transaction(engine) as session:
        row = session.scalars(select(StudyRow)).one()
        row.stage, row.result = "search", None
    engine.dispose()
    app = create_app(copy, password=PASSWORD)
    assert importances(app, 1) == [], "none before the study has ended"
    shown = study(app, 1)
    assert "'Best Trial' on this page is the best single score" in shown["note"]["body"]
    assert len(shown["best_trials"]) == 1
    other = optuna.create_study(study_name="other", storage=plain(copy), direction="maximize")
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=6)
    assert [each["name"] for each in importances(app, other._study_id)] == ["x"]
    path = "/api/studies/99/param_importances"
    assert asked(app, path, authorization(PASSWORD))[0] == "404 Not Found"


def importances(app: WSGIApplication, optuna_id: int) -> list[dict[str, Any]]:
    path = f"/api/studies/{optuna_id}/param_importances"
    status, body = asked(app, path, authorization(PASSWORD))
    assert status == "200 OK"
    (listed,) = json.loads(body)["param_importances"]
    return list(listed)


def test_what_somebody_saved_on_the_dashboard_is_kept_beside_the_cards(copy: URL) -> None:
    theirs = optuna.load_study(study_name="table", storage=plain(copy))
    optuna_dashboard.save_note(theirs, "my **own** words")
    figure = plotly.graph_objects.Figure()
    optuna_dashboard.save_plotly_graph_object(theirs, figure, graph_object_id="mine")
    shown = study(create_app(copy, password=PASSWORD), 1)
    assert shown["note"] == {"version": 1, "body": "my **own** words"}
    assert [card["id"] for card in shown["plotly_graph_objects"]][-2:] == [
        "onecycle-schedules",
        "mine",
    ]


def test_an_optuna_study_that_is_not_ours_is_shown_as_it_is(copy: URL) -> None:
    theirs = optuna.create_study(study_name="theirs", storage=plain(copy))
    lost = optuna.create_study(study_name="lost", storage=plain(copy))
    lost.set_user_attr("onecycle_study", "of a study that is deleted")
    app = create_app(copy, password=PASSWORD)
    for other in (theirs, lost):
        shown = study(app, other._study_id)
        assert (shown["plotly_graph_objects"], shown["note"]["body"]) == ([], "")
    assert asked(app, "/api/studies/99", authorization(PASSWORD))[0] == "404 Not Found"


def study(app: WSGIApplication, optuna_id: int, *, query: str = "") -> dict[str, Any]:
    """Return what the page of an Optuna study is made of."""
    status, body = asked(app, f"/api/studies/{optuna_id}", authorization(PASSWORD), query=query)
    assert status == "200 OK"
    shown: dict[str, Any] = json.loads(body)
    return shown


def test_tables_of_another_version_are_refused_with_what_to_do(
    copy: URL, main_here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = sqlite3.connect(str(copy.database))
    connection.execute("UPDATE onecycle_alembic_version SET version_num = '0001'")
    connection.commit()
    connection.close()
    monkeypatch.setenv("ONECYCLE_DASHBOARD_PASSWORD", PASSWORD)
    before = signal.getsignal(signal.SIGTERM)
    ended = main_here("dashboard", "--storage", plain(copy), "--port", "0")
    signal.signal(signal.SIGTERM, before)
    assert ended.code == 2
    assert "db upgrade" in ended.err


def test_a_reader_neither_waits_for_a_writer_nor_holds_one_up(copy: URL) -> None:
    app = create_app(copy, password=PASSWORD)
    writer = sqlite3.connect(str(copy.database), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert "table" in studies(app)
    writer.execute("COMMIT")
    writer.close()


@pytest.mark.first_start
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
    assert dashboard.wait(timeout=120) == 0


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
