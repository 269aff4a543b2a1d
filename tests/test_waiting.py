"""A start without a database: waited for, told as 75; what can never work is told as 2 at once."""

import gc
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, event, text

from search.workers.patience import START_PATIENCE_S, Patience
from search.workers.stop import Stop
from studies.database import close_optuna, open_engine, optuna_storage, prepare
from studies.errors import DatabaseError, DatabaseUnreachableError
from tests.conftest import TABLE_STUDY, Ended, plain
from tests.postgres import PASSWORD, PostgresServer

Main = Callable[..., Ended]
Start = Callable[..., "subprocess.Popen[str]"]

RUN = ("run", "--study", str(TABLE_STUDY), "--workers", "1")
WORKER = ("worker", "--study", "table", "--device", "cpu")


# The constructor of Optuna's storage keeps its connection where it fails: nobody can close it
# before it is collected, and psycopg warns of that.
pytestmark = [
    pytest.mark.first_start,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collected_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def away(postgres_server: PostgresServer, postgres_url: URL) -> Iterator[URL]:
    """The URL of an empty database whose server is down; it is up again after the test."""
    postgres_server.stop()
    yield postgres_url
    postgres_server.start_if_down()


@pytest.mark.slow
def test_a_start_waits_for_its_database_and_goes_on(
    away: URL, postgres_server: PostgresServer, start_onecycle: Start
) -> None:
    run = start_onecycle(*RUN, "--storage", plain(away), "--wait-s", "60")
    assert run.stderr is not None
    told = run.stderr.readline()
    assert "waiting for it" in told
    time.sleep(2)  # several tries
    assert run.poll() is None
    postgres_server.start()
    _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert "waiting for it" not in err, "said once"
    assert PASSWORD not in told + err


@pytest.mark.parametrize(
    "command", [RUN, WORKER, ("range-test", "--study", str(TABLE_STUDY), "--workers", "1")]
)
def test_a_start_that_may_not_wait_ends_with_75_in_one_line(
    command: tuple[str, ...], away: URL, main_here: Main
) -> None:
    ended = main_here(*command, "--storage", plain(away), "--wait-s", "0")
    assert_away(ended)


def test_a_start_waits_as_long_as_it_was_told(away: URL, onecycle: Main) -> None:
    began = time.monotonic()
    ended = onecycle(*WORKER, "--storage", plain(away), "--wait-s", "2")
    assert 2 <= time.monotonic() - began < START_PATIENCE_S
    assert ended.code == 75
    first, last = ended.err.splitlines()
    assert first.endswith("waiting for it")
    assert last.endswith("the same command resumes when it does")


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("status", "--study", "table"),
        ("report", "--study", "table"),
        ("trials", "--study", "table"),
        ("reap", "--study", "table"),
        ("delete", "--study", "table", "--yes"),
        ("export", "--study", "table"),
        ("db", "upgrade"),
        ("submit", "--study", str(TABLE_STUDY)),
    ],
)
def test_other_commands_end_with_75_in_one_line_at_once(
    command: tuple[str, ...],
    away: URL,
    main_here: Main,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert_away(main_here(*command, "--storage", plain(away)))


def assert_away(ended: Ended) -> None:
    assert ended.code == 75, ended
    (line,) = ended.err.splitlines()
    assert line.startswith("error: database postgresql://onecycle:***@127.0.0.1:")
    assert "does not answer: " in line
    assert line.endswith("; the same command resumes when it does")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"username": "nobody"}, "password authentication failed"),
        ({"database": "nothing"}, 'database "nothing" does not exist'),
        ({"query": {"sslmode": "require"}}, "server does not support SSL"),
        ({"query": {"sslmode": "perhaps"}}, "invalid sslmode value"),
        ({"query": {"colour": "red"}}, 'invalid connection option "colour"'),
    ],
)
def test_what_the_server_refuses_for_good_is_not_waited_for(
    changed: dict[str, Any], words: str, postgres_server: PostgresServer, main_here: Main
) -> None:
    storage = plain(postgres_server.url.set(**changed))
    began = time.monotonic()
    ended = main_here(*RUN, "--storage", storage)
    assert time.monotonic() - began < START_PATIENCE_S
    assert ended.code == 2, ended
    (line,) = ended.err.splitlines()
    assert words in line


