"""Kill workers at random, restart the server under them, and count what is left.

    python -m benchmarks.chaos                                    8 workers, PostgreSQL, 500
    python -m benchmarks.chaos --sqlite --workers 4 --restarts 0  the same on a SQLite file

The trainer looks its results up, so nearly all time is claims, leases and writes. Workers are
forked from one parent that has imported everything: a new one works within milliseconds.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import optuna
from sqlalchemy import URL, make_url

from benchmarks.commands import DONE, NOT_AS_HOPED, Flags, at_least, ended, seconds
from search.stages.believed import Tried, believe
from search.stages.search import given
from search.stages.space import Ranges
from search.starting import catalog
from search.workers.outcome import failure_kind
from search.workers.patience import Patience
from search.workers.stop import Stop
from search.workers.worker import Worker
from studies.database import close_optuna, open_engine, optuna_storage, prepare, transaction
from studies.registry import load
from studies.tables import StudyRow
from tests import table_study
from tests.postgres import PostgresServer
from tests.rows import query
from trainers.device import Site, device_name
from trainers.onecycle import OneCycle
from trainers.run import Run
from trainers.sweeps.stopping import FEWEST_SWEEPS
from trainers.sweeps.sweep import Sweep

NAME = "table"
BEAT_S, GRACE_S = 0.5, 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """What is left of a study, and what it went through."""

    configurations: int
    finished: int
    lost: int
    doubled: int
    running: int
    sweeps: int
    failures: int
    optuna_complete: int
    optuna_running: int
    replaced_trials: int
    kills: int
    restarts: int
    takeovers: int
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether every configuration was finished once, on our side and on Optuna's."""
        wrong = (self.lost, self.doubled, self.running, self.failures, self.optuna_running)
        told = self.finished == self.optuna_complete == self.configurations
        return told and not any(wrong) and self.sweeps == FEWEST_SWEEPS


def make_study(url: URL, *, n_trials: int) -> None:
    """Store the table study with leases short enough for a test."""
    engine = open_engine(url)
    prepare(engine)
    definition = load(str(Path(table_study.__file__)))
    row = catalog.find_or_create(engine, definition, name=NAME, seed=None, n_trials=n_trials)
    with transaction(engine) as session:
        stored = session.get_one(StudyRow, row.id)
        stored.beat_s, stored.grace_s = BEAT_S, GRACE_S
    engine.dispose()


