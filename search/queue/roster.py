"""Who works on a study: each worker's row, and which process it is."""

import os
import socket
import time
import uuid
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session

from studies.clock import database_now, now
from studies.database import transaction
from studies.errors import DatabaseError, DatabaseUnreachableError
from studies.states import RunState
from studies.tables import StudyRow, WorkerRow, WorkRow
from studies.urls import POSTGRESQL_FORM, masked_text, sqlite_file


def process_identity(pid: int | None = None) -> str | None:
    """Return 'boot/pid namespace/pid/start time' of a process; None where it is not there.

    A pid alone is used again and means another process in another container; with these four
    the text names one process forever. None also on systems without /proc.
    """
    pid = os.getpid() if pid is None else pid
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
        # The program's name, field 2, may hold spaces and brackets (man 5 proc): read what
        # follows. That begins with field 3, the state; field 22 is the start in clock ticks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[19]
    # A zombie has ended, and only waits for its parent to ask how.
    return None if state == "Z" else f"{boot}/{namespace}/{pid}/{started}"


def is_gone(identity: str | None) -> bool:
    """Whether that process surely ended: it ran on this boot of this host, and is not there."""
    own = process_identity()
    if identity is None or own is None:
        return False
    boot, namespace, pid, *rest = [*identity.split("/"), "", ""]
    if len(rest) != 3 or not pid.isdecimal():  # not written by process_identity()
        return False
    same_host = own.startswith(f"{boot}/{namespace}/")
    return same_host and process_identity(int(pid)) != identity


def on_another_host(identity: str | None) -> bool:
    """Whether that process surely ran on another host, or before this one was started again."""
    own = process_identity()
    if identity is None or own is None:
        return False
    return identity.partition("/")[0] != own.partition("/")[0]


def worker_name() -> str:
    """Return a name for this worker that a person can read and no other worker has."""
    # Containers may share a host name and pids, and a host uses its pids again.
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


class Roster:
    """One worker's own row among those of its study."""

    def __init__(
        self, engine: Engine, study: StudyRow, *, name: str, process: str | None, device: str
    ) -> None:
        self.engine, self.study = engine, study
        self.name, self.process, self.device = name, process, device
        self._shown: str | None = None
        self._shown_at = -float("inf")
        self._n_waiting = 1

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
            .where(WorkRow.owner == WorkerRow.name, WorkRow.state == RunState.RUNNING)
            .scalar_subquery()
        )
        # SQLite's max() of two values; it is NULL where one of them is.
        last_sign = func.max(WorkerRow.seen_at, func.coalesce(beat_at, WorkerRow.seen_at))
        # Days as a number, which versions before 3.38 know, too; they have no unixepoch().
        silent_s = 86400 * (func.julianday(now()) - func.julianday(last_sign))
        lately = session.scalars(select(WorkerRow).where(silent_s < self.study.grace_s))
        for other in lately:
            if on_another_host(other.process):
                raise DatabaseError(
                    f"{masked_text(self.engine.url)} is in use by {other.name} on another host: "
                    f"a SQLite file serves one machine; use PostgreSQL as --storage "
                    f"{POSTGRESQL_FORM}, or wait {self.study.grace_s:g} s if that worker has ended"
                )

    def wait(self, reason: str) -> int:
        """Show that this worker lives, and why it waits; return how many of the study's wait.

        The database is told and asked where the reason is another one, and once a beat.
        """
        if reason == self._shown and time.monotonic() - self._shown_at < self.study.beat_s:
            return self._n_waiting
        with transaction(self.engine) as session:
            session.execute(
                update(WorkerRow)
                .where(WorkerRow.name == self.name)
                .values(waits_for=reason, seen_at=now())
            )
            # Who has work again shows that elsewhere, and is not seen here any more.
            lately = database_now(session) - timedelta(seconds=2 * self.study.beat_s)
            waiting = select(func.count()).where(
                WorkerRow.study_id == self.study.id,
                WorkerRow.waits_for.is_not(None),
                WorkerRow.seen_at >= lately,
            )
            self._n_waiting = session.scalar(waiting) or 1
        self._shown, self._shown_at = reason, time.monotonic()
        return self._n_waiting

    def leave(self) -> None:
        """Drop the row; one that an outage leaves behind is dropped by the next join here."""
        try:
            with transaction(self.engine) as session:
                forget_worker(session, self.name)
        except DatabaseUnreachableError:
            pass


def forget_worker(session: Session, name: str | None) -> None:
    """Drop the row of a worker that has left or was given up."""
    session.execute(delete(WorkerRow).where(WorkerRow.name == name))
