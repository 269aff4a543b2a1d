"""Give back the runs of owners that are gone, without being a worker."""

import time

from sqlalchemy import Engine

from search.queue.leases import Leases
from search.queue.rows import release, running_rows
from studies.database import reading
from studies.tables import StudyRow, WorkRow

_MAX_PAUSE_S = 1.0


def running(engine: Engine, study: StudyRow) -> list[WorkRow]:
    """Return the runs of a study that a worker holds."""
    with reading(engine) as session:
        return running_rows(session, study.id)


def reap(engine: Engine, study: StudyRow, held: list[WorkRow]) -> list[WorkRow]:
    """Watch these running leases and return those that were given back.

    Ends when each has moved or was given back: after `grace_s` by this process's clock at the
    latest, later only where the database did not answer for a time, which proves nothing.
    """
    leases = Leases(beat_s=study.beat_s, grace_s=study.grace_s)
    unmoved = {row.id: (row.token, row.beat) for row in held}
    given_back = []
    while True:
        asked = time.monotonic()
        rows = [r for r in running(engine, study) if unmoved.get(r.id) == (r.token, r.beat)]
        if time.monotonic() - asked > study.beat_s:
            leases.forget()
        stale = {row.id for row in rows if leases.is_stale(row)}
        given_back += [row for row in rows if row.id in stale and release(engine, row)]
        unmoved = {row.id: (row.token, row.beat) for row in rows if row.id not in stale}
        if not unmoved:
            return given_back
        time.sleep(min(_MAX_PAUSE_S, study.grace_s / 10))
