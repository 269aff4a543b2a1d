"""What opens when all runs of a stage have ended: the search, the confirmation, the answer."""

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from search.queue.work import end_study
from search.stages import confirmation, range_test, search
from search.stages.early_end import add_unvisited
from search.stages.outlook import with_outlook
from search.tracebacks import headline
from studies.answer import NoAnswer
from studies.database import reading, transaction
from studies.definition import Study
from studies.states import OPEN_RUNS, RunState, Stage
from studies.tables import StudyRow, WorkRow


def advance(engine: Engine, study_id: str, study: Study) -> Stage:
    """Open the next stage once this one's runs have all ended; return the stage open now.

    Any worker may call this at any time: what opens is a pure function of what is stored, and
    one of them writes it.
    """
    with reading(engine) as session:  # a look without a lock, for most calls find work under way
        row = session.get_one(StudyRow, study_id)
        if row.stage.is_end or _n_open(session, study_id):
            return row.stage
    with transaction(engine) as session:
        # Asked again under the lock: another worker may have opened the stage meanwhile.
        row = session.get_one(StudyRow, study_id, with_for_update=True)
        if not row.stage.is_end and not _n_open(session, study_id):
            _open(session, row, study)
        return row.stage


def _open(session: Session, row: StudyRow, study: Study) -> None:
    if row.stage == Stage.CONFIRMATION:
        went_on = confirmation.go_on(session, row, study)
        if isinstance(went_on, list):
            session.add_all(went_on)
        elif isinstance(went_on, NoAnswer):
            _fail(session, row, went_on.reason)
        else:
            end_study(row, with_outlook(session, row, study, went_on))
        return
    searched = row.stage == Stage.SEARCH
    if not searched and (sweeps := range_test.more_work(session, row, study)):
        session.add_all(sweeps)
        return
    if searched:
        why_not = search.conclude(session, row)
    else:
        why_not = range_test.conclude(session, row, study)
    if why_not is not None:
        _fail(session, row, why_not)
    elif searched and add_unvisited(session, row, study):
        pass  # one more cycle of the search
    elif searched:
        session.add_all(confirmation.open_round(session, row, study))
        row.stage = Stage.CONFIRMATION
    else:
        session.add_all(search.work_of(row, range(row.n_trials)))
        row.stage = Stage.SEARCH


def _n_open(session: Session, study_id: str) -> int:
    """Return how many runs of the study wait or run."""
    count = select(func.count()).where(WorkRow.study_id == study_id, WorkRow.state.in_(OPEN_RUNS))
    return session.scalar(count) or 0


def _fail(session: Session, row: StudyRow, reason: str) -> None:
    """End the study without a result; an exception that a run died of is part of the reason."""
    tracebacks = session.scalars(
        select(WorkRow.traceback)
        .where(WorkRow.study_id == row.id, WorkRow.state == RunState.FAILED)
        .order_by(WorkRow.id.desc())
    )
    text = next((t for t in tracebacks if t), None)
    if text is not None:
        reason = f"{reason}; a run failed with {headline(text)}"
    end_study(row, NoAnswer(reason))
