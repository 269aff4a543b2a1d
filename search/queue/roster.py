"""Who works on a study: each worker's row, from joining to leaving."""

import time

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session

from search.queue.processes import is_gone, on_another_host
from studies.database import (
    POSTGRESQL_FORM,
    DatabaseUnreachableError,
    masked_text,
    sqlite_file,
    transaction,
)
from studies.errors import DatabaseError
from studies.tables import StudyRow, WorkerRow, WorkRow


class Roster:
    """One worker's own row among those of its study."""

    def __init__(
        self, engine: Engine, study: StudyRow, *, name: str, process: str | None, device: str
    ) -> None:
        self.engine, self.study = engine, study
        self.name, self.process, self.device = name, process, device
        self._said: str | None = None
        self._said_at = -float("inf")

    def join(self) -> None:
        """Enter this worker and drop those of this host that were killed.

        Raises DatabaseError where a SQLite file is in use on another host.
        """
        with transaction(self.engine) as session:
            for name, process in session.execute(
                select(WorkerRow.name, WorkerRow.process)
                .where(WorkerRow.study_id == self.study.id)
                .order_by(WorkerRow.name)
            ):
                if is_gone(process):
                    forget_worker(session, name)
            if sqlite_file(self.engine.url) is not None:
                self._refuse_other_hosts(session)
            session.merge(
                WorkerRow(
                    name=self.name,
                    study_id=self.study.id,
                    process=self.process,
                    device=self.device,
                    waits_for=None,
                )
            )

    def _refuse_other_hosts(self, session: Session) -> None:
        beat_at = (
            select(func.max(WorkRow.beat_at))
            .where(WorkRow.owner == WorkerRow.name, WorkRow.state == "running")
            .scalar_subquery()
        )
        last_sign = func.max(WorkerRow.seen_at, func.coalesce(beat_at, WorkerRow.seen_at))
        silent_s = 86400 * (func.julianday(func.now()) - func.julianday(last_sign))
        lately = session.scalars(select(WorkerRow).where(silent_s < self.study.grace_s))
        for other in lately:
            if on_another_host(other.process):
                raise DatabaseError(
                    f"{masked_text(self.engine.url)} is in use by {other.name} on another host: "
                    f"a SQLite file serves one machine; use PostgreSQL as --storage "
                    f"{POSTGRESQL_FORM}, or wait {self.study.grace_s:g} s if that worker has ended"
                )

    def wait(self, reason: str) -> None:
        """Show that this worker lives, and why it waits."""
        if reason == self._said and time.monotonic() - self._said_at < self.study.beat_s:
            return
        with transaction(self.engine) as session:
            session.execute(
                update(WorkerRow)
                .where(WorkerRow.name == self.name)
                .values(waits_for=reason, seen_at=func.now())
            )
        self._said, self._said_at = reason, time.monotonic()

    def leave(self) -> None:
        """Take the row away; one left behind an outage is dropped by the next join here."""
        try:
            with transaction(self.engine) as session:
                forget_worker(session, self.name)
        except DatabaseUnreachableError:
            pass


def forget_worker(session: Session, name: str | None) -> None:
    """Drop the row of a worker that has left or was given up."""
    session.execute(delete(WorkerRow).where(WorkerRow.name == name))
