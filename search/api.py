"""The product as a library: run() is what the command line calls."""

import logging
import math
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.history.samplers import check_installed
from search.results.result import StudyResult, load_result
from search.stages.range_test import measured_at_all, with_stored_range_test
from search.starting import catalog, slurm
from search.starting.cost import Started, estimate, load_task, warm_up
from search.starting.opening import opened, settle_ended
from search.starting.slurm import MOST_WORKERS, Batch, batch_script
from search.starting.start import (
    Asked,
    Watch,
    facts_of,
    has_ended,
    raise_if_stopped,
    stored,
    work_here,
    work_on,
)
from search.starting.target import Target, n_trials_of
from search.workers.patience import START_PATIENCE_S, Patience
from search.workers.stop import Stop
from studies.database import reading
from studies.definition import Study, check_name
from studies.protocol import compare, declared
from studies.registry import Definition, load
from studies.states import Stage
from studies.tables import StudyRow
from studies.urls import POSTGRESQL_FORM, masked_text, sqlite_file, storage_url
from trainers.sweeps.result import RangeTestResult

log = logging.getLogger(__name__)

MOST_MINUTES = 525_600


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
    wait_s: float = START_PATIENCE_S,
    watch: Watch | None = None,
) -> StudyResult:
    """Bring a study to its end, from wherever it stands, and return its result.

    `study` is a bundled name, the path of a study file, or a Study made in this program (then
    with one worker, in this process). `workers=None` takes one per GPU, on a CPU one per core.
    `trials` is the number of configurations, or "+20" for more of them in a stored study, which
    are then confirmed with fresh seeds; a `budget` ("200epochs", "2h") may stand for the number.
    A database that does not answer is waited for, `wait_s` at most; then DatabaseUnreachableError
    is raised. Raises UserError for what the user must fix, NoResultError when the study ended
    without a usable result, GivenBackError when `timeout_min` or a signal ended this start early,
    and KeyboardInterrupt after Ctrl-C; in the last two cases the same call resumes later.
    """
    definition = _definition(study)
    name = _checked_name(definition.study.name if name is None else name)
    _check_counts(workers=workers, seed=seed, timeout_min=timeout_min, wait_s=wait_s)
    target = Target.parse(trials, budget)
    workers = _possible_workers(definition, workers)
    stop = Stop(timeout_s=None if timeout_min is None else 60 * timeout_min)
    patiently = Patience(stop, seconds=wait_s)
    with stop.on_signals(), opened(storage, make=True, patiently=patiently) as engine:
        row, definition, target = stored(engine, definition, name=name, seed=seed, target=target)
        if row is not None and has_ended(engine, row):
            settle_ended(engine, row)
            return load_result(engine, name)
        asked = Asked(name, seed, target, device, data, workers)
        work_on(engine, definition, row, asked, stop=stop, watch=watch)
        settle_ended(engine, catalog.find(engine, name))
        return load_result(engine, name)


def range_test(
    study: str | Path | Study,
    *,
    storage: str | None = None,
    name: str | None = None,
    workers: int | None = 1,
    sweeps: int | None = None,
    steps: int | None = None,
    start_lr: float | None = None,
    end_lr: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    timeout_min: float | None = None,
    wait_s: float = START_PATIENCE_S,
    watch: Watch | None = None,
) -> RangeTestResult:
    """Do the range test of a study, its first stage, and return what it measured and says.

    It is stored: run() continues from there, and a range test that has ended is only read.
    `sweeps`, `steps` and the rates replace the study's own; that is another protocol, and takes a
    `name`.
    Of a study that searches batch sizes it is the one at the task's own, which holds the others.
    See run() for the other parameters and for what is raised, trainers.range_test.range_test for
    a model, optimizer and loader of your own.
    """
    definition = _swept_otherwise(
        _definition(study), name, n_sweeps=sweeps, n_steps=steps, start_lr=start_lr, end_lr=end_lr
    )
    name = _checked_name(definition.study.name if name is None else name)
    _check_counts(workers=workers, seed=seed, timeout_min=timeout_min, wait_s=wait_s)
    workers = _possible_workers(definition, workers)
    stop = Stop(timeout_s=None if timeout_min is None else 60 * timeout_min)
    patiently = Patience(stop, seconds=wait_s)
    with stop.on_signals(), opened(storage, make=True, patiently=patiently) as engine:
        row = catalog.find_matching(engine, definition, name=name, seed=seed, target=Target())
        if row is None or row.stage == Stage.RANGE_TEST:
            asked = Asked(name, seed, Target(), device, data, workers)
            work_on(engine, definition, row, asked, stop=stop, watch=watch, only=Stage.RANGE_TEST)
        with reading(engine) as session:
            return measured_at_all(session, catalog.find(engine, name))


def _swept_otherwise(definition: Definition, name: str | None, **given: Any) -> Definition:
    """Return the definition with the range test that was asked for."""
    settings = definition.study.range_test
    changed = {k: v for k, v in given.items() if v not in (None, getattr(settings, k))}
    if not changed:
        return definition
    if name is None:
        field, value = next(iter(changed.items()))
        flag = field.removeprefix("n_").replace("_", "-")
        raise UsageError(
            f"--{flag} {value:g}: the range test of study {definition.study.name!r} has "
            f"{getattr(settings, field):g}; another one needs a --name"
        )
    try:
        study = replace(definition.study, range_test=replace(settings, **changed))
    except ValueError as error:
        raise UsageError(str(error)) from None
    return replace(definition, study=study)


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
    wait_s: float = 0.0,
) -> None:
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"workers must be at least 1 and at most {MOST_WORKERS}, got {workers}")
    if seed is not None and not 0 <= seed < 2**63:
        raise UsageError(f"seed must lie between 0 and 2**63 - 1, got {seed}")
    if timeout_min is not None and not 0 < timeout_min <= MOST_MINUTES:
        raise UsageError(
            f"timeout-min must be above 0 minutes and at most {MOST_MINUTES:,} (a year), "
            f"got {timeout_min:g}"
        )
    if not 0 <= wait_s < math.inf:
        raise UsageError(f"wait-s must be at least 0 seconds, got {wait_s:g}")


