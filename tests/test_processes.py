"""Real worker processes, killed with real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from sqlalchemy import URL

from search.queue.rows import MAX_DEATHS
from studies.database import close_optuna, optuna_storage
from tests.conftest import ROOT, SQLITE_SLOWLY, TABLE_STUDY, Ended, plain
from tests.postgres import PostgresServer
from tests.rows import query
from tests.waits import wait_for

pytestmark = pytest.mark.slow

N_TRIALS = 12
CPU = ("--device", "cpu")  # so that a start need not load torch
Start = Callable[..., "subprocess.Popen[str]"]


def n_done(url: URL, stage: str = "search") -> int:
    found = query(url, f"SELECT count(*) FROM work WHERE stage = '{stage}' AND state = 'done'")
    return int(str(found[0][0]))


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`, in whatever session they are."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [*found, *(below for child in found for below in descendants(child))]


def assert_exact(url: URL) -> None:
    """Each slot once, finished once, known to Optuna once; nothing running, nothing lost."""
    slots = query(url, "SELECT slot, count(*) FROM work WHERE stage = 'search' GROUP BY slot")
    assert sorted(slots) == [(slot, 1) for slot in range(N_TRIALS)]
    assert query(url, "SELECT DISTINCT state FROM work") == [("done",)]
    assert query(url, "SELECT count(*) FROM work WHERE stage = 'range_test'") == [(2,)]
    confirmed = query(url, "SELECT slot FROM work WHERE stage = 'confirmation' ORDER BY slot")
    assert confirmed == [(slot + 1,) for slot in range(len(confirmed))]
    assert 6 <= len(confirmed) <= 15, "three pairs at most, and a race of nine cycles"
    storage = optuna_storage(url)
    trials = optuna.load_study(study_name="table", storage=storage).trials
    close_optuna(storage)
    complete = [t for t in trials if t.state == optuna.trial.TrialState.COMPLETE]
    assert sorted(t.user_attrs["slot"] for t in complete) == list(range(N_TRIALS))
    assert not [t for t in trials if t.state == optuna.trial.TrialState.RUNNING]


def run_arguments(url: URL, workers: int) -> tuple[str, ...]:
    return (
        "run",
        "--study",
        str(TABLE_STUDY),
        "--storage",
        plain(url),
        "--workers",
        str(workers),
        *CPU,
    )


@SQLITE_SLOWLY
def test_a_study_survives_the_sudden_death_of_everything(
    url: URL, start_onecycle: Start, onecycle: Callable[..., Ended]
) -> None:
    first = start_onecycle(*run_arguments(url, 2), TABLE_SLEEP_S="0.01")
    wait_for(lambda: n_done(url) >= 3)
    everything = [first.pid, *descendants(first.pid)]
    assert len(everything) == 3, "a parent and two workers"

    def stands_still_at_work() -> bool:
        for pid in everything:
            os.kill(pid, signal.SIGSTOP)
        if query(url, "SELECT count(*) FROM work WHERE state = 'running'") != [(0,)]:
            return True
        for pid in everything:
            os.kill(pid, signal.SIGCONT)
        return False

    wait_for(stands_still_at_work)
    for pid in everything:
        os.kill(pid, signal.SIGKILL)
    first.wait()
    assert n_done(url) < N_TRIALS
    second = onecycle(*run_arguments(url, 2))
    assert second.code == 0, second.err
    assert_exact(url)


def test_a_killed_worker_is_replaced_while_the_others_go_on(
    sqlite_url: URL, start_onecycle: Start
) -> None:
    run = start_onecycle(*run_arguments(sqlite_url, 2), TABLE_SLEEP_S="0.01")
    wait_for(lambda: n_done(sqlite_url) >= 2)
    os.kill(descendants(run.pid)[0], signal.SIGKILL)
    _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert "died (SIGKILL); started again" in err
    assert_exact(sqlite_url)


POISONED_STUDY = """
import dataclasses
import os
import signal

from tests.table_study import STUDY as TABLE
from tests.table_study import Table
from trainers.onecycle import OneCycle
from trainers.task import OwnLoop


