"""What several test files share: databases that are real, and a command line that is real."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from sqlalchemy import URL, make_url

from studies.database import open_engine, prepare
from tests import browser as chromium
from tests.once import made_once
from tests.postgres import PostgresServer, program

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parent.parent
TABLE_STUDY = ROOT / "tests" / "table_study.py"

# Threads of one small multiplication wait for each other where the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Below so many files the start of processes takes longer than they save.
FILES_FOR_PROCESSES = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three processes for two cores where there are many files, none for a few."""
    files = [Path(argument.partition("::")[0]) for argument in config.args]
    if len(files) < FILES_FOR_PROCESSES and all(file.is_file() for file in files):
        return 0
    # Many tests wait for processes: three workers took 5 min 13 s where two took 9 min 35 s.
    n_workers = len(os.sched_getaffinity(0)) * 3 // 2
    return min(8, n_workers)  # each holds torch and a PostgreSQL server


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's folders; decoded data is shared within the session."""
    monkeypatch.setenv("ONECYCLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ONECYCLE_CHECKPOINTS", raising=False)
    monkeypatch.delenv("ONECYCLE_STORAGE", raising=False)
    monkeypatch.delenv("ONECYCLE_TRACK", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data-home"))


def unavailable(reason: str) -> NoReturn:
    """Skip a test, or the module that calls, for what is not installed here.

    CI installs everything, so there it fails.
    """
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL server; skipped where none is installed."""
    if program("initdb") is None or program("pg_ctl") is None:
        unavailable("PostgreSQL's initdb and pg_ctl are not installed")
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


SQLITE_SLOWLY = pytest.mark.parametrize(
    "url", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"], indirect=True
)
"""For a dear test whose subject is not the database: on PostgreSQL always, on SQLite as long."""


@pytest.fixture(scope="session")
def prepared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables of a first start: a copy costs less than a start."""

    def make(folder: Path) -> None:
        engine = open_engine(make_url(f"sqlite:///{folder}/studies.db"))
        prepare(engine)
        engine.dispose()

    return made_once("prepared", make, tmp_path_factory) / "studies.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> URL:
    """The URL of a database without studies: a SQLite file, then a PostgreSQL database."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    made: URL = request.getfixturevalue(name)
    return made


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[URL]:
    """The URL of a PostgreSQL database without studies; `first_start`: without tables."""
    with postgres_server.database(prepared=not _is_first_start(request)) as url:
        yield url


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path, prepared_file: Path) -> URL:
    """The URL of a SQLite file without studies; `first_start`: that is not there yet."""
    if not _is_first_start(request):
        shutil.copy(prepared_file, tmp_path / "studies.db")
    return make_url(f"sqlite:///{tmp_path}/studies.db")


def _is_first_start(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker("first_start") is not None


@pytest.fixture
def own_generators() -> Iterator[None]:
    """Leave the global random generators as the test found them."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(python)
    np.random.set_state(numpy)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def search_into(folder: Path, study: str, *, workers: int) -> None:
    """Bring a study to its end as the README does; its database and ending lie in `folder`."""
    flags = ("--study", study, "--workers", str(workers), "--json")
    places = {
        "ONECYCLE_CACHE": str(folder / "cache"),
        "ONECYCLE_STORAGE": f"sqlite:///{folder}/studies.db",
    }
    done = subprocess.run(
        [sys.executable, "-m", "search.run", *flags],
        cwd=ROOT,
        env={**os.environ, **places, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    ended = Ended(done.returncode, done.stdout, done.stderr)
    (folder / "ended.json").write_text(json.dumps(dataclasses.asdict(ended)))


def ending_in(folder: Path) -> Ended:
    """Return how the search ended that search_into() made, maybe in another process."""
    return Ended(**json.loads((folder / "ended.json").read_text()))


@pytest.fixture
def onecycle() -> Callable[..., Ended]:
    """Run `python -m search ARGUMENTS` to its end, as a user would."""

    def call(*arguments: str, timeout_s: float = 300, **environment: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "search", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def main_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run `onecycle ARGUMENTS` within this process: the same way through, without the start."""
    from search.__main__ import main

    monkeypatch.setattr(sys, "path", sys.path[:])

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["onecycle", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Ended(code, *capsys.readouterr())

    return call


@dataclass(frozen=True)
class Finished:
    """A finished table study in a SQLite file, for reading; `first` is how its run ended."""

    study_file: Path
    database: Path
    first: Ended

    @property
    def storage(self) -> str:
        """The URL of the database."""
        return f"sqlite:///{self.database}"

    def copied_to(self, folder: Path) -> str:
        """Return the URL of a copy that may be changed."""
        shutil.copy(self.database, folder / "copy.db")
        return f"sqlite:///{folder}/copy.db"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The table study, brought to its end once by `run --json`."""

    def search(folder: Path) -> None:
        shutil.copy(TABLE_STUDY, folder / "study.py")
        search_into(folder, str(folder / "study.py"), workers=1)

    folder = made_once("finished", search, tmp_path_factory)
    ended = ending_in(folder)
    assert ended.code == 0, ended.err
    return Finished(folder / "study.py", folder / "studies.db", ended)


@pytest.fixture
def start_onecycle() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start `python -m search ARGUMENTS`; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "search", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hears_ctrl_c,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _hears_ctrl_c() -> None:
    """Undo what a shell does to its background jobs, for whose children SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class FinishedStudy:
    """A study that was searched to its end by the command line, once for all tests."""

    url: URL
    ended: Ended
    cache: Path


@pytest.fixture(scope="session")
def finished_digits(tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    """The bundled study `digits`, trained for real by two workers on SQLite."""

    def search(folder: Path) -> None:
        search_into(folder, "digits", workers=2)

    folder = made_once("digits", search, tmp_path_factory)
    url = make_url(f"sqlite:///{folder}/studies.db")
    return FinishedStudy(url, ending_in(folder), folder / "cache")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium without a window; skipped where it or playwright is not installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        unavailable("playwright is not installed")
    found = chromium.program()
    if found is None:
        unavailable("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(chromium.FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser: "Browser") -> Iterator[Callable[..., chromium.Tab]]:
    """Open an empty tab, 1280 pixels wide; options are those of playwright's `new_context`."""
    contexts = []

    def call(**options: object) -> chromium.Tab:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(60_000)
        contexts.append(context)
        return chromium.Tab(context.new_page())

    yield call
    for context in contexts:
        context.close()


def plain(url: URL) -> str:
    """Return a URL as a user writes it, password included."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
