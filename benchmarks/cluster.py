"""What a configuration costs the database, and how long a claim takes among a thousand workers.

    python -m benchmarks.cluster                             64, 256 and 1,000 clients
    python -m benchmarks.cluster --clients 8 --cycle-s 0     the capacity: nothing slept
    python -m benchmarks.cluster --sampler tpe --costs 10    what its dearest statements cost
    python -m benchmarks.cluster --clients 1000 --per-host 8 eight of a host, which beat together
    python -m benchmarks.cluster --waiting 1000              clients that wait for one run

Clients are threads of a few processes, and each is the product's own worker: look ahead, claim,
ask, heartbeats, eight epochs, finish, tell. Their loop sleeps instead of training. The clients of
a process share the connections of two pools, as those of a host do behind a pooler.

The server's CPU time is read from /proc, of all its processes. Its own statistics count
statements, round trips (BEGIN and COMMIT too; pings, which come only after a rest, are not seen),
rows and deadlocks. In the end every configuration must be claimed once, trained once, bound to one
trial and told.
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import optuna
from sqlalchemy import URL, Engine, create_engine, update

from benchmarks.commands import Flags, at_least, ended, seconds
from benchmarks.overhead import EPOCHS, RANGES, STUDY, Nothing, fill, make_both
from search.history.optuna_study import History
from search.history.samplers import make_sampler
from search.queue.heartbeat import Heartbeat
from search.queue.together import Gatherer
from search.queue.work import Queue
from search.starting import catalog
from search.workers.stop import Stop
from search.workers.worker import Worker
from studies.connections import engine_arguments
from studies.database import close_optuna, open_engine, transaction
from studies.definition import SAMPLERS, Screening, Study
from studies.tables import StudyRow
from tests.postgres import PostgresServer
from tests.rows import query
from trainers.device import Site

PROCESSES = len(os.sched_getaffinity(0))
CONNECTIONS = 12  # of each of the two pools of a process
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# 17 configurations a second: the load of 1,000 clients with cycles of a minute.
SETTINGS = ((64, 4.0), (256, 15.0), (1000, 60.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Of each configuration, unless the name says otherwise.

    `cores`: that the server kept busy. `capacity_per_s`: configurations a second that one core of
    the server would do. `load`: of the machine in the end, over a minute.
    """

    clients: int
    per_host: int
    cycle_s: float
    sampler: str
    finished: int
    configurations: int
    per_s: float
    server_cpu_ms: float
    capacity_per_s: float
    statements: float
    round_trips: float
    transactions: float
    rows_read: float
    claim_p50_ms: float
    claim_p99_ms: float
    claim_most_ms: float
    cores: float
    connections: int
    deadlocks: int
    wrong: int
    load: float


def study_with(sampler: str) -> Study:
    """Return the study that is searched."""
    screening = Screening(n_trials=2, epochs=EPOCHS, sampler=sampler)
    return Study(
        name=STUDY.name, task=STUDY.task, screening=screening, diverged_value=STUDY.diverged_value
    )


