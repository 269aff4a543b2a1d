"""What a configuration costs beside its training: ours, and bare Optuna doing the same reports.

    python -m benchmarks.overhead                   SQLite and PostgreSQL, 1 and 4 workers
    python -m benchmarks.overhead --finished 100    one size only

Ours is the product's own worker with a loop that trains nothing: claim, ask, three suggests, eight
epoch rows, finish, tell. Bare Optuna asks, suggests three times, reports eight values and tells,
with the same sampler, on the same connection settings, in the same database. The two take turns.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import optuna
from sqlalchemy import URL, make_url

from benchmarks.commands import DONE, NOT_AS_HOPED, Flags, at_least, ended
from search.params import Params
from search.stages.space import Ranges
from search.starting import catalog
from search.workers.stop import Stop
from search.workers.worker import Worker
from studies.database import close_optuna, open_engine, optuna_storage, prepare, transaction
from studies.definition import Screening, Space, Study
from studies.registry import Definition
from studies.tables import EpochRecord, StudyRow, WorkRow
from tests.postgres import PostgresServer
from tests.table_study import STEPS_PER_EPOCH, Table
from trainers.device import Site
from trainers.run import Run, RunResult
from trainers.table import epoch_row
from trainers.task import OwnLoop

EPOCHS = 8
RANGES = Ranges(others=Space().parameters({}), bracket=(0.05, 0.8), proposed_max_lr=0.2)
BARE = "bare"


class Nothing:
    """A loop that reports eight epochs, and trains nothing; it sleeps for `cycle_s`, from half of
    that to half more."""

    def __init__(self, site: Site, *, cycle_s: float = 0.0) -> None:
        self.site, self.cycle_s = site, cycle_s

    def fit(self, run: Run) -> RunResult:
        """Report what a cycle reports."""
        nap_s = self.cycle_s * random.uniform(0.5, 1.5) / EPOCHS
        for step, lr in enumerate(run.plan.lrs()):
            run.report(step, 1.0, lrs=[lr])
            if (step + 1) % STEPS_PER_EPOCH == 0:
                time.sleep(nap_s)
                run.epoch(epoch_row((step + 1) // STEPS_PER_EPOCH, lr))
        return RunResult(
            score=0.5 + run.seed % 1000 / 2500,
            outcome="completed",
            n_steps=run.plan.total_steps,
            n_images=10,
            seconds=0.0,
        )


STUDY = Study(
    name="ours",
    task=OwnLoop(factory=Table, batch_size=10, steps_per_epoch=STEPS_PER_EPOCH),
    screening=Screening(n_trials=2, epochs=EPOCHS),
    diverged_value=0.1,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Milliseconds per configuration over all workers, and the ratio of the two by round."""

    database: str
    finished: int
    workers: int
    ours_ms: float
    bare_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


def make_both(url: URL) -> None:
    """Store an empty study of each kind; ours stands in its search."""
    engine = open_engine(url)
    prepare(engine)
    row = catalog.find_or_create(
        engine, Definition(STUDY, "", ""), name=STUDY.name, seed=None, n_trials=None
    )
    with transaction(engine) as session:
        stored = session.get_one(StudyRow, row.id)
        stored.stage = "search"
        stored.bracket_low, stored.bracket_high = RANGES.bracket
        stored.edge = stored.proposed_max_lr = 0.2
        for sweep in session.query(WorkRow):
            sweep.state = "done"
    engine.dispose()
    storage = optuna_storage(url)
    optuna.create_study(storage=storage, study_name=BARE, direction="maximize")
    close_optuna(storage)


def fill(url: URL, *, first: int, last: int, n_waiting: int) -> None:
    """Store finished configurations `first`..`last` - 1 on both sides, and waiting ones."""
    engine = open_engine(url)
    study_id = catalog.find(engine, STUDY.name).id
    storage = optuna_storage(url)
    ours, bare = (
        optuna.load_study(study_name=name, storage=storage) for name in (STUDY.name, BARE)
    )
    sampler = optuna.samplers.RandomSampler(seed=first)
    points = []
    scratch = optuna.create_study(sampler=sampler, direction="maximize")
    for number in range(first, last):
        trial = scratch.ask()
        params = RANGES.suggest(trial)
        scratch.tell(trial, 0.5 + number % 97 / 250)
        points.append((number, params))
    done = scratch.get_trials(deepcopy=False)
    reported = dict.fromkeys(range(1, EPOCHS + 1), 0.5)
    for (slot, _), trial in zip(points, done, strict=True):
        parts = {
            "params": trial.params,
            "distributions": trial.distributions,
            "value": trial.value,
        }
        attributes = {"slot": slot, "worker": "host:1:a", "device": "cpu", "outcome": "completed"}
        ours.add_trial(optuna.create_trial(**parts, user_attrs=attributes))
        bare.add_trial(optuna.create_trial(**parts, intermediate_values=reported))
    close_optuna(storage)
    with transaction(engine) as session:
        session.add_all(finished_row(study_id, slot, params) for slot, params in points)
        session.flush()
        for row in session.query(WorkRow).where(WorkRow.slot >= first, WorkRow.stage == "search"):
            session.add_all(epoch_record(row.id, n + 1) for n in range(EPOCHS))
        session.query(WorkRow).where(WorkRow.state == "waiting").delete()
        session.add_all(
            WorkRow(study_id=study_id, stage="search", round=0, epochs=EPOCHS, slot=last + n)
            for n in range(n_waiting)
        )
    engine.dispose()