def fork(call: Callable[[], int]) -> int:
    """Run `call` in a forked process that exits with what it returns; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = call()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def warm_up() -> None:
    """Import in this process all that a worker needs, by doing once what it does."""
    sampler = optuna.samplers.TPESampler(n_startup_trials=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    site = Site(device="cpu", data=None, cache=Path())
    ranges = Ranges(others=table_study.STUDY.parameters, bracket=(0.1, 1), proposed_max_lr=0.2)
    given(1, screening=table_study.STUDY.screening, study_seed=0, ranges=ranges)
    tried = [Tried(0, ranges.baseline(), (0.5,))]
    believe(ranges, tried, metric="accuracy", direction="maximize", diverged_value=0.1, seed=0)
    failure_kind(ValueError())
    device_name("cpu")
    for plan in (
        Sweep(start_lr=1e-4, end_lr=1, total_steps=20),
        OneCycle(max_lr=1, total_steps=40),
    ):
        table_study.Table(site).fit(Run(plan=plan, seed=0))


def work(url: URL, cache: Path) -> int:
    """Be one worker until the study has ended."""
    engine, stop = open_engine(url), Stop()
    row = Patience(stop)(catalog.find, engine, NAME)
    site = Site(device="cpu", data=None, cache=cache)
    trainer = table_study.Table(site)
    worker = Worker(engine, row, table_study.STUDY, trainer=trainer, site=site, stop=stop)
    return 0 if worker.work() == "finished" else 1


def torment(
    url: URL,
    *,
    n_workers: int,
    n_trials: int,
    kill_every_s: float,
    restart: Callable[[], None] | None = None,
    n_restarts: int = 0,
    seed: int = 0,
) -> Count:
    """Work on a new study until it has ended, with a worker killed every `kill_every_s`.

    `restart` is called `n_restarts` times, spread over the configurations.
    """
    began, chance = time.monotonic(), random.Random(seed)
    cache = Path(tempfile.mkdtemp(prefix="onecycle-chaos-"))
    make_study(url, n_trials=n_trials)
    warm_up()
    due = [n_trials * (n + 1) // (n_restarts + 1) for n in range(n_restarts)]
    alive = {fork(lambda: work(url, cache)) for _ in range(n_workers)}
    kills, next_kill = 0, time.monotonic() + kill_every_s
    try:
        while alive:
            time.sleep(0.02)
            alive -= {pid for pid in alive if has_ended(pid)}
            if due and restart is not None and count_done(url) >= due[0]:
                due.pop(0)
                restart()
            if len(alive) == n_workers and time.monotonic() >= next_kill:
                victim = chance.choice(sorted(alive))
                kill(victim)
                alive.discard(victim)
                alive.add(fork(lambda: work(url, cache)))
                kills, next_kill = kills + 1, time.monotonic() + kill_every_s
    finally:
        for pid in alive:
            kill(pid)
    return count(
        url,
        n_trials=n_trials,
        kills=kills,
        restarts=n_restarts - len(due),
        seconds=time.monotonic() - began,
    )


def kill(pid: int) -> None:
    """End a worker without a warning."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def has_ended(pid: int) -> bool:
    """Whether a worker has ended; raise RuntimeError where the study had not."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended and (code := os.waitstatus_to_exitcode(status)) != 0:
        raise RuntimeError(f"a worker ended with {code}")
    return ended != 0


def count_done(url: URL) -> int:
    """Return how many configurations have ended."""
    return query(url, "SELECT count(*) FROM work WHERE stage = 'search' AND state = 'done'")[0][0]


def count(url: URL, *, n_trials: int, kills: int, restarts: int, seconds: float) -> Count:
    """Count on both sides of the database."""
    search = "FROM work WHERE stage = 'search'"
    (finished, slots), *_ = query(
        url, f"SELECT count(*), count(DISTINCT slot) {search} AND state = 'done'"
    )
    storage = optuna_storage(url)
    trials = optuna.load_study(study_name=NAME, storage=storage).trials
    close_optuna(storage)
    complete = [t.user_attrs["slot"] for t in trials if t.state.name == "COMPLETE"]
    return Count(
        configurations=n_trials,
        finished=finished,
        lost=n_trials - slots,
        doubled=finished - slots + len(complete) - len(set(complete)),
        running=query(url, "SELECT count(*) FROM work WHERE state != 'done'")[0][0],
        sweeps=query(url, "SELECT count(*) FROM work WHERE stage = 'range_test'")[0][0],
        failures=query(url, "SELECT coalesce(sum(failures), 0) FROM work")[0][0],
        optuna_complete=len(complete),
        optuna_running=sum(t.state.name in ("RUNNING", "WAITING") for t in trials),
        replaced_trials=sum(t.state.name == "FAIL" for t in trials),
        kills=kills,
        restarts=restarts,
        takeovers=query(url, "SELECT coalesce(sum(token - 1), 0) FROM work")[0][0],
        seconds=round(seconds, 1),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Torment one study and print the count as JSON; return 1 where it is not exact."""
    flags = Flags("chaos", __doc__)
    flags.add_argument("--sqlite", action="store_true", help="a SQLite file instead of a server")
    flags.add_argument("--workers", type=at_least(1), default=8)
    flags.add_argument("--trials", type=at_least(1), default=500)
    flags.add_argument("--kill-every-s", type=seconds, default=1.0)
    flags.add_argument("--restarts", type=at_least(0), default=3)
    flags.add_argument("--seed", type=at_least(0), default=0)
    return ended(partial(_torment, flags.parse_args(argv)))


def _torment(flags: argparse.Namespace) -> int:
    pace = {
        "n_workers": flags.workers,
        "n_trials": flags.trials,
        "kill_every_s": flags.kill_every_s,
        "seed": flags.seed,
    }
    if flags.sqlite:
        folder = tempfile.mkdtemp(prefix="onecycle-chaos-db-")
        counted = torment(make_url(f"sqlite:///{folder}/studies.db"), **pace)
    else:
        server = PostgresServer(fsync=True)
        server.start()
        try:
            with server.database() as url:
                counted = torment(url, restart=server.restart, n_restarts=flags.restarts, **pace)
        finally:
            server.remove()
    print(json.dumps({**asdict(counted), "exact": counted.exact}, indent=2))
    return DONE if counted.exact else NOT_AS_HOPED


if __name__ == "__main__":
    sys.exit(main())
