"""Who works on a study, as anybody sees it from outside."""

from sqlalchemy import Engine, select

from search.queue.roster import is_gone
from search.queue.rows import running_rows
from studies.clock import database_now
from studies.database import reading
from studies.tables import StudyRow, WorkerRow


def at_work(engine: Engine, row: StudyRow) -> list[str]:
    """Return the names of workers that live: they hold a run that beats, or were seen waiting.

    What was silent for longer than the grace time, or is a process of this host that is gone, is
    not at work.
    """
    with reading(engine) as session:
        now = database_now(session)
        seen = [(run.owner, run.process, run.beat_at) for run in running_rows(session, row.id)]
        waiting = session.scalars(select(WorkerRow).where(WorkerRow.study_id == row.id))
        seen += [(each.name, each.process, each.seen_at) for each in waiting]
    living = [
        name
        for name, process, at in seen
        if name and not is_gone(process) and at and (now - at).total_seconds() <= row.grace_s
    ]
    return sorted(set(living))
