"""The product as a library: run() is what the command line calls."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import URL, Engine

from search import catalog
from search.errors import GivenBackError, UsageError
from search.patience import Patience
from search.plan import Started, devices, estimate, load_task, warm_up
from search.result import StudyResult, load_result
from search.samplers import check_installed
from search.stop import Stop
from search.target import Target
from search.work import ENDED, Queue
from studies.database import masked_text, open_engine, prepare, sqlite_file, storage_url
from studies.definition import Study, check_name
from studies.errors import UnknownStudyError
from studies.protocol import compare, declared
from studies.registry import Definition, load
from studies.tables import StudyRow
from studies.upgrade import Upgraded
from studies.upgrade import upgrade as upgrade_tables
from trainers.device import Site, cache_folder
from trainers.run import Trainer

log = logging.getLogger(__name__)

Watch = Callable[[Engine, Started], AbstractContextManager[object]]


def run(
    study: str | Path | Study,
    *,
    storage: str | None = None,
    name: str | None = None,
    workers: int | None = 1,
    trials: int | str | None = None,
    budget: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    timeout_min: float | None = None,
    watch: Watch | None = None,
) -> StudyResult:
    """Bring a study to its end, from wherever it stands, and return its result.

    `study` is a bundled name, the path of a study file, or a Study made in this program (then
    with one worker, in this process). `workers=None` takes one per GPU, on a CPU one per core.
    `trials` is the number of configurations, or "+20" for more of them in a stored study, which
    are then confirmed with fresh seeds; a `budget` ("200epochs", "2h") may stand for the number.
    Raises UserError for what the user must fix, NoResultError when the study ended without a
    usable result, GivenBackError when `timeout_min` or a signal ended this start early, and
    KeyboardInterrupt after Ctrl-C; in the last two cases the same call goes on later.
    """
    definition = _definition(study)
    name = _checked_name(definition.study.name if name is None else name)
    _check_counts(workers=workers, seed=seed, timeout_min=timeout_min)
    target = Target.parse(trials, budget)
    workers = _possible_workers(definition, workers)
    stop = Stop(timeout_s=None if timeout_min is None else 60 * timeout_min)
    with stop.on_signals(), opened(storage, make=True) as engine:
        row = catalog.find_matching(engine, definition, name=name, seed=seed, target=target)
        if target.more:
            row = catalog.extend(engine, row, name=name, more=target.more)
            target = Target()
        if row is not None and row.stage in ENDED:
            where = masked_text(engine.url)
            log.info("study %r in %s is %s: nothing left to do", name, where, row.stage)
            settle_ended(engine, row)
            return load_result(engine, name)
        check_installed(definition.study.screening.sampler)
        trainer, site = load_task(definition, row, device=device, data=data)
        rate = warm_up(trainer, definition.study)
        facts = facts_of(trainer)
        n_trials = n_trials_of(target, definition.study, site, rate=rate, workers=workers)
        row = catalog.find_or_create(
            engine, definition, name=name, seed=seed, target=target, n_trials=n_trials
        )
        catalog.resolve(engine, row, facts)
        started = estimate(row, definition, trainer, site, rate=rate, workers=workers)
        with watch(engine, started) if watch is not None else nullcontext():
            ended = _worked(engine, started, stop)
        _raise_if_stopped(ended, stop)
        settle_ended(engine, catalog.find(engine, name))
        return load_result(engine, name)


def n_trials_of(
    target: Target, study: Study, site: Site, *, rate: float, workers: int | None
) -> int:
    """Return how many configurations a new study tries; one worker trains `rate` images per s."""
    if target.budget is not None:
        n_devices = devices(site.device)
        images_per_s = min(workers or n_devices, n_devices) * rate
        return target.budget.n_trials(study, images_per_s=images_per_s)
    return study.screening.n_trials if target.n_trials is None else target.n_trials


def settle_ended(engine: Engine, row: StudyRow) -> None:
    """Do once for an ended study what waits for its end, and what a killed worker left undone."""
    catalog.remove_checkpoints(row.id, cache_folder())
    queue = Queue(engine, row, owner="", process=None)
    unexplained = row.stage == "finished" and "importances" not in (row.result or {})
    if queue.untold() or unexplained:
        from search.history import Histories
        from search.settle import repair

        histories = Histories.stored(engine.url, row)
        try:
            repair(queue, histories)
            if unexplained:
                shares = histories.of(row.lengths[0]).importances()
                catalog.add_to_result(engine, row, importances=shares)
        finally:
            histories.close()


@contextmanager
def opened(
    storage: str | None, *, make: bool = False, patiently: Patience | None = None
) -> Iterator[Engine]:
    """Open the study database, waited for by `patiently`; its connections end with the block.

    Raises UnknownStudyError where the SQLite file is not there and `make` does not ask for it.
    """
    url = storage_url(storage)
    if not make:
        _check_is_there(url)
    engine = open_engine(url)
    try:
        (patiently or Patience(Stop(), seconds=0))(prepare, engine)
        yield engine
    finally:
        engine.dispose()


def _check_is_there(url: URL) -> None:
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise UnknownStudyError(f"no database at {file}: no study is stored there yet")


def upgrade(storage: str | None) -> tuple[Upgraded, ...]:
    """Bring the tables of a stored database to this version, ours and Optuna's.

    Raises UnknownStudyError where the SQLite file is not there.
    """
    url = storage_url(storage)
    _check_is_there(url)
    return upgrade_tables(url)


def facts_of(trainer: Trainer) -> dict[str, str]:
    """Return what a loaded trainer says must be the same in all runs; empty if it says nothing."""
    found: dict[str, str] = getattr(trainer, "facts", dict)()
    return found


def _raise_if_stopped(ended: str, stop: Stop) -> None:
    if ended == "stopped" and stop.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if ended == "stopped":
        reason = "out of time" if stop.out_of_time() else "asked to stop"
        raise GivenBackError(f"{reason}: work given back; the same command goes on")
    if ended == "renew":
        raise GivenBackError(
            "out of memory: only a new process has all of it; the same command goes on"
        )


def _worked(engine: Engine, started: Started, stop: Stop) -> str:
    """Work here, or in worker processes; also when memory ran out here, for they are renewed."""
    from search.launch import run_workers

    if started.n_workers > 1:
        return run_workers(engine, started, stop)
    ended = _worked_here(
        engine, started.row, started.definition, started.trainer, started.site, stop
    )
    if ended == "renew" and started.definition.spec:
        return run_workers(engine, started, stop)
    return ended


def _worked_here(
    engine: Engine, row: StudyRow, definition: Definition, trainer: Trainer, site: Site, stop: Stop
) -> str:
    from search.worker import Worker

    return Worker(engine, row, definition.study, trainer=trainer, site=site, stop=stop).work()


def _definition(study: str | Path | Study) -> Definition:
    if isinstance(study, Study):
        return Definition(study, "", "")
    return load(str(study))


def _checked_name(name: str) -> str:
    try:
        check_name(name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return name


def _possible_workers(definition: Definition, workers: int | None) -> int | None:
    if definition.spec:
        return workers
    if workers is not None and workers > 1:
        raise UsageError(
            f"workers={workers}: a Study object is known to this process only; "
            "pass workers=1, or the path of a study file"
        )
    return 1


def _check_counts(
    *,
    workers: int | None = None,
    seed: int | None = None,
    timeout_min: float | None = None,
) -> None:
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    if seed is not None and not 0 <= seed < 2**63:
        raise UsageError(f"seed must lie between 0 and 2**63 - 1, got {seed}")
    if timeout_min is not None and not timeout_min > 0:
        raise UsageError(f"timeout-min must be above 0 minutes, got {timeout_min:g}")


def plan(
    study: str | Path | Study,
    *,
    trials: int | str | None = None,
    budget: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    data: str | Path | None = None,
) -> Started:
    """Return what a new study of this definition would cost here; nothing is stored."""
    definition = _definition(study)
    _check_counts(workers=workers)
    target = Target.parse(trials, budget)
    if target.more:
        raise UsageError(f"--trials {trials}: a dry run is of a new study; give its number")
    workers = _possible_workers(definition, workers)
    trainer, site = load_task(definition, None, device=device, data=data)
    rate = warm_up(trainer, definition.study)
    n_trials = n_trials_of(target, definition.study, site, rate=rate, workers=workers)
    row = StudyRow(name=definition.study.name, n_trials=n_trials)
    return estimate(row, definition, trainer, site, rate=rate, workers=workers)


def join(
    name: str,
    *,
    storage: str | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    timeout_min: float | None = None,
    until_stdin_closes: bool = False,
) -> None:
    """Work on a stored study in this process until it has ended; see run() for what is raised."""
    _check_counts(timeout_min=timeout_min)
    stop = Stop(timeout_s=None if timeout_min is None else 60 * timeout_min)
    patiently = Patience(stop, seconds=0)
    if until_stdin_closes:  # started by a search that had its database a moment ago
        threading.Thread(target=_stop_at_end_of_stdin, args=(stop,), daemon=True).start()
        patiently = Patience(stop)
    with stop.on_signals(), opened(storage, patiently=patiently) as engine:
        row = patiently(catalog.find, engine, name)
        if row.stage not in ENDED:
            if not row.spec:
                raise UsageError(
                    f"study {name!r} was made from a Study object of another program: "
                    "only that program can go on with it"
                )
            definition = load(row.spec)
            compare(name, row.declared, declared(definition.study, definition.source))
            check_installed(definition.study.screening.sampler)
            trainer, site = load_task(definition, row, device=device, data=data)
            patiently(catalog.resolve, engine, row, facts_of(trainer))
            ended = _worked_here(engine, row, definition, trainer, site, stop)
            _raise_if_stopped(ended, stop)
            catalog.remove_checkpoints(row.id, site.cache)
        if patiently(catalog.find, engine, name).stage == "failed":
            load_result(engine, name)


def _stop_at_end_of_stdin(stop: Stop) -> None:
    while os.read(sys.stdin.fileno(), 1024):  # unbuffered: a buffer's lock blocks the exit
        pass
    stop.ask()
