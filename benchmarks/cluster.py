"""What limits the number of workers on one PostgreSQL: connections, claims, the sampler.

    python -m benchmarks.cluster                          4, 8 and 16 workers
    python -m benchmarks.cluster --workers 4 --for-s 10   a short one

Workers are the product's own with a loop that sleeps instead of training: claim, ask, three
suggests, eight epoch rows, finish, tell. Cycles differ in length, so that workers do not march in
step, and the server counts their connections.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import optuna
from sqlalchemy import URL

from benchmarks.commands import Flags, at_least, ended, seconds
from benchmarks.overhead import RANGES, STUDY, Nothing, fill, make_both
from search.history.samplers import make_sampler
from search.starting import catalog
from search.workers.stop import Stop
from search.workers.worker import Worker
from studies.database import open_engine
from tests.postgres import PostgresServer
from tests.rows import query
from trainers.device import Site
from trainers.run import Run, RunResult


class Sleeping(Nothing):
    """A loop that sleeps for half of `seconds` to half more, by the seed of the run."""

    def __init__(self, site: Site, seconds: float) -> None:
        super().__init__(site)
        self.seconds, self.trained_s = seconds, 0.0

    def fit(self, run: Run) -> RunResult:
        """Sleep, then report what a cycle reports."""
        slept = self.seconds * (0.5 + run.seed % 1000 / 1000)
        time.sleep(slept)
        self.trained_s += slept
        return super().fit(run)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """`trained` is the share of their time that workers trained: median, lowest, highest."""

    workers: int
    cycle_s: float
    finished_per_s: float
    trained: float
    trained_low: float
    trained_high: float
    connections: int


def work(
    url: URL, cycle_s: float, for_s: float, gate: Barrier, found: "SimpleQueue[tuple[int, float]]"
) -> None:
    """Do configurations for a while; say how many, and for which share of the time it trained."""
    site = Site(device="cpu", data=None, cache=Path(tempfile.gettempdir()))
    engine, trainer = open_engine(url), Sleeping(site, cycle_s)
    row = catalog.find(engine, STUDY.name)
    worker = Worker(engine, row, STUDY, trainer=trainer, site=site, stop=Stop())

    def one() -> None:
        claim = worker.queue.claim()
        assert claim is not None, "too few waiting configurations"
        worker._perform(claim)

    one()
    gate.wait()
    trainer.trained_s, n, began = 0.0, 0, time.perf_counter()
    while time.perf_counter() - began < for_s:
        one()
        n += 1
    took = time.perf_counter() - began
    found.put((n, trainer.trained_s / took))


def measure(url: URL, *, workers: int, cycle_s: float, for_s: float) -> Measured:
    """Let `workers` work for a while, all at once, and count their connections meanwhile."""
    of_this_process = count_connections(url)
    context = multiprocessing.get_context("fork")
    gate, found = context.Barrier(workers + 1), context.SimpleQueue()
    processes = [
        context.Process(target=work, args=(url, cycle_s, for_s, gate, found))
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    gate.wait()
    connections = 0
    while any(process.is_alive() for process in processes):
        connections = max(connections, count_connections(url) - of_this_process)
        time.sleep(0.5)
    counts, shares = zip(*(found.get() for _ in processes), strict=True)
    return Measured(
        workers=workers,
        cycle_s=cycle_s,
        finished_per_s=round(sum(counts) / for_s, 2),
        trained=round(statistics.median(shares), 3),
        trained_low=round(min(shares), 3),
        trained_high=round(max(shares), 3),
        connections=connections,
    )


def count_connections(url: URL) -> int:
    """Return how many connections the database has."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    return int(query(url, asked)[0][0])


def sampler_ms(n_finished: int, *, repeats: int = 7) -> float:
    """Return the median CPU time of three suggests by TPE after `n_finished` configurations."""
    study = optuna.create_study(direction="maximize")
    scratch = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(n_finished):
        trial = scratch.ask()
        RANGES.suggest(trial)
        scratch.tell(trial, 0.5 + number % 97 / 250)
    study.add_trials(scratch.get_trials(deepcopy=False))
    times = []
    for seed in range(repeats):
        study.sampler = make_sampler("tpe", seed=seed, n_initial=10)
        trial = study.ask()
        began = time.process_time()
        RANGES.suggest(trial)
        times.append(time.process_time() - began)
        study.tell(trial, 0.5)
    return round(1000 * statistics.median(times), 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line of JSON per setting; return the exit code."""
    flags = Flags("cluster", __doc__)
    flags.add_argument("--workers", type=at_least(1), nargs="+", default=[4, 8, 16])
    flags.add_argument("--cycle-s", type=seconds, nargs="+", default=[0.0, 1.0, 10.0])
    flags.add_argument("--for-s", type=seconds, default=40.0)
    flags.add_argument("--finished", type=at_least(1), nargs="+", default=[100, 1000, 10000])
    return ended(partial(_measure_all, flags.parse_args(argv)))


def _measure_all(flags: argparse.Namespace) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    server = PostgresServer(fsync=True)
    server.start()
    try:
        for workers in flags.workers:
            for cycle_s in flags.cycle_s:
                with server.database() as url:
                    make_both(url)
                    fill(url, first=0, last=100, n_waiting=int(50 * flags.for_s))
                    found = measure(url, workers=workers, cycle_s=cycle_s, for_s=flags.for_s)
                    print(json.dumps(asdict(found)), flush=True)
    finally:
        server.remove()
    for n_finished in flags.finished:
        line = {"finished": n_finished, "sampler_ms": sampler_ms(n_finished)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
