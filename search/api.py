"""The product as a library: run() is what the command line calls."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from search.errors import UsageError
from search.final.start import train as train
from search.history.samplers import check_installed
from search.kernel import in_notebook
from search.results.result import StudyResult, load_result
from search.stages.range_test import measured_at_all, with_stored_range_test
from search.starting import catalog, slurm
from search.starting.asked import Asked, asked_of, check_counts, definition_of
from search.starting.beats import piped
from search.starting.cost import Started, estimate, load_task, warm_up
from search.starting.following import catch_up, followed
from search.starting.here import leave, stop_at_end_of_stdin, work_here
from search.starting.opening import opened, settle_ended
from search.starting.renewal import make_way, start_fresh
from search.starting.slurm import Batch, batch_script
from search.starting.start import (
    Watch,
    check_not_begun,
    facts_of,
    has_ended,
    stored,
    work_on,
)
from search.starting.target import RANGE_TEST, Target, n_trials_of
from search.starting.trackers import ALLOWED, trackers_of
from search.starting.travel import unpacked
from search.workers.patience import START_PATIENCE_S, Patience
from search.workers.stop import Stop
from studies.counts import counted_as_stored, counted_now
from studies.database import reading
from studies.definition import Study
from studies.errors import ProtocolError
from studies.kept import with_stored_sampler
from studies.protocol import compare, declared
from studies.registry import Definition, load
from studies.states import Stage
from studies.tables import StudyRow
from studies.urls import POSTGRESQL_FORM, masked_text, sqlite_file, storage_url
from trainers.sweeps.result import RangeTestResult

log = logging.getLogger(__name__)


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
    fresh: bool = False,
    track: Iterable[str] | None = None,
    progress: bool | None = None,
    watch: Watch | None = None,
) -> StudyResult:
    """Bring a study to its end, from wherever it stands, and return its result.

    `study` is a bundled name, the path of a study file, or a Study made in this program. More
    than one worker are processes, to which such a Study travels by cloudpickle, with the functions
    and classes of a notebook. `workers=None` takes one per GPU, on a CPU one per core.
    `trials` is the number of configurations, or "+20" for more of them in a stored study, which
    are then confirmed with fresh seeds; a `budget` ("200epochs", "2h") may stand for the number.
    That of "range-test" has no result: see range_test().
    `fresh` starts a study again that failed, or of which no cycle has finished.
    `track` are trackers that show the study, as ["mlflow:http://localhost:5000"]
    (docs/trackers.md); None takes those of ONECYCLE_TRACK.
    A database that does not answer is waited for, `wait_s` at most; then DatabaseUnreachableError
    is raised. `progress` shows the work: in a notebook in one output of the cell, elsewhere on
    stderr. By default a notebook shows it and a program, whose stderr is its own, does not.
    `watch` shows it your way.
    Raises UserError for what the user must fix, NoResultError when the study ended without a
    usable result, GivenBackError when `timeout_min` or a signal ended this start early, and
    KeyboardInterrupt after Ctrl-C; in the last two cases the same call resumes later.
    """
    asked = asked_of(
        definition_of(study),
        name=name,
        storage=storage,
        trials=trials,
        budget=budget,
        seed=seed,
        device=device,
        data=data,
        workers=workers,
        timeout_min=timeout_min,
        wait_s=wait_s,
        fresh=fresh,
        track=track,
    )
    if asked.target.only is not None:
        raise UsageError(
            f"budget={budget!r}: run() returns the result of a search; range_test() makes the "
            "range test alone, and returns what it proposes"
        )
    with brought_to_end(asked, watch=watch or _watch(progress)) as (engine, row):
        return load_result(engine, row.name)


@contextmanager
def brought_to_end(
    asked: Asked, *, watch: Watch | None = None
) -> Iterator[tuple[Engine, StudyRow]]:
    """Bring a study to its end as run() does; give its database, still open, and its row.

    A budget of the range test alone ends before the search, in a study that has not begun it.
    """
    stop = asked.stop()
    patiently = Patience(stop, seconds=asked.wait_s)
    with stop.on_signals(), opened(asked.storage, make=True, patiently=patiently) as engine:
        if asked.fresh:
            start_fresh(engine, asked.name)
        row, asked = stored(engine, asked)
        only = asked.target.only
        if only is not None and row is not None:
            check_not_begun(engine, row)
        if row is None or (row.stage == only if only else not has_ended(engine, row)):
            row = work_on(engine, asked, row, stop=stop, watch=watch, only=only)
        else:
            catch_up(engine, row.name, asked.track, stop)
        settle_ended(engine, row)
        yield engine, row


def range_test(
    study: str | Path | Study | Definition,
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
    track: Iterable[str] | None = None,
    progress: bool | None = None,
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
        definition_of(study),
        name,
        n_sweeps=sweeps,
        n_steps=steps,
        start_lr=start_lr,
        end_lr=end_lr,
    )
    if not definition.study.range_test.n_sweeps:
        raise UsageError(
            f"study {definition.study.name!r} skips its range test (n_sweeps=0) and searches its "
            "own range of max_lr: --sweeps 5 with another --name makes one"
        )
    asked = asked_of(
        definition,
        name=name,
        storage=storage,
        seed=seed,
        device=device,
        data=data,
        workers=workers,
        timeout_min=timeout_min,
        wait_s=wait_s,
        track=track,
    )
    stop, watch = asked.stop(), watch or _watch(progress)
    patiently = Patience(stop, seconds=wait_s)
    with stop.on_signals(), opened(storage, make=True, patiently=patiently) as engine:
        row = catalog.stored(engine, asked.name)
        if row is not None:
            definition = counted_as_stored(definition, row.declared)
            definition = with_stored_sampler(definition, row.declared)
            try:
                catalog.check_matches(row, definition, seed=seed, target=asked.target)
            except ProtocolError as error:
                asked, row = make_way(engine, row, asked, error), None
        if row is None:
            definition = counted_now(asked.definition, data)
        asked = replace(asked, definition=definition, target=Target.parse(None, RANGE_TEST))
        if row is None or row.stage == Stage.RANGE_TEST:
            row = work_on(engine, asked, row, stop=stop, watch=watch, only=Stage.RANGE_TEST)
        else:
            catch_up(engine, row.name, asked.track, stop)
        with reading(engine) as session:
            return measured_at_all(session, row)


def _watch(progress: bool | None) -> Watch | None:
    """Return what shows the work where run() is called."""
    if in_notebook() and progress is not False:
        from search.views.notebook.progress import watch_in_cell

        return watch_in_cell()
    if progress:
        from search.views.terminal.progress import watched

        return watched
    return None


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
    asked = asked_of(
        definition_of(study),
        name=name,
        trials=trials,
        budget=budget,
        seed=seed,
        device=device,
        data=data,
        workers=workers,
        timeout_min=timeout_min,
    )
    return costed(asked)


def costed(asked: Asked) -> Started:
    """Return what a new study would cost here, as it was asked for; nothing is stored."""
    if asked.target.more:
        raise UsageError(
            f"--trials +{asked.target.more}: a dry run is of a new study; give its number"
        )
    asked = replace(asked, definition=counted_now(asked.definition, asked.data))
    trainer, site = load_task(asked.definition, None, device=asked.device, data=asked.data)
    pace = warm_up(trainer, asked.study)
    n_trials = n_trials_of(asked.target, asked.study, site, pace=pace, workers=asked.workers)
    exact = asked.study.screening.exact or asked.target.n_trials is not None
    row = StudyRow(name=asked.name, n_trials=n_trials, exact=exact)
    return estimate(
        row,
        asked.definition,
        trainer,
        site,
        pace=pace,
        workers=asked.workers,
        only=asked.target.only,
    )


def submit(
    study: str | Path | Study | Definition,
    batch: Batch,
    *,
    storage: str | None = None,
    name: str | None = None,
    trials: int | str | None = None,
    seed: int | None = None,
    data: Path | None = None,
    track: Iterable[str] | None = None,
) -> str | None:
    """Store a study and submit workers on it to Slurm; return the job's id.

    None where the study has ended already: nothing is submitted then. Torch is not needed here,
    and the data only where a folder says how many images there are. See run() for the other
    parameters and for what is raised.
    """
    asked = asked_of(
        definition_of(study),
        name=name,
        storage=storage,
        trials=trials,
        seed=seed,
        data=data,
        track=track,
    )
    slurm.check_installed()
    url = storage_url(storage)
    if sqlite_file(url) is not None:
        raise UsageError(
            f"storage {masked_text(url)}: workers on other hosts cannot reach a SQLite file; "
            f"use {POSTGRESQL_FORM}"
        )
    check_installed(asked.study.screening.sampler)
    with opened(storage, make=True) as engine:
        row, asked = stored(engine, asked)
        if row is not None and row.budget == RANGE_TEST:
            n_trials = asked.target.n_trials or row.n_trials
            exact = asked.target.n_trials is not None
            row = catalog.retarget(engine, row, n_trials=n_trials, budget=None, exact=exact)
        if row is None:
            row = catalog.find_or_create(
                engine,
                asked.definition,
                name=asked.name,
                seed=seed,
                n_trials=asked.target.n_trials,
                target=asked.target,
            )
        if has_ended(engine, row):
            load_result(engine, row.name)
            return None
    script = batch_script(asked.name, batch, data=data)
    return slurm.submit_script(
        script, storage=url.render_as_string(hide_password=False), track=asked.track
    )


def submitted_script(
    study: str | Path | Study | Definition,
    batch: Batch,
    *,
    storage: str | None = None,
    name: str | None = None,
    trials: int | str | None = None,
    seed: int | None = None,
    data: Path | None = None,
    track: Iterable[str] | None = None,
) -> str:
    """Return the batch script that submit() would submit; nothing is stored."""
    asked = asked_of(
        definition_of(study),
        name=name,
        storage=storage,
        trials=trials,
        seed=seed,
        track=track,
    )
    return batch_script(asked.name, batch, data=data)


def join(
    name: str,
    *,
    storage: str | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    timeout_min: float | None = None,
    wait_s: float = START_PATIENCE_S,
    track: Iterable[str] | None = None,
    until_stdin_closes: bool = False,
    only: Stage | None = None,
    definition_fd: int | None = None,
    beats_fd: int | None = None,
) -> None:
    """Work on a stored study in this process until it, or `only` one stage of it, has ended.

    `definition_fd` is an open file with the Study object of the program that started this one,
    `beats_fd` a pipe to it for beats.
    See run() for what is raised.
    """
    check_counts(timeout_min=timeout_min, wait_s=wait_s)
    # Whoever started this one as one of several follows the study for all of them.
    trackers = () if until_stdin_closes else trackers_of(track)
    stop = Stop(timeout_s=None if timeout_min is None else 60 * timeout_min)
    patiently = Patience(stop, seconds=wait_s)
    if until_stdin_closes:  # started by a search that had its database a moment ago
        sys.path.append(str(Path.cwd()))  # at the end: what lies there must not hide a package
        stop_at_end_of_stdin(stop)
        patiently = Patience(stop)
    with stop.on_signals(), opened(storage, patiently=patiently) as engine:
        row = patiently(catalog.find, engine, name)
        if not row.stage.is_end:
            definition = _stored_definition(row, definition_fd)
            check_installed(definition.study.screening.sampler)
            trainer, site = load_task(definition, row, device=device, data=data)
            patiently(catalog.resolve, engine, row, facts_of(trainer))
            row = patiently(catalog.measure_diverged_value, engine, row, definition.study, trainer)
            with followed(engine, row.name, trackers, stop):
                ended = work_here(
                    engine,
                    row,
                    definition,
                    trainer=trainer,
                    site=site,
                    stop=stop,
                    only=only,
                    together=piped(beats_fd, row),
                )
                leave(row, ended, site=site, stop=stop, only=only)
        else:
            catch_up(engine, row.name, trackers, stop)
        if patiently(catalog.find, engine, name).stage == Stage.FAILED:
            load_result(engine, name)


def _stored_definition(row: StudyRow, definition_fd: int | None) -> Definition:
    """Load what a stored study was made from; raise UserError where that is not available."""
    if definition_fd is not None:
        definition = unpacked(definition_fd)
    elif row.spec:
        definition = load(row.spec)
    else:
        raise UsageError(
            f"study {row.name!r} was made from a Study object of another program: "
            "only that program can resume it"
        )
    definition = with_stored_range_test(definition, row)
    compare(row.name, row.declared, declared(definition.study, definition.source))
    return definition


def send(
    name: str,
    to: Iterable[str] | None,
    *,
    storage: str | None = None,
    follow: bool = False,
    until_stdin_closes: bool = False,
    say: Callable[[str], None] = log.info,
) -> None:
    """Bring trackers up to date with a stored study, finished or not.

    `to` are texts as ["tensorboard:runs", "mlflow:http://localhost:5000"] (docs/trackers.md);
    what a tracker has is not sent again. `follow` stays until the study has ended. `say` is told a
    line for each tracker.
    Raises UserError for what the user must fix, and GivenBackError where a tracker is away.
    """
    from search.tracking.sync import bring_up_to_date, follow_study

    trackers = trackers_of(to, flag="--to")
    if not trackers:
        raise UsageError(f"--to is needed: where is study {name!r} to be sent? {ALLOWED}")
    stop = Stop()
    if until_stdin_closes:
        stop_at_end_of_stdin(stop)
    with stop.on_signals(), opened(storage) as engine:
        row = catalog.find(engine, name)
        if follow:
            follow_study(
                engine,
                row,
                trackers,
                stop=stop,
                say=say,
                until_ended=not until_stdin_closes,
                # An empty line shows whoever started this one that it gets on.
                moved=partial(say, "") if until_stdin_closes else lambda: None,
            )
            return
        for tracker in trackers:
            say(bring_up_to_date(engine, row, tracker))
