"""A stored study that starts again: asked for with --fresh, or since its study file was corrected.

Either removes the study and makes a new one under its name, so that whoever still works on the
old one can write nothing more.
"""

import logging
from dataclasses import replace

from sqlalchemy import Engine, func, select

from search.errors import UsageError
from search.queue.presence import at_work
from search.starting import catalog
from search.starting.asked import Asked
from search.starting.target import RANGE_TEST, Budget, Target
from search.text import shell_line
from studies.database import reading
from studies.errors import ProtocolError
from studies.protocol import has_seed_of_slots
from studies.states import RunState, Stage
from studies.tables import StudyRow, WorkRow

log = logging.getLogger(__name__)


def start_fresh(engine: Engine, name: str) -> None:
    """Remove a stored study that failed, or of which no cycle has finished; none is no error.

    Raises UsageError where cycles have finished, or workers are at work.
    """
    row = catalog.stored(engine, name)
    if row is None:
        return
    n_cycles = _finished_cycles(engine, row)
    if n_cycles and row.stage != Stage.FAILED:
        delete = shell_line("onecycle", "delete", "--study", name)
        raise UsageError(
            f"--fresh: {n_cycles} cycles of study {name!r} have finished, and would be lost; "
            f"start a new study with --name, or remove this one with `{delete}`"
        )
    if workers := at_work(engine, row):
        raise UsageError(f"--fresh: study {name!r} is worked on by {workers[0]}: end that first")
    catalog.remove(engine, row)
    log.warning("study %r is removed with its runs, and starts again", name)


def make_way(engine: Engine, row: StudyRow, asked: Asked, error: ProtocolError) -> Asked:
    """Remove a study that was made from another definition; return how the new one is asked for.

    Until a cycle of the search has finished, what the study file says now is a correction. Its
    range test is done again, for nothing tells which changes move it. Seed and number of trials
    stay as they were asked for. Raises `error` with the way on where that cannot be.
    """
    if _finished_cycles(engine, row):
        raise with_way_on(engine, row, error) from None
    if workers := at_work(engine, row):
        raise ProtocolError(
            f"{error}; or end {workers[0]} first: then this start replaces the definition"
        ) from None
    catalog.remove(engine, row)
    log.warning("%s", _said(row.name, error))  # a program and a notebook hear no less
    seed = row.seed if asked.seed is None else asked.seed
    return replace(asked, seed=seed, target=_target(row, asked))


def with_way_on(engine: Engine, row: StudyRow, error: ProtocolError) -> ProtocolError:
    """Return the error, and whether --fresh may start the study again."""
    may = row.stage == Stage.FAILED or not _finished_cycles(engine, row)
    return ProtocolError(f"{error}; or start it again with --fresh" if may else str(error))


def _finished_cycles(engine: Engine, row: StudyRow) -> int:
    with reading(engine) as session:
        done = select(func.count()).where(
            WorkRow.study_id == row.id,
            WorkRow.stage != Stage.RANGE_TEST,
            WorkRow.state == RunState.DONE,
        )
        return session.scalars(done).one()


def _said(name: str, error: ProtocolError) -> str:
    changed = str(error).partition("; put it back")[0]
    if "code of the study file" in changed:  # two digests say nothing
        changed = f"the study file of {name!r} was changed"
    return f"{changed}; no cycle had finished, so it starts again with its range test"


def _target(row: StudyRow, asked: Asked) -> Target:
    """Return what the old study was asked to do, where this start does not say."""
    if asked.target != Target():
        return asked.target
    if row.budget == RANGE_TEST:  # met by then: this start wants more
        return Target()
    if row.budget is not None:
        return Target(budget=Budget.parse(row.budget))
    # Before a search could end by itself, every number was exact.
    is_exact = "screening.exact" in row.declared or has_seed_of_slots(row.declared)
    said = row.declared.get("screening.n_trials"), is_exact
    return Target() if said == (str(row.n_trials), row.exact) else Target(n_trials=row.n_trials)
