"""Which database a URL names, and that nothing printed holds its password."""

import itertools
import json
import random
import string
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import URL, make_url

from studies.database import open_engine, optuna_storage, prepare
from studies.errors import DatabaseError
from studies.urls import masked_text, scrubbed, storage_url
from tests.conftest import Ended, plain
from tests.postgres import PASSWORD, PostgresServer

Main = Callable[..., Ended]

FORMS = (
    "postgresql://u:{}@127.0.0.1:1/n",
    "postgresql+psycopg://u:{}@127.0.0.1:1/n",
    "postgres://u:{}@127.0.0.1:1/n",
    "postgresql:/u:{}@127.0.0.1:1/n",
    "postgresql//u:{}@127.0.0.1:1/n",
    "postgresql:u:{}@127.0.0.1:1/n",
    "postgresql:///u:{}@127.0.0.1:1/n",
    "postgresql//:u:{}@127.0.0.1:1/n",
    "postgresql:\\\\u:{}@127.0.0.1:1/n",
    "postgresql://u/{}@127.0.0.1:1/n",
    "postgresql://u;{}@127.0.0.1:1/n",
    "postgresql://u,{}@127.0.0.1:1/n",
    "postgresql://u%3A{}@127.0.0.1:1/n",
    "postgresql://:{}@127.0.0.1:1/n",
    "postgresql://u:x@{}@127.0.0.1:1/n",
    "postgresql://u@x:{}@127.0.0.1:1/n",
    "postgresql://u:{}/127.0.0.1/n",
    "postgresql://u:{}@127.0.0.1:port/n",
    "postgresql://u:{}@127.0.0.1:99999/n",
    "postgresql://127.0.0.1:{}@1/n",
    "postgresql://u@127.0.0.1:1/n?password={}",
    "postgresql://u@127.0.0.1:1/n?PASSWORD={}",
    "postgresql://u@127.0.0.1:1/n?passwrod={}",
    "postgresql://u@127.0.0.1:1/n?sslmode=x;password={}",
    "postgresql://u@127.0.0.1:1/n?sslmode=x&sslpassword={}",
    "postgresql://u@127.0.0.1:1/n;password={}",
    "postgresql://u@127.0.0.1:1/postgresql://u:{}@h/n",
    "psql://u:{}@127.0.0.1/n",
    "mysql://u:{}@127.0.0.1/n",
    "mysql://u:{}@x@127.0.0.1/n",
    "mysql://u@127.0.0.1/n?password={}",
    "sqlite://u:{}@127.0.0.1/n.db",
    "sqlite:///postgresql://u:{}@127.0.0.1/n",
    "sqlite:///u:{}@127.0.0.1/n",
    "sqlite:///n.db?password={}",
    " postgresql://u:{}@127.0.0.1:1/n\n",
    "'postgresql://u:{}@127.0.0.1:1/n'",
    "u:{}@127.0.0.1/n",
    "{}@127.0.0.1/n",
    "{}",
)
"""Right ones and mistyped ones; where {} stands was meant to be the password."""


def _passwords() -> list[str]:
    chance = random.Random(0)
    marks = "@:/?#%&=;,+{}[]\\ '\"!$~é"
    made = ["".join(chance.choices(string.ascii_letters, k=4)) + mark for mark in marks]
    return [f"{one}{''.join(chance.choices(string.ascii_letters, k=5))}" for one in made]


def _pieces(password: str) -> set[str]:
    """The password and its longer parts, as written and percent-encoded."""
    letters = "".join(c if c in string.ascii_letters else " " for c in password)
    return {password, quote(password, safe=""), *(p for p in letters.split() if len(p) > 3)}


URLS = [
    (form.format(written), password)
    for form, password in itertools.product(FORMS, _passwords())
    for written in {password, quote(password, safe="")}
]


def test_whatever_is_said_of_a_url_holds_no_piece_of_its_password(tmp_path: Path) -> None:
    shown = []
    for given, password in URLS:
        said = _everything_said(given)
        shown += [(given, text) for text in said for piece in _pieces(password) if piece in text]
    assert shown == []
    assert len(URLS) > 1000


def _everything_said(given: str) -> list[str]:
    """Return the texts of a URL that is used as far as it goes: nothing listens at port 1."""
    try:
        url = storage_url(given)
    except DatabaseError as error:
        return ["".join(traceback.format_exception(error))]
    said = [masked_text(url)]
    for use in (lambda: prepare(open_engine(url)), lambda: optuna_storage(url)):
        if url.get_backend_name() == "postgresql":
            with pytest.raises(DatabaseError) as caught:
                use()
            said.append(str(caught.value))
    return said


