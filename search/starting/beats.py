"""Beats of the workers of one start, gathered by the process that started them.

Each worker has a pipe to it. A beat goes there, is written with those of the others
(search.queue.together), and is answered. Where no answer comes, the worker beats alone.
"""

import threading
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from sqlalchemy import Engine

from search.queue.together import GATHER_S, Beat, Gatherer
from search.starting.cost import Started
from studies.tables import StudyRow

_PATIENCE_S = 3.0
"""After the time of gathering: far longer than a write takes, and far shorter than a lease."""
_MOST_UNANSWERED = 3  # of runs that ended meanwhile; a pipe that nobody reads must not fill up
_POLL_S = 0.02


def gatherer_of(engine: Engine, started: Started) -> Gatherer:
    """Return what writes the beats of the workers of a start."""
    return Gatherer(engine, gather_s=_gather_s(started.row))


def pipe(engine: Engine, started: Started) -> tuple[Connection, Connection] | tuple[None, None]:
    """Return our end of a pipe for beats, and the worker's; of none where each beats alone.

    A SQLite file has no server that would be relieved.
    """
    if started.n_workers < 2 or engine.dialect.name != "postgresql":
        return None, None
    return Pipe()


def serve(gatherer: Gatherer, ours: Connection | None) -> None:
    """Answer a worker's beats in a thread of their own, until the worker is gone."""
    if ours is not None:
        threading.Thread(target=_answer, args=(gatherer, ours), name="beats", daemon=True).start()


def _answer(gatherer: Gatherer, ours: Connection) -> None:
    never = threading.Event()
    with ours, suppress(EOFError, OSError):
        while True:
            number, beat = ours.recv()
            ours.send((number, gatherer.beat(beat, over=never)))


class Piped:
    """A worker's end: beats go to the process that started it."""

    def __init__(self, connection: Connection, row: StudyRow) -> None:
        self.gather_s = _gather_s(row)
        self._connection = connection
        self._n_sent = self._answered = 0
        self._broken = False

    def beat(self, beat: Beat, *, over: threading.Event) -> bool:
        """Send a beat and wait for the answer; return whether it was written."""
        try:
            while self._connection.poll():
                self._answered, _ = self._connection.recv()
            if self._broken or self._n_sent - self._answered > _MOST_UNANSWERED:
                return False
            self._n_sent += 1
            self._connection.send((self._n_sent, beat))
            until = time.monotonic() + self.gather_s + _PATIENCE_S
            while not over.is_set() and time.monotonic() < until:
                if self._connection.poll(_POLL_S):
                    self._answered, written = self._connection.recv()
                    if self._answered == self._n_sent:
                        return bool(written)
        except (EOFError, OSError):
            self._broken = True
            return False
        # Frozen, or too slow: what it still answers is not waited for again.
        self._broken = not over.is_set()
        return False


def piped(descriptor: int | None, row: StudyRow) -> Piped | None:
    """Return a worker's end by its file descriptor, None where it has none."""
    return None if descriptor is None else Piped(Connection(descriptor), row)


def _gather_s(row: StudyRow) -> float:
    return min(GATHER_S, row.beat_s / 2)
