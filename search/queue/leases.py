"""Which leases have gone quiet, by the observer's own monotonic clock."""

import time

from search.queue.processes import is_gone
from studies.tables import WorkRow


class Leases:
    """One observer's watch over the leases of others.

    A lease is stale when its heartbeat counter has not moved for `grace_s` of our time, over which
    the database answered us: neither another host's clock nor an outage makes it so. (The rule of
    Kubernetes' leader election.)
    """

    def __init__(self, *, beat_s: float, grace_s: float) -> None:
        self.grace_s = grace_s
        self._gap_s = max(2 * beat_s, grace_s / 2)
        self._seen: dict[int, tuple[int, int, float]] = {}
        self._answered = time.monotonic()

    def is_stale(self, row: WorkRow) -> bool:
        """Look at a running row once more and say whether its owner may be replaced."""
        self.answered()
        now = time.monotonic()
        token, beat, since = self._seen.get(row.id, (-1, -1, now))
        if (token, beat) != (row.token, row.beat):
            since = now
        self._seen[row.id] = (row.token, row.beat, since)
        return now - since >= self.grace_s or is_gone(row.process)

    def answered(self) -> None:
        """Note that the database answered; after a long silence of ours all watches start anew.

        In such a gap it may have been away, and then its quiet says nothing of the owners.
        """
        now = time.monotonic()
        if now - self._answered > self._gap_s:
            self._seen.clear()
        self._answered = now

    def forget(self) -> None:
        """Start all watches anew: the database was away."""
        self._seen.clear()
