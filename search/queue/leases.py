"""Leases that have gone quiet by the observer's own clock, and their runs given back."""

import time
from collections.abc import Callable

from sqlalchemy import Engine

from search.queue.roster import is_gone
from search.queue.rows import release, running_rows
from studies.database import reading
from studies.tables import StudyRow, WorkRow


class Leases:
    """One observer's watch over the leases of others.

    A lease is stale when its heartbeat counter has not moved for `grace_s` of our time, over which
    the database answered us: neither another host's clock nor an outage makes it so. (The rule of
    Kubernetes' leader election.)
    """

    def __init__(
        self, *, beat_s: float, grace_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.grace_s, self._clock = grace_s, clock
        # A healthy worker is answered every beat_s. A longer silence was an outage: it starts all
        # watches over before it can add up to grace_s.
        self._gap_s = max(2 * beat_s, grace_s / 2)
        self._seen: dict[int, tuple[int, int, float]] = {}
        self._answered = clock()

    def is_stale(self, row: WorkRow) -> bool:
        """Look at a running row once more and say whether its owner may be replaced."""
        self.answered()
        now = self._clock()
        token, beat, since = self._seen.get(row.id, (-1, -1, now))
        if (token, beat) != (row.token, row.beat):
            since = now
        self._seen[row.id] = (row.token, row.beat, since)
        # A process of this host that has ended needs no time of grace.
        return now - since >= self.grace_s or is_gone(row.process)

    def answered(self) -> None:
        """Note that the database answered; after a long silence of ours all watches start over.

        In such a gap it may have been away, and then its quiet says nothing of the owners.
        """
        now = self._clock()
        if now - self._answered > self._gap_s:
            self._seen.clear()
        self._answered = now

    def forget(self) -> None:
        """Start all watches over: the database was away."""
        self._seen.clear()


# Beats are seconds apart (beat_s): looking more often shows nothing new.
_MAX_PAUSE_S = 1.0


def running(engine: Engine, row: StudyRow) -> list[WorkRow]:
    """Return the runs of a study that a worker holds."""
    with reading(engine) as session:
        return running_rows(session, row.id)


def reap(engine: Engine, row: StudyRow, held: list[WorkRow]) -> list[WorkRow]:
    """Watch these running leases and return those that were given back.

    Ends when each has moved or was given back: after `grace_s` by this process's clock at the
    latest, later only where the database did not answer for a time, which proves nothing.
    """
    leases = Leases(beat_s=row.beat_s, grace_s=row.grace_s)
    unmoved = {run.id: (run.token, run.beat) for run in held}
    given_back = []
    while True:
        asked = time.monotonic()
        runs = [r for r in running(engine, row) if unmoved.get(r.id) == (r.token, r.beat)]
        # So slow an answer was an outage or a locked file: the owners could not beat either.
        if time.monotonic() - asked > row.beat_s:
            leases.forget()
        stale = {run.id for run in runs if leases.is_stale(run)}
        given_back += [run for run in runs if run.id in stale and release(engine, run)]
        unmoved = {run.id: (run.token, run.beat) for run in runs if run.id not in stale}
        if not unmoved:
            return given_back
        time.sleep(min(_MAX_PAUSE_S, row.grace_s / 10))