def dry_run(
    study: str | Path | Study,
    *,
    trials: int | str | None = None,
    budget: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    name: str | None = None,
    seed: int | None = None,
    timeout_min: float | None = None,
) -> Started:
    """Return what a new study of this definition would cost here; nothing is stored.

    See run() for the parameters, all of which are checked, and for what is raised.
    """
    definition = _definition(study)
    name = _checked_name(definition.study.name if name is None else name)
    _check_counts(workers=workers, seed=seed, timeout_min=timeout_min)
    target = Target.parse(trials, budget)
    if target.more:
        raise UsageError(f"--trials {trials}: a dry run is of a new study; give its number")
    workers = _possible_workers(definition, workers)
    trainer, site = load_task(definition, None, device=device, data=data)
    rate = warm_up(trainer, definition.study)
    n_trials = n_trials_of(target, definition.study, site, rate=rate, workers=workers)
    row = StudyRow(name=name, n_trials=n_trials)
    return estimate(row, definition, trainer, site, rate=rate, workers=workers)


def submit(
    study: str | Path,
    batch: Batch,
    *,
    storage: str | None = None,
    name: str | None = None,
    trials: int | str | None = None,
    seed: int | None = None,
    data: Path | None = None,
) -> str | None:
    """Store a study and submit workers on it to Slurm; return the job's id.

    None where the study has ended already: nothing is submitted then. Neither torch nor the data
    is needed here. See run() for the other parameters and for what is raised.
    """
    definition, name, target = _submitted(study, name=name, trials=trials, seed=seed)
    slurm.check_installed()
    url = storage_url(storage)
    if sqlite_file(url) is not None:
        raise UsageError(
            f"storage {masked_text(url)}: workers on other hosts cannot reach a SQLite file; "
            f"use {POSTGRESQL_FORM}"
        )
    check_installed(definition.study.screening.sampler)
    with opened(storage, make=True) as engine:
        row, definition, target = stored(engine, definition, name=name, seed=seed, target=target)
        if row is None:
            row = catalog.find_or_create(
                engine, definition, name=name, seed=seed, n_trials=target.n_trials, target=target
            )
        if has_ended(engine, row):
            load_result(engine, name)
            return None
    script = batch_script(name, batch, data=data)
    return slurm.submit_script(script, storage=url.render_as_string(hide_password=False))


def submitted_script(
    study: str | Path,
    batch: Batch,
    *,
    name: str | None = None,
    trials: int | str | None = None,
    seed: int | None = None,
    data: Path | None = None,
) -> str:
    """Return the batch script that submit() would submit; nothing is stored."""
    _, name, _ = _submitted(study, name=name, trials=trials, seed=seed)
    return batch_script(name, batch, data=data)


def _submitted(
    study: str | Path, *, name: str | None, trials: int | str | None, seed: int | None
) -> tuple[Definition, str, Target]:
    """Return what is submitted: definition, name and target, all checked."""
    definition = _definition(study)
    _check_counts(seed=seed)
    name = _checked_name(definition.study.name if name is None else name)
    return definition, name, Target.parse(trials, None)


def join(
    name: str,
    *,
    storage: str | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    timeout_min: float | None = None,
    wait_s: float = START_PATIENCE_S,
    until_stdin_closes: bool = False,
    only: Stage | None = None,
) -> None:
    """Work on a stored study in this process until it, or `only` one stage of it, has ended.

    See run() for what is raised.
    """
    _check_counts(timeout_min=timeout_min, wait_s=wait_s)
    stop = Stop(timeout_s=None if timeout_min is None else 60 * timeout_min)
    patiently = Patience(stop, seconds=wait_s)
    if until_stdin_closes:  # started by a search that had its database a moment ago
        threading.Thread(target=_stop_at_end_of_stdin, args=(stop,), daemon=True).start()
        patiently = Patience(stop)
    with stop.on_signals(), opened(storage, patiently=patiently) as engine:
        row = patiently(catalog.find, engine, name)
        if not row.stage.is_end:
            definition = _stored_definition(row)
            check_installed(definition.study.screening.sampler)
            trainer, site = load_task(definition, row, device=device, data=data)
            patiently(catalog.resolve, engine, row, facts_of(trainer))
            ended = work_here(
                engine, row, definition, trainer=trainer, site=site, stop=stop, only=only
            )
            raise_if_stopped(ended, stop)
            if only is None:
                catalog.remove_checkpoints(row.id, site.cache)
        if patiently(catalog.find, engine, name).stage == Stage.FAILED:
            load_result(engine, name)


def _stored_definition(row: StudyRow) -> Definition:
    """Load what a stored study was made from; raise UserError where that is not available."""
    if not row.spec:
        raise UsageError(
            f"study {row.name!r} was made from a Study object of another program: "
            "only that program can resume it"
        )
    definition = with_stored_range_test(load(row.spec), row)
    compare(row.name, row.declared, declared(definition.study, definition.source))
    return definition


def _stop_at_end_of_stdin(stop: Stop) -> None:
    while os.read(sys.stdin.fileno(), 1024):  # unbuffered: a buffer's lock blocks the exit
        pass
    stop.ask()