@pytest.mark.parametrize("command", ["doctor", "list", "db"])
@pytest.mark.parametrize("form", FORMS[::3])
def test_no_command_prints_the_password(form: str, command: str, main_here: Main) -> None:
    words = ("db", "upgrade") if command == "db" else (command,)
    ended = main_here(*words, "--storage", form.format("sEcr3tw0rd"))
    assert ended.code in (2, 75), ended
    assert "sEcr3tw0rd" not in ended.out + ended.err
    assert "Traceback" not in ended.err


def test_a_password_is_taken_out_of_a_text_of_others() -> None:
    url = make_url("postgresql://u:p%40ss%2Fword@h/n?sslpassword=other")
    text = "URL postgresql://u:p%40ss%2Fword@h/n, 'p@ss/word', sslpassword=other"
    assert scrubbed(text, url) == "URL postgresql://u:***@h/n, '***', sslpassword=***"


def test_a_traceback_in_the_database_holds_no_password(
    postgres_url: URL, tmp_path: Path, onecycle: Callable[..., Ended]
) -> None:
    from tests.rows import query

    study = tmp_path / "telling.py"
    study.write_text(TELLING_STUDY)
    ended = onecycle(
        "run", "--study", str(study), "--workers=1", ONECYCLE_STORAGE=plain(postgres_url)
    )
    assert ended.code == 1, ended.err
    ((text,),) = query(postgres_url, "SELECT DISTINCT traceback FROM work WHERE failure = 'bug'")
    assert "could not log to postgresql://onecycle:***@" in str(text)
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in str(text) + ended.err + ended.out


TELLING_STUDY = """
import os

from studies.definition import RangeTest, Screening, Study
from trainers.run import RunResult
from trainers.task import OwnLoop


class Telling:
    def __init__(self, site):
        pass

    def fit(self, run):
        if run.plan.total_steps == 60:
            raise RuntimeError("could not log to " + URL)
        return RunResult(score=None, outcome="completed", n_steps=2, n_images=2, seconds=1.0)


URL = os.environ["ONECYCLE_STORAGE"]
STUDY = Study(
    name="telling",
    task=OwnLoop(factory=Telling, batch_size=1, steps_per_epoch=10),
    screening=Screening(n_trials=2, epochs=4),
    diverged_value=0.1,
    range_test=RangeTest(n_sweeps=2, n_steps=60),
)
"""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("sqlite://studies.db", "three slashes"),
        ("sqlite://folder/studies.db", "three slashes"),
        ("sqlite:////tmp/what?.db", "takes no options after a ?"),
        ("sqlite:///x.db?timeout=3", "takes no options after a ?"),
        ("sqlite:///C:\\data\\x.db", "is a path of Windows"),
        ("studies.db", "'studies.db' (a file is sqlite:///studies.db)"),
        ("/data/my studies.db", "(a file is sqlite:////data/my studies.db)"),
        ("postgresql://u:pw@x@h/n", "in a password write @ as %40"),
        ("postgresql://u:pw@/run/postgresql", "a socket's folder goes in ?host="),
        ("mysql://h/x", "cannot hold a study; allowed: sqlite:///FILE"),
        ("", "--storage is empty"),
        ("  \n", "--storage is empty"),
    ],
)
def test_a_mistyped_url_is_told_with_the_way_on(given: str, words: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        storage_url(given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_variable_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONECYCLE_STORAGE", "")
    with pytest.raises(DatabaseError, match="ONECYCLE_STORAGE is empty: leave it out, or name"):
        storage_url(None)


def test_the_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage_url("sqlite:///~/studies.db").database == f"{tmp_path}/studies.db"


def test_a_line_break_after_a_secret_does_not_count() -> None:
    assert storage_url("postgresql://u:pw@h/n\n").database == "n"


@pytest.mark.parametrize("name", ["a b.db", "a#b.db", "a%b.db", "ä.db", "a'b.db", "a;b&c.db"])
def test_a_file_of_any_name_is_made_read_and_looked_at(
    name: str, tmp_path: Path, main_here: Main
) -> None:
    written = URL.create("sqlite", database=str(tmp_path / name)).render_as_string()
    engine = open_engine(storage_url(written))
    prepare(engine)
    engine.dispose()
    assert (tmp_path / name).is_file()
    document = json.loads(main_here("doctor", "--storage", written, "--json").out)
    (database,) = [check for check in document["checks"] if check["name"] == "database"]
    assert database["state"] == "ok", database
    assert main_here("list", "--storage", written).code == 0


def test_a_server_of_both_names_is_the_same(postgres_server: PostgresServer) -> None:
    longer = plain(postgres_server.url)
    assert storage_url(longer.replace("postgresql:", "postgres:")) == storage_url(longer)
