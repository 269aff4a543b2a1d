"""Whose turn it is to write a study to a tracker: one process's at a time, on all machines."""

import hashlib
from contextlib import suppress

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from studies.translation import translated
from studies.urls import sqlite_file


class Turn:
    """A lock that a killed holder frees: of PostgreSQL's session, or of a file beside SQLite's."""

    def __init__(self, engine: Engine, study_id: str, tracker: str) -> None:
        self._engine = engine
        self._key = hashlib.sha256(f"{study_id} {tracker}".encode()).hexdigest()[:15]
        self._connection: Connection | None = None
        self._file = sqlite_file(engine.url)
        if self._file is not None:
            from filelock import FileLock

            self._lock = FileLock(f"{self._file}.track-{self._key[:8]}.lock", timeout=0)

    def is_ours(self) -> bool:
        """Take the turn if it is free; return whether it is ours now."""
        return self._has_file() if self._file is not None else self._has_session()

    def _has_file(self) -> bool:
        from filelock import Timeout

        if not self._lock.is_locked:
            with suppress(Timeout):
                self._lock.acquire()
        return bool(self._lock.is_locked)

    def _has_session(self) -> bool:
        """Hold the lock in a connection of its own; one that broke has lost it."""
        with translated(self._engine.url):
            try:
                if self._connection is not None:
                    self._connection.execute(text("SELECT 1"))
                    return True
                connection = self._engine.connect()
                connection.execution_options(isolation_level="AUTOCOMMIT")
                lock = text("SELECT pg_try_advisory_lock(:key)")
                if connection.scalar(lock, {"key": int(self._key, 16)}):
                    self._connection = connection
                    return True
                connection.close()
                return False
            except SQLAlchemyError:
                self.end()
                raise

    def end(self) -> None:
        """Let another process have it."""
        if self._file is not None:
            self._lock.release()
        elif self._connection is not None:
            # The connection ends, and the lock with it, also where the server is away.
            with suppress(SQLAlchemyError):
                self._connection.invalidate()
            self._connection = None