def finished_row(study_id: str, slot: int, params: Params) -> WorkRow:
    """Return a configuration that ended and that Optuna knows of."""
    return WorkRow(
        study_id=study_id,
        stage="search",
        round=0,
        epochs=EPOCHS,
        slot=slot,
        state="done",
        told=True,
        trial_number=slot,
        score=0.5,
        outcome="completed",
        params=dict(params),
    )


def epoch_record(work_id: int, epoch: int) -> EpochRecord:
    """Return one stored epoch."""
    row = epoch_row(epoch, 0.1)
    return EpochRecord(work_id=work_id, **{name: getattr(row, name) for name in row.__slots__})


def ours_side(url: URL) -> Callable[[], None]:
    """Return what does one configuration as a worker of the product does it."""
    engine = open_engine(url)
    site = Site(device="cpu", data=None, cache=Path(tempfile.gettempdir()))
    row = catalog.find(engine, STUDY.name)
    worker = Worker(engine, row, STUDY, trainer=Nothing(site), site=site, stop=Stop())

    def one() -> None:
        claim = worker.queue.claim()
        assert claim is not None, "too few waiting configurations"
        worker._perform(claim)

    return one


def bare_side(url: URL) -> Callable[[], None]:
    """Return what does one configuration with Optuna alone."""
    study = optuna.load_study(
        study_name=BARE,
        storage=optuna_storage(url),
        sampler=optuna.samplers.TPESampler(seed=os.getpid()),
        pruner=optuna.pruners.NopPruner(),
    )

    def one() -> None:
        trial = study.ask()
        RANGES.suggest(trial)
        for epoch in range(1, EPOCHS + 1):
            trial.report(0.5, epoch)
        study.tell(trial, 0.5 + trial.number % 97 / 250)

    return one


def serve(side: Callable[[URL], Callable[[], None]], url: URL, gate: Barrier, n: int) -> None:
    """Do `n` configurations each time the gate opens, until it breaks."""
    one = side(url)
    one()
    try:
        while True:
            gate.wait()
            for _ in range(n):
                one()
            gate.wait()
    except threading.BrokenBarrierError:
        return
    except Exception:
        gate.abort()
        raise


def measure(url: URL, *, finished: int, workers: int, rounds: int, each: int) -> Measured:
    """Let both sides take turns, `rounds` times, `each` configurations per worker and turn."""
    context = multiprocessing.get_context("fork")
    gates = {side: context.Barrier(workers + 1) for side in (ours_side, bare_side)}
    processes = [
        context.Process(target=serve, args=(side, url, gate, each))
        for side, gate in gates.items()
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    times: dict[object, list[float]] = {side: [] for side in gates}
    for turn in range(rounds + 1):
        for side in sorted(gates, key=lambda s: s.__name__, reverse=turn % 2 == 1):
            gates[side].wait()
            began = time.perf_counter()
            gates[side].wait()
            times[side].append(time.perf_counter() - began)
    for gate in gates.values():
        gate.abort()
    for process in processes:
        process.join()
    ours, bare = (times[side][1:] for side in (ours_side, bare_side))
    ratios = sorted(a / b for a, b in zip(ours, bare, strict=True))
    per_ms = 1000 / (each * workers)
    return Measured(
        database=url.get_backend_name(),
        finished=finished,
        workers=workers,
        ours_ms=round(statistics.median(ours) * per_ms, 1),
        bare_ms=round(statistics.median(bare) * per_ms, 1),
        ratio=round(statistics.median(ratios), 2),
        ratio_low=round(ratios[0], 2),
        ratio_high=round(ratios[-1], 2),
    )


def sweep(url: URL, sizes: list[int], *, rounds: int, each: int) -> list[Measured]:
    """Measure at each number of finished configurations, with one and with four workers."""
    make_both(url)
    found, before = [], 0
    for size in sizes:
        waiting = 2 * 5 * (1 + each * (rounds + 2))
        fill(url, first=before, last=size, n_waiting=waiting)
        before = size + waiting
        for workers in (1, 4):
            found.append(measure(url, finished=size, workers=workers, rounds=rounds, each=each))
            print(json.dumps({n: getattr(found[-1], n) for n in Measured.__slots__}), flush=True)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line of JSON per setting; return 1 where the goal of 1.3 times is missed."""
    flags = Flags("overhead", __doc__)
    flags.add_argument("--finished", type=at_least(1), nargs="+", default=[100, 1000, 3000])
    flags.add_argument("--rounds", type=at_least(1), default=7)
    flags.add_argument("--each", type=at_least(1), default=5)
    flags.add_argument("--only", choices=["sqlite", "postgresql"])
    return ended(partial(_measure_all, flags.parse_args(argv)))


def _measure_all(flags: argparse.Namespace) -> int:
    pace = {"rounds": flags.rounds, "each": flags.each}
    found = []
    if flags.only != "postgresql":
        folder = tempfile.mkdtemp(prefix="onecycle-overhead-")
        found += sweep(make_url(f"sqlite:///{folder}/studies.db"), flags.finished, **pace)
    if flags.only != "sqlite":
        server = PostgresServer(fsync=True)
        server.start()
        try:
            with server.database() as url:
                found += sweep(url, flags.finished, **pace)
        finally:
            server.remove()
    return DONE if all(each.ratio <= 1.3 for each in found) else NOT_AS_HOPED


if __name__ == "__main__":
    sys.exit(main())
