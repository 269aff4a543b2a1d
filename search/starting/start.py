"""One start of a study: its task loaded and timed, its work done here or in processes."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from sqlalchemy import Engine

from search.errors import UsageError
from search.history.samplers import check_installed
from search.stages.range_test import with_stored_range_test
from search.starting import catalog
from search.starting.asked import Asked
from search.starting.cost import Pace, Started, estimate, load_task, warm_up
from search.starting.following import followed
from search.starting.forked import Forked, forked
from search.starting.here import raise_if_stopped, work_as_started
from search.starting.renewal import make_way, with_way_on
from search.starting.target import RANGE_TEST, Target, n_trials_of
from search.starting.travel import can_travel
from search.workers.stop import Stop
from studies.counts import counted_as_stored, counted_now
from studies.errors import ProtocolError
from studies.kept import with_stored_sampler
from studies.states import Stage, WorkEnd
from studies.tables import StudyRow
from studies.urls import masked_text
from trainers.device import Site
from trainers.run import Trainer

log = logging.getLogger(__name__)

Watch = Callable[[Engine, Started], AbstractContextManager[object]]
"""Shows a study while it is worked on."""


def stored(engine: Engine, asked: Asked) -> tuple[StudyRow | None, Asked]:
    """Return the stored study, its target raised or made exact if that was asked for, and what is
    still asked: with the range test that is stored.

    None where there is none, or where it makes way for another definition. See
    catalog.check_matches(), catalog.extend() and renewal.make_way() for what is raised.
    """
    row, more = catalog.stored(engine, asked.name), asked.target.more
    if row is None:
        if more:
            raise UsageError(
                f"--trials +{more}: no study {asked.name!r} is stored yet; leave the + out"
            )
        return None, _counted(asked)
    as_stored = counted_as_stored(asked.definition, row.declared)
    as_stored = with_stored_sampler(as_stored, row.declared)
    if as_stored.spec:  # its code is compared: a changed file is seen
        as_stored = with_stored_range_test(as_stored, row)
    try:
        catalog.check_matches(row, as_stored, seed=asked.seed, target=asked.target)
    except ProtocolError as error:
        return None, _counted(make_way(engine, row, asked, error))
    asked = replace(asked, definition=as_stored)
    if asked.target.n_trials == row.n_trials and row.may_end_search:
        row = catalog.make_exact(engine, row)
    if more:
        row, asked = catalog.extend(engine, row, more=more), replace(asked, target=Target())
    return row, asked


def _counted(asked: Asked) -> Asked:
    return replace(asked, definition=counted_now(asked.definition, asked.data))


def check_not_begun(engine: Engine, row: StudyRow) -> None:
    """Raise UsageError where a study is past its range test, so that there is more to be told."""
    if row.stage == Stage.RANGE_TEST or row.stage.is_end or catalog.has_not_begun(engine, row):
        return
    raise UsageError(
        f"--budget {RANGE_TEST}: the search of study {row.name!r} has begun; leave --budget out, "
        "or start a new study with --name"
    )


def has_ended(engine: Engine, row: StudyRow) -> bool:
    """Whether a stored study has ended already, which is said."""
    if not row.stage.is_end:
        return False
    where = masked_text(engine.url)
    log.info("study %r in %s is %s: nothing left to do", row.name, where, row.stage)
    return True


def work_on(
    engine: Engine,
    asked: Asked,
    row: StudyRow | None,
    *,
    stop: Stop,
    watch: Watch | None,
    only: Stage | None = None,
) -> StudyRow:
    """Make the study if it is new, bring it, or `only` one stage, to its end; return its row."""
    check_installed(asked.study.screening.sampler)
    trainer, site = load_task(asked.definition, row, device=asked.device, data=asked.data)
    pace = warm_up(trainer, asked.study)
    facts = facts_of(trainer)
    if row is not None:
        try:
            catalog.resolve(engine, row, facts)
        except ProtocolError as error:
            raise with_way_on(engine, row, error) from None
    if row is None:
        row = catalog.find_or_create(
            engine,
            asked.definition,
            name=asked.name,
            seed=asked.seed,
            n_trials=_n_trials(None, asked, site, pace=pace),
            target=asked.target,
        )
        catalog.resolve(engine, row, facts)
    if row.budget == RANGE_TEST and asked.target.only is None:
        budget = None if asked.target.budget is None else asked.target.budget.text
        n_trials = _n_trials(row, asked, site, pace=pace)
        exact = asked.target.n_trials is not None
        row = catalog.retarget(engine, row, n_trials=n_trials, budget=budget, exact=exact)
    row = catalog.measure_diverged_value(engine, row, asked.study, trainer)
    started = estimate(
        row, asked.definition, trainer, site, pace=pace, workers=asked.workers, only=only
    )
    with (
        forked(engine, started) as workers,
        watch(engine, started) if watch is not None else nullcontext(),
        followed(engine, row.name, asked.track, stop),
    ):
        ended = _worked(engine, started, stop, workers)
    raise_if_stopped(ended, stop)
    return catalog.find(engine, asked.name)


def _n_trials(row: StudyRow | None, asked: Asked, site: Site, *, pace: Pace) -> int:
    """Return how many configurations a study tries that is new, or had its range test alone."""
    if row is not None and asked.target == Target():
        return row.n_trials
    return n_trials_of(asked.target, asked.study, site, pace=pace, workers=asked.workers)


def facts_of(trainer: Trainer) -> dict[str, str]:
    """Return what a loaded trainer says must be the same in all runs; empty if it says nothing."""
    found: dict[str, str] = getattr(trainer, "facts", dict)()
    return found


def _worked(engine: Engine, started: Started, stop: Stop, workers: Sequence[Forked]) -> WorkEnd:
    """Work here, or in worker processes; also when memory ran out here, for they are renewed."""
    from search.starting.launch import run_workers

    if started.n_workers > 1:
        return run_workers(engine, started, stop, workers)
    ended = work_as_started(engine, started, stop)
    if ended == WorkEnd.RENEW and can_travel(started.definition):
        return run_workers(engine, started, stop)
    return ended
