"""What a worker reads before it proposes: the finished cycles of a search, and those under way."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.rows import params_of, search_rows
from search.stages.believed import Belief, belief_of
from studies.definition import Study
from studies.states import ENDED_RUNS, RunState, Stage
from studies.tables import StudyRow, WorkRow

_MOST_READ = 200
"""So many cycles are read for one proposal, spread evenly over the slots."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a study knows at one moment, before the configuration of `slot` is proposed; `n_ended`
    of its runs had ended then.

    `pending` are the configurations that have no score: under way, given back or given up.
    `cycles` are the finished ones that were read, by slot: how one ended stays as it is.
    """

    slot: int
    belief: Belief | None
    pending: tuple[Params, ...]
    n_ended: int
    cycles: Mapping[int, WorkRow]


def known(
    session: Session, row: StudyRow, study: Study, *, slot: int, before: Known | None = None
) -> Known:
    """Return what is known before the configuration of a slot is proposed.

    `before` is what was known earlier: only cycles that have finished since are read, and its
    belief holds as long as no other run has ended.
    """
    ended = n_ended(session, row.id)
    open_ = pending(session, row, slot)
    if before is not None and (before.slot, before.n_ended) == (slot, ended):
        return replace(before, pending=open_)
    every = max(1, -(-ended // _MOST_READ))
    read = {} if before is None else before.cycles
    read = {number: cycle for number, cycle in read.items() if number % every == 0}
    new = search_rows(row).where(
        WorkRow.state == RunState.DONE, WorkRow.slot % every == 0, WorkRow.slot.not_in(read)
    )
    read |= {cycle.slot: cycle for cycle in session.scalars(new)}
    cycles = {number: read[number] for number in sorted(read)}
    return Known(slot, belief_of(row, study, cycles.values(), slot=slot), open_, ended, cycles)


def pending(session: Session, row: StudyRow, slot: int) -> tuple[Params, ...]:
    """Return the configurations of other slots that have no score."""
    bound = search_rows(row).where(
        WorkRow.params.is_not(None), WorkRow.score.is_(None), WorkRow.slot != slot
    )
    found = (params_of(work) for work in session.scalars(bound.order_by(WorkRow.slot)))
    return tuple(params for params in found if params is not None)


def n_ended(session: Session, study_id: str) -> int:
    """Return how many runs of the search have ended."""
    ended = select(func.count()).where(
        WorkRow.study_id == study_id,
        WorkRow.stage == Stage.SEARCH,
        WorkRow.state.in_(ENDED_RUNS),
    )
    return session.scalar(ended) or 0
