"""One start of a study: its task loaded and timed, its work done here or in processes."""

import logging
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from search.errors import GivenBackError
from search.history.samplers import check_installed
from search.stages.range_test import with_stored_range_test
from search.starting import catalog
from search.starting.cost import Started, estimate, load_task, warm_up
from search.starting.target import Target, n_trials_of
from search.workers.stop import Stop
from studies.registry import Definition
from studies.states import Stage, WorkEnd
from studies.tables import StudyRow
from studies.urls import masked_text
from trainers.device import Site
from trainers.run import Trainer

log = logging.getLogger(__name__)

Watch = Callable[[Engine, Started], AbstractContextManager[object]]
"""Shows a study while it is worked on."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one start was asked for."""

    name: str
    seed: int | None
    target: Target
    device: str
    data: str | Path | None
    workers: int | None


def stored(
    engine: Engine, definition: Definition, *, name: str, seed: int | None, target: Target
) -> tuple[StudyRow | None, Definition, Target]:
    """Return the stored study, its target raised if that was asked for; the definition, with the
    range test that is stored; and what is still asked.

    See catalog.find_matching() and catalog.extend() for what is raised.
    """
    found = catalog.stored(engine, name)
    if found is not None and definition.source:  # its code is compared: a changed file is refused
        definition = with_stored_range_test(definition, found)
    row = catalog.find_matching(engine, definition, name=name, seed=seed, target=target)
    if target.more:
        return catalog.extend(engine, row, name=name, more=target.more), definition, Target()
    return row, definition, target


def has_ended(engine: Engine, row: StudyRow) -> bool:
    """Whether a stored study has ended already, which is said."""
    if not row.stage.is_end:
        return False
    where = masked_text(engine.url)
    log.info("study %r in %s is %s: nothing left to do", row.name, where, row.stage)
    return True


def work_on(
    engine: Engine,
    definition: Definition,
    row: StudyRow | None,
    asked: Asked,
    *,
    stop: Stop,
    watch: Watch | None,
    only: Stage | None = None,
) -> None:
    """Make the study if it is new and bring it, or `only` one stage, to its end."""
    check_installed(definition.study.screening.sampler)
    trainer, site = load_task(definition, row, device=asked.device, data=asked.data)
    rate = warm_up(trainer, definition.study)
    facts = facts_of(trainer)
    n_trials = n_trials_of(asked.target, definition.study, site, rate=rate, workers=asked.workers)
    row = catalog.find_or_create(
        engine,
        definition,
        name=asked.name,
        seed=asked.seed,
        n_trials=n_trials,
        target=asked.target,
    )
    catalog.resolve(engine, row, facts)
    started = estimate(row, definition, trainer, site, rate=rate, workers=asked.workers, only=only)
    with watch(engine, started) if watch is not None else nullcontext():
        ended = _worked(engine, started, stop)
    raise_if_stopped(ended, stop)


def facts_of(trainer: Trainer) -> dict[str, str]:
    """Return what a loaded trainer says must be the same in all runs; empty if it says nothing."""
    found: dict[str, str] = getattr(trainer, "facts", dict)()
    return found


def raise_if_stopped(ended: WorkEnd, stop: Stop) -> None:
    if ended == WorkEnd.STOPPED and stop.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if ended == WorkEnd.STOPPED:
        reason = "out of time" if stop.out_of_time() else "asked to stop"
        raise GivenBackError(
            f"{reason}: work given back; the same command resumes it",
            start_again=stop.warned_of_limit(),
        )
    if ended == WorkEnd.RENEW:
        raise GivenBackError(
            "out of memory: only a new process has all of it; the same command resumes it",
            start_again=True,
        )


def _worked(engine: Engine, started: Started, stop: Stop) -> WorkEnd:
    """Work here, or in worker processes; also when memory ran out here, for they are renewed."""
    from search.starting.launch import run_workers

    if started.n_workers > 1:
        return run_workers(engine, started, stop)
    ended = work_here(
        engine,
        started.row,
        started.definition,
        trainer=started.trainer,
        site=started.site,
        stop=stop,
        only=started.only,
    )
    if ended == WorkEnd.RENEW and started.definition.spec:
        return run_workers(engine, started, stop)
    return ended


def work_here(
    engine: Engine,
    row: StudyRow,
    definition: Definition,
    *,
    trainer: Trainer,
    site: Site,
    stop: Stop,
    only: Stage | None,
) -> WorkEnd:
    from search.workers.worker import Worker

    return Worker(
        engine, row, definition.study, trainer=trainer, site=site, stop=stop, only=only
    ).work()
