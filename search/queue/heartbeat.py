"""The owner's side of a lease: a thread that beats and writes what the run reports."""

import logging
import threading
from collections import deque
from types import TracebackType

from search.queue.together import Beat, Together
from search.queue.work import Claim, FencedOffError, Queue, Reached
from studies.errors import DatabaseError
from trainers.curve import Thinned
from trainers.run import EpochRow, Run

log = logging.getLogger(__name__)

_TOGETHER_S = 1.0
"""Epochs that end within so long are written together: a person reads no faster, and with many
workers they are most of what the database does."""


class Heartbeat:
    """Beats for one claim and writes what its run reports: training never waits for the database.

    While the database is away epochs are kept, and written in their order under the same token
    when it is back. `lost` once another owner has taken over.
    """

    def __init__(
        self, queue: Queue, claim: Claim, *, beat_s: float, together: Together | None = None
    ) -> None:
        self.lost = False
        self._queue, self._claim, self._together = queue, claim, together
        self._pause_s = min(_TOGETHER_S, beat_s / 2)
        gather_s = 0.0 if together is None else together.gather_s
        self._rest_s = max(self._pause_s, beat_s - self._pause_s - gather_s)
        self._epochs: deque[EpochRow] = deque()
        self._run: Run | None = None
        self._away = False
        self._over = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._over.set()
        self._wake.set()
        self._thread.join()

    def epoch(self, row: EpochRow) -> None:
        """Have an epoch written soon."""
        # A deque: the training appends while the thread takes from the other end, without a lock.
        self._epochs.append(row)
        if not self._away:
            self._wake.set()

    def follow(self, run: Run) -> None:
        """Write from now on how far this run is, and its curve."""
        self._thinned = Thinned(run.plan.total_steps)
        self._run = run

    def reached(self) -> Reached | None:
        """Return how far the run is; None before its first step, which leaves what is stored."""
        if self._run is None or not self._run.n_reported:
            return None
        self._thinned.read(self._run.points)
        return Reached(self._run.n_reported, self._thinned.curve())

    @property
    def unwritten(self) -> tuple[EpochRow, ...]:
        """The epochs that are not in the database yet, in their order."""
        return tuple(self._epochs)

    def _beat(self) -> None:
        while not self.lost:
            self._wake.wait(self._rest_s)
            self._wake.clear()
            if self._over.is_set():
                return
            self._beat_once()
            self._over.wait(self._pause_s)

    def _beat_once(self) -> None:
        epochs, reached = self.unwritten, self.reached()
        try:
            if not self._beat_with_others(epochs, reached):
                if self._over.is_set():
                    return  # whoever writes the result writes these, too
                self._queue.beat(self._claim, epochs, reached)
        except FencedOffError:
            self.lost = True
            return
        except DatabaseError as error:  # for good or not: whoever writes the result raises it
            if not self._away:
                log.warning("%s; training continues, and what it reports is kept", error)
            self._away = True
            return
        # Only those that were written: more may have been reported meanwhile.
        for _ in epochs:
            self._epochs.popleft()
        if self._away:
            log.warning("the database is back; %d epoch(s) written", len(epochs))
        self._away = False

    def _beat_with_others(self, epochs: tuple[EpochRow, ...], reached: Reached | None) -> bool:
        if self._together is None or self._away:
            return False
        beat = Beat(self._claim.work_id, self._claim.token, epochs, reached)
        written = self._together.beat(beat, over=self._over)
        if written:
            self._queue.leases.answered()
        return written
