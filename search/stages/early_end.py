"""A search that ends by itself, once one more cycle is expected to gain too little."""

import logging
from dataclasses import replace

from sqlalchemy import CursorResult, Engine, delete, func, select
from sqlalchemy.orm import Session

from search.queue.work import next_waiting
from search.stages.believed import belief_of
from search.stages.known import Known, known, n_ended
from search.stages.propose import is_enough, unvisited
from search.stages.search import cycles_of, next_slot, work_of
from studies.answer import SearchEnd
from studies.database import reading, transaction
from studies.definition import Study
from studies.states import RunState, Stage
from studies.tables import StudyRow, WorkRow

log = logging.getLogger(__name__)


def end_if_enough(
    engine: Engine, study_id: str, study: Study, *, before: Known | None = None
) -> Known | None:
    """Remove what nobody has claimed of a search whose next cycle is expected to gain too little.

    Any worker calls this before it claims. It does nothing while a run that had an owner waits:
    a worker that was killed in mid-cycle then decides on what it would have known without that.
    `before` is what was known earlier. Return what is known of a search that goes on; None where
    nothing was read.
    """
    while True:
        with reading(engine) as session:
            # The run before the study: where the search opens in between, its range is read too.
            next_one = select(WorkRow).where(WorkRow.id == next_waiting(study_id))
            waiting = session.scalars(next_one).first()
            if waiting is None or not _is_new(waiting):
                return None
            row = session.get_one(StudyRow, study_id)
            if not row.may_end_search:
                return None
            seen = known(session, row, study, slot=waiting.slot, before=before)
        gain = is_enough(seen.belief, study.screening, pending=seen.pending)
        if gain is None:
            return seen
        if _end(engine, study_id, gain=gain, n_seen=seen.n_ended):
            return None


def add_unvisited(session: Session, row: StudyRow, study: Study) -> bool:
    """Add a configuration that nobody trained and that is expected to score best, at the end of a
    search that ended by itself; return whether there is one. `row` is locked."""
    end = row.search_end
    if end is None or end.unvisited is not None:
        return False
    params = unvisited(belief_of(row, study, cycles_of(session, row)))
    if params is None:
        return False
    slot = next_slot(session, row)
    (work,) = work_of(row, [slot])
    work.params = dict(params)
    session.add(work)
    row.search_end = replace(end, n_cycles=end.n_cycles + 1, unvisited=slot)
    log.info("search %d is added: it is expected to score best, and was not tried yet", slot)
    return True


def _is_new(work: WorkRow) -> bool:
    return work.stage == Stage.SEARCH and work.token == 0


def _end(engine: Engine, study_id: str, *, gain: float, n_seen: int) -> bool:
    """Remove what waits; return False where the study has moved since it was seen."""
    with transaction(engine) as session:
        # The runs before the study, as workers lock them. One that is being claimed is left.
        unclaimed = delete(WorkRow).where(
            WorkRow.study_id == study_id,
            WorkRow.stage == Stage.SEARCH,
            WorkRow.state == RunState.WAITING,
            WorkRow.token == 0,
        )
        removed = session.execute(unclaimed)
        assert isinstance(removed, CursorResult)
        row = session.get_one(StudyRow, study_id, with_for_update=True)
        moved = n_ended(session, study_id) != n_seen
        if moved or not row.may_end_search or not removed.rowcount:
            session.rollback()
            return not moved
        count = select(func.count()).where(
            WorkRow.study_id == study_id, WorkRow.stage == Stage.SEARCH
        )
        n_cycles = session.scalar(count) or 0
        row.search_end = SearchEnd(n_cycles=n_cycles, at_most=row.n_trials, gain=gain)
    log.info(
        "the search ends by itself with %d of at most %d configurations: one more is expected to "
        "gain %.2g",
        n_cycles,
        row.n_trials,
        gain,
    )
    return True