def serve(
    url: URL,
    study: Study,
    n: int,
    *,
    each: int,
    cycle_s: float,
    found: "SimpleQueue[list[float]]",
    per_host: int = 1,
) -> None:
    """Be `n` clients that do `each` configurations; give the seconds that every claim took.

    Those of a host, `per_host` each, beat together.
    """
    engine, storage = _pools(url)
    row = catalog.find(engine, study.name)
    times: list[float] = []
    hosts = [Gatherer(engine) if per_host > 1 else None for _ in range(0, n, per_host)]

    def client(number: int) -> None:
        # Spread over a cycle, so that they do not march in step.
        time.sleep(random.Random(f"{os.getpid()} {number}").uniform(0, cycle_s))
        worker = client_worker(engine, storage, row, study, cycle_s=cycle_s)
        worker.together = hosts[number // per_host]
        for _ in range(each):
            worker._look_ahead()
            began = time.perf_counter()
            claim = worker.queue.claim()
            times.append(time.perf_counter() - began)
            assert claim is not None, "too few waiting configurations"
            worker._perform(claim)
        storage.remove_session()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.put(times)
    engine.dispose()
    close_optuna(storage)


def _pools(url: URL) -> tuple[Engine, optuna.storages.RDBStorage]:
    """Return the connections that the clients of a process share, ours and Optuna's."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(
        url.render_as_string(hide_password=False),
        engine_kwargs=_pooled(url),
        skip_compatibility_check=True,
    )
    return create_engine(url, **_pooled(url)), storage


def _pooled(url: URL) -> dict[str, object]:
    pool = {"pool_size": CONNECTIONS, "max_overflow": 0, "pool_timeout": 300}
    return {**engine_arguments(url), **pool}


def client_worker(
    engine: Engine,
    storage: optuna.storages.BaseStorage,
    row: StudyRow,
    study: Study,
    *,
    cycle_s: float,
) -> Worker:
    """Return the product's worker with a loop that sleeps, over the pools of its process."""
    site = Site(device="cpu", data=None, cache=Path(tempfile.gettempdir()))
    trainer = Nothing(site, cycle_s=cycle_s)
    worker = Worker(engine, row, study, trainer=trainer, site=site, stop=Stop())
    worker.history = History(storage, name=row.name, study_id=row.id)
    return worker


def measure(
    server: PostgresServer,
    url: URL,
    *,
    clients: int,
    cycle_s: float,
    sampler: str,
    finished: int,
    each: int,
    per_host: int,
) -> Measured:
    """Let `clients` do `each` configurations and say what one of them cost."""
    query(url, "SELECT pg_stat_statements_reset()")
    before, cpu_s = _counters(url), server_cpu_s(server)
    began = time.perf_counter()
    times, connections = _all_clients(
        url, study_with(sampler), clients, each=each, cycle_s=cycle_s, per_host=per_host
    )
    took = time.perf_counter() - began
    cpu_s = server_cpu_s(server) - cpu_s
    after, n = _counters(url), clients * each
    assert len(times) == n, "clients failed"
    commits = after["xact_commit"] - before["xact_commit"]
    cuts = statistics.quantiles(times, n=100)
    own = "NOT IN ('BEGIN', 'COMMIT', 'ROLLBACK')"
    return Measured(
        clients=clients,
        per_host=per_host,
        cycle_s=cycle_s,
        sampler=sampler,
        finished=finished,
        configurations=n,
        per_s=round(n / took, 1),
        server_cpu_ms=round(1000 * cpu_s / n, 2),
        capacity_per_s=round(n / cpu_s, 1),
        statements=round(_calls(url, f"WHERE query {own}") / n, 1),
        round_trips=round(_calls(url) / n, 1),
        transactions=round(commits / n, 1),
        rows_read=round((after["tup_returned"] - before["tup_returned"]) / n),
        claim_p50_ms=round(1000 * statistics.median(times), 1),
        claim_p99_ms=round(1000 * cuts[98], 1),
        claim_most_ms=round(1000 * max(times), 1),
        cores=round(cpu_s / took, 2),
        connections=connections,
        deadlocks=after["deadlocks"] - before["deadlocks"],
        wrong=count_wrong(url, finished, n),
        load=round(os.getloadavg()[0], 1),
    )


def wait_in(url: URL, study: Study, n: int, *, for_s: float) -> None:
    """Be `n` workers that find nothing to do for so many seconds."""
    engine, storage = _pools(url)
    row = catalog.find(engine, study.name)

    def client() -> None:
        worker = client_worker(engine, storage, row, study, cycle_s=0.0)
        worker.stop = Stop(timeout_s=for_s)
        worker.work()

    threads = [threading.Thread(target=client) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    close_optuna(storage)


def measure_waiting(
    server: PostgresServer, url: URL, *, n: int, settle_s: float = 30.0, for_s: float = 60.0
) -> dict[str, float]:
    """Let `n` workers wait for the one run that another holds; say what that costs the server."""
    engine = open_engine(url)
    row = catalog.find(engine, STUDY.name)
    queue = Queue(engine, row, owner="holder", process=None)
    claim = queue.claim()
    assert claim is not None
    context = multiprocessing.get_context("spawn")
    shares = [(n + number) // PROCESSES for number in range(PROCESSES)]
    processes = [
        context.Process(
            target=wait_in,
            args=(url, study_with("qmc"), share),
            kwargs={"for_s": 2 * settle_s + for_s},
        )
        for share in shares
    ]
    with Heartbeat(queue, claim, beat_s=row.beat_s):
        for process in processes:
            process.start()
        time.sleep(settle_s)
        query(url, "SELECT pg_stat_statements_reset()")
        cpu_s, began = server_cpu_s(server), time.perf_counter()
        time.sleep(for_s)
        cpu_s, took = server_cpu_s(server) - cpu_s, time.perf_counter() - began
        round_trips = _calls(url)
        for process in processes:
            process.terminate()
            process.join()
    engine.dispose()
    return {
        "waiting": n,
        "cores": round(cpu_s / took, 3),
        "round_trips_per_s": round(round_trips / took),
        "load": round(os.getloadavg()[0], 1),
    }


def _all_clients(
    url: URL, study: Study, clients: int, *, each: int, cycle_s: float, per_host: int
) -> tuple[list[float], int]:
    """Return the seconds of all claims, and the most connections there were."""
    of_this_process = count_connections(url)
    context = multiprocessing.get_context("spawn")
    found: SimpleQueue[list[float]] = context.SimpleQueue()
    shares = [(clients + number) // PROCESSES for number in range(PROCESSES)]
    processes = [
        context.Process(
            target=serve,
            args=(url, study, share),
            kwargs={"each": each, "cycle_s": cycle_s, "found": found, "per_host": per_host},
        )
        for share in shares
    ]
    for process in processes:
        process.start()
    connections, times = 0, []
    while any(process.is_alive() for process in processes):
        connections = max(connections, count_connections(url) - of_this_process)
        while not found.empty():
            times += found.get()
        time.sleep(2)
    while not found.empty():
        times += found.get()
    return times, connections


def server_cpu_s(server: PostgresServer) -> float:
    """Return the CPU time of all processes of the server, those that have ended included."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # After the program's name: field 3 is the state, 4 the parent, 14 to 17 the times.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        own = int(folder.name) == server.pid
        if own or int(fields[1]) == server.pid:
            # Of a process itself, and of its children that were waited for.
            total += sum(int(ticks) for ticks in fields[11 : 15 if own else 13])
    return total / TICKS_PER_S


def count_wrong(url: URL, finished: int, n: int) -> int:
    """Return how many of `n` configurations were not claimed, bound, trained and told once."""
    right = query(
        url,
        f"""SELECT count(DISTINCT w.trial_number) FROM work w
        JOIN studies s ON s.study_name = '{STUDY.name}'
        JOIN trials t ON t.study_id = s.study_id AND t.number = w.trial_number
        JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'slot'
        JOIN trial_values v ON v.trial_id = t.trial_id AND v.value = w.score
        WHERE w.stage = 'search' AND w.slot >= {finished} AND w.state = 'done' AND w.told
        AND w.token = 1 AND t.state = 'COMPLETE' AND a.value_json = w.slot::text
        AND (SELECT count(*) FROM epoch e WHERE e.work_id = w.id) = {EPOCHS}
        AND (SELECT count(*) FROM trial_params p WHERE p.trial_id = t.trial_id) = 3""",
    )[0][0]
    claimed = query(url, f"SELECT count(*) FROM work WHERE slot >= {finished} AND token > 0")
    trials = query(
        url,
        "SELECT count(*) FROM trials JOIN studies USING (study_id) "
        f"WHERE study_name = '{STUDY.name}'",
    )
    return (
        abs(n - int(right)) + abs(n - int(claimed[0][0])) + abs(finished + n - int(trials[0][0]))
    )


def _counters(url: URL) -> dict[str, int]:
    names = ("xact_commit", "tup_returned", "deadlocks")
    asked = f"SELECT {', '.join(names)} FROM pg_stat_database WHERE datname = current_database()"
    return dict(zip(names, map(int, query(url, asked)[0]), strict=True))


_MINE = "JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()"


def _calls(url: URL, where: str = "") -> int:
    return int(query(url, f"SELECT sum(calls) FROM pg_stat_statements s {_MINE} {where}")[0][0])


def dearest(url: URL, n: int, *, most: int) -> list[dict[str, object]]:
    """Return the statements that took the server longest, by milliseconds of a configuration."""
    rows = query(
        url,
        f"""SELECT round((total_exec_time / {n})::numeric, 3), round(calls / {n}::numeric, 2),
        round((s.rows / {n}::numeric), 1), left(query, 300)
        FROM pg_stat_statements s {_MINE} ORDER BY total_exec_time DESC LIMIT {most}""",
    )
    return [
        {"ms": float(ms), "calls": float(calls), "rows": float(r), "statement": statement}
        for ms, calls, r, statement in rows
    ]


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
    flags.add_argument("--clients", type=at_least(1), nargs="+")
    flags.add_argument("--cycle-s", type=seconds, help="of all of them; else 17 finish a second")
    flags.add_argument("--each", type=at_least(1), default=3, help="configurations of a client")
    flags.add_argument(
        "--per-host", type=at_least(1), default=1, help="clients of a host, which beat together"
    )
    flags.add_argument("--sampler", choices=SAMPLERS, default="qmc")
    flags.add_argument("--finished", type=at_least(1), default=100, help="there are before")
    flags.add_argument("--costs", type=at_least(1), help="show so many statements")
    flags.add_argument(
        "--waiting", type=at_least(1), nargs="*", default=[], help="so many find no work"
    )
    flags.add_argument("--sampler-after", type=at_least(1), nargs="*", default=[])
    return ended(partial(_measure_all, flags.parse_args(argv)))


def _measure_all(flags: argparse.Namespace) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings = SETTINGS
    if flags.clients:
        known = dict(SETTINGS)
        settings = tuple((n, known.get(n, n / 17)) for n in flags.clients)
    server = PostgresServer(
        fsync=True, options="-c shared_preload_libraries=pg_stat_statements -c max_connections=200"
    )
    server.start()
    try:
        for n in flags.waiting:
            with server.database() as url:
                make_both(url)
                fill(url, first=0, last=flags.finished, n_waiting=1)
                _count_statements(url)
                print(json.dumps(measure_waiting(server, url, n=n)), flush=True)
        for clients, usual_s in () if flags.waiting else settings:
            cycle_s = usual_s if flags.cycle_s is None else flags.cycle_s
            _measure_one(server, flags, clients=clients, cycle_s=cycle_s)
    finally:
        server.remove()
    for n_finished in flags.sampler_after:
        line = {"finished": n_finished, "sampler_ms": sampler_ms(n_finished)}
        print(json.dumps(line), flush=True)


def _count_statements(url: URL) -> None:
    admin = open_engine(url)
    with transaction(admin) as session:
        session.connection().exec_driver_sql("CREATE EXTENSION pg_stat_statements")
        session.execute(update(StudyRow).values(exact=True))  # scores are equal: it would end
    admin.dispose()


def _measure_one(
    server: PostgresServer, flags: argparse.Namespace, *, clients: int, cycle_s: float
) -> None:
    with server.database() as url:
        make_both(url)
        fill(url, first=0, last=flags.finished, n_waiting=clients * (flags.each + 1))
        _count_statements(url)
        found = measure(
            server,
            url,
            clients=clients,
            cycle_s=cycle_s,
            sampler=flags.sampler,
            finished=flags.finished,
            each=flags.each,
            per_host=flags.per_host,
        )
        print(json.dumps(asdict(found)), flush=True)
        for line in dearest(url, found.configurations, most=flags.costs) if flags.costs else []:
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