class Poisoned(Table):
    def fit(self, run):
        # All configurations of a search share a seed: slot 3 is told by its cycle.
        plan = run.plan
        if isinstance(plan, OneCycle) and plan.pct_start == 0.45 and plan.max_lr > 0.2:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().fit(run)


STUDY = dataclasses.replace(
    TABLE, name="poisoned", task=OwnLoop(factory=Poisoned, batch_size=10, steps_per_epoch=10)
)
"""


def test_a_run_that_kills_its_process_is_given_up_and_the_count_stays_exact(
    sqlite_url: URL, tmp_path: Path, onecycle: Callable[..., Ended]
) -> None:
    study = tmp_path / "poisoned.py"
    study.write_text(POISONED_STUDY)
    started = onecycle(
        *("run", "--study", str(study), "--storage", plain(sqlite_url), "--workers", "2"),
        *("--trials", str(N_TRIALS), *CPU),
    )
    assert started.code == 0, started.err
    assert "died (SIGSEGV); started again" in started.err
    states = query(
        sqlite_url,
        "SELECT slot, state, deaths, failure FROM work WHERE stage = 'search' ORDER BY slot",
    )
    given_up = ("failed", MAX_DEATHS, "died")
    assert [(s, *(given_up if s == 3 else ("done", 0, None))) for s in range(12)] == states
    storage = optuna_storage(sqlite_url)
    trials = optuna.load_study(study_name="poisoned", storage=storage).trials
    close_optuna(storage)
    failed = [t.user_attrs["slot"] for t in trials if t.state == optuna.trial.TrialState.FAIL]
    assert failed == [3]
    assert len(trials) == N_TRIALS
    status = onecycle("status", "--study", "poisoned", "--storage", plain(sqlite_url))
    assert f"died {MAX_DEATHS} times" in status.out


def test_workers_give_their_work_back_when_their_parent_is_killed(
    sqlite_url: URL, start_onecycle: Start
) -> None:
    run = start_onecycle(*run_arguments(sqlite_url, 2), TABLE_SLEEP_S="0.02")
    wait_for(lambda: n_done(sqlite_url) >= 1)
    workers = descendants(run.pid)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert query(sqlite_url, "SELECT count(*) FROM work WHERE state = 'running'") == [(0,)]


@pytest.mark.long
def test_independent_starts_join_one_study(url: URL, start_onecycle: Start) -> None:
    starts = [start_onecycle(*run_arguments(url, 1)) for _ in range(3)]
    errors = [start.communicate(timeout=300)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0], errors
    assert_exact(url)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loop_that_always_raises_ends_with_exit_code_1_and_its_exception(
    workers: int, sqlite_url: URL, onecycle: Callable[..., Ended], tmp_path: Path
) -> None:
    study = tmp_path / "broken_study.py"
    study.write_text(BROKEN_STUDY)
    arguments = (
        "run",
        "--study",
        str(study),
        "--storage",
        plain(sqlite_url),
        "--workers",
        str(workers),
        *CPU,
    )
    ended = onecycle(*arguments)
    assert ended.code == 1, ended.err
    lines = ended.err.strip().splitlines()
    (told,) = [line for line in lines if line.startswith("no result: study 'broken'")]
    assert "6 attempts in a row failed, the last with RuntimeError: the layer does not fit" in told
    assert lines[-1].endswith("with --fresh to start the study again")
    assert onecycle(*arguments).code == 1, "and so does every later start"


BROKEN_STUDY = """
from studies.definition import RangeTest, Screening, Study
from trainers.run import Run, RunResult
from trainers.task import OwnLoop


class Broken:
    def __init__(self, site):
        pass

    def fit(self, run: Run) -> RunResult:
        if run.plan.total_steps == 60:
            raise RuntimeError("the layer does not fit")
        return RunResult(score=None, outcome="completed", n_steps=2, n_images=2, seconds=1.0)