@pytest.mark.parametrize("storage", ["mysql://h/n", "postgre://h/n", "sqlite://n.db", "n", ""])
def test_a_url_that_can_never_work_ends_with_2_at_once(storage: str, main_here: Main) -> None:
    for command in (RUN, WORKER, ("list",)):
        ended = main_here(*command, "--storage", storage)
        assert ended.code == 2
        assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER ROLE weak CONNECTION LIMIT 0", "too many connections"),
        ("ALTER ROLE weak SET default_transaction_read_only = on", "read-only transaction"),
    ],
)
def test_a_server_that_is_full_or_a_standby_is_waited_for(
    statement: str, words: str, postgres_url: URL
) -> None:
    with as_weak_user(postgres_url, statement) as weak:
        engine = open_engine(weak)
        with pytest.raises(DatabaseUnreachableError, match=words):
            prepare(engine)
        engine.dispose()


def test_a_user_who_may_not_make_tables_is_told_at_once(postgres_url: URL) -> None:
    with as_weak_user(postgres_url, "REVOKE CREATE ON SCHEMA public FROM public") as weak:
        engine = open_engine(weak)
        with pytest.raises(DatabaseError, match="permission denied for schema public") as caught:
            prepare(engine)
        assert not isinstance(caught.value, DatabaseUnreachableError)
        engine.dispose()


class as_weak_user:  # noqa: N801 (used like a function)
    """A role of its own in a database, after one more statement; gone at the end."""

    def __init__(self, url: URL, statement: str) -> None:
        self._url, self._statement = url, statement

    def __enter__(self) -> URL:
        self._do("CREATE ROLE weak LOGIN PASSWORD 'weak'", self._statement)
        return self._url.set(username="weak", password="weak")

    def __exit__(self, *raised: object) -> None:
        self._do("DROP OWNED BY weak", "DROP ROLE weak")

    def _do(self, *statements: str) -> None:
        engine = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()


def test_a_host_that_does_not_resolve_may_come(main_here: Main) -> None:
    storage = "postgresql://u@no-such-host.invalid/n"
    ended = main_here(*WORKER, "--storage", storage, "--wait-s", "0")
    assert ended.code == 75
    assert "no-such-host.invalid" in ended.err


def test_a_wait_below_zero_is_refused(main_here: Main) -> None:
    ended = main_here(*RUN, "--wait-s", "-1")
    assert (ended.code, ended.err) == (2, "error: wait-s must be at least 0 seconds, got -1\n")


@pytest.mark.parametrize("nth", [0, 3, 6])
def test_a_server_that_goes_while_optunas_storage_is_made_is_waited_for(
    nth: int, postgres_server: PostgresServer, postgres_url: URL
) -> None:
    """The server is stopped before the nth statement of the constructor and its checks."""
    engine = open_engine(postgres_url)
    prepare(engine)
    engine.dispose()
    seen, calls = [], []

    def stop_once(*of_statement: Any) -> None:
        seen.append(of_statement[2])
        if len(seen) == nth + 1:
            postgres_server.stop("immediate")

    def storage() -> object:
        calls.append(1)
        if len(calls) == 2:
            postgres_server.start_if_down()
        return optuna_storage(postgres_url)

    event.listen(Engine, "before_cursor_execute", stop_once)
    try:
        made = Patience(Stop(), seconds=60)(storage)
    finally:
        event.remove(Engine, "before_cursor_execute", stop_once)
        postgres_server.start_if_down()
    assert len(calls) >= 2, f"the constructor has more than {nth} statements: {seen}"
    close_optuna(made)  # type: ignore[arg-type]