STUDY = Study(
    name="broken",
    task=OwnLoop(factory=Broken, batch_size=1, steps_per_epoch=10),
    screening=Screening(n_trials=2, epochs=4),
    diverged_value=0.1,
    range_test=RangeTest(n_sweeps=2, n_steps=60),
)
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_run_out_of_memory_is_tried_again_in_a_new_process(
    workers: int, sqlite_url: URL, start_onecycle: Start, tmp_path: Path
) -> None:
    study = tmp_path / "memory_study.py"
    study.write_text(MEMORY_STUDY)
    run = start_onecycle(
        "run",
        "--study",
        str(study),
        "--storage",
        plain(sqlite_url),
        "--workers",
        str(workers),
        *CPU,
    )
    _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    rows = query(sqlite_url, "SELECT state, count(*) FROM work GROUP BY 1")
    ((n_confirmed,),) = query(sqlite_url, "SELECT count(*) FROM work WHERE stage = 'confirmation'")
    assert rows == [("done", 2 + N_TRIALS + n_confirmed)], "sweeps, configurations, confirmation"
    failed = query(sqlite_url, "SELECT failures, owner FROM work WHERE failures > 0")
    assert [failures for failures, _ in failed] == [1]
    after = query(sqlite_url, "SELECT DISTINCT owner FROM work WHERE stage = 'confirmation'")
    assert (tmp_path / "memory_study.once").read_text() not in str(after), "it was renewed"


MEMORY_STUDY = """
import dataclasses
import json
import os
from pathlib import Path

from tests.table_study import STUDY as TABLE
from tests.table_study import Table
from trainers.onecycle import OneCycle
from trainers.task import OwnLoop

MARKER = Path(__file__).with_suffix(".once")


class OutOfMemoryOnce(Table):
    def fit(self, run):
        if isinstance(run.plan, OneCycle) and not MARKER.exists():
            MARKER.write_text(f":{os.getpid()}:")
            raise MemoryError("the batch does not fit")
        return super().fit(run)


STUDY = dataclasses.replace(
    TABLE, name="memory", task=OwnLoop(factory=OutOfMemoryOnce, batch_size=10, steps_per_epoch=10)
)
"""


@SQLITE_SLOWLY
@pytest.mark.first_start
def test_sixteen_first_starts_at_once_run_one_range_test(url: URL, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    done = subprocess.run(
        [sys.executable, "-m", "tests.first_starts", "16", plain(url)],
        cwd=ROOT,
        env={**os.environ, "TABLE_LEDGER": str(ledger)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert json.loads(done.stdout) == [0] * 16, done.stderr
    assert_exact(url)
    warm_up_seed = "0"
    seeds = [seed for seed in ledger.read_text().split() if seed != warm_up_seed]
    confirmed = query(url, "SELECT replicate FROM work WHERE stage = 'confirmation'")
    n_seeds = len({replicate for (replicate,) in confirmed})
    assert len(seeds) == 2 + N_TRIALS + len(confirmed), "each run was trained once"
    assert len(set(seeds)) == 2 + 1 + n_seeds, "a search has one seed"


def test_a_search_goes_on_through_an_outage_of_its_server(
    postgres_server: PostgresServer, postgres_url: URL, start_onecycle: Start
) -> None:
    run = start_onecycle(*run_arguments(postgres_url, 2), TABLE_SLEEP_S="0.02")
    wait_for(lambda: n_done(postgres_url) >= 2)
    postgres_server.stop()
    time.sleep(6)  # longer than a worker's first tries
    assert run.poll() is None
    postgres_server.start()
    _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert err.count("does not answer") == 1, "said once"
    assert err.count("the database is back") == 1
    assert_exact(postgres_url)
    tokens = query(postgres_url, "SELECT DISTINCT token FROM work")
    assert tokens == [(1,)], "no run was taken from its owner, none was begun again"
    epochs = query(
        postgres_url,
        "SELECT count(*) FROM epoch e JOIN work w ON w.id = e.work_id WHERE w.stage = 'search'",
    )
    assert epochs == [(4 * N_TRIALS,)], "epochs reported meanwhile are there"
