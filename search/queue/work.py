"""The table of work: claim, lease, fence, write, give back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import (
    CursorResult,
    Engine,
    func,
    select,
    update,
)
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.leases import Leases
from search.queue.processes import is_gone
from search.queue.records import point_record, write_epochs
from search.queue.rows import SUSPICIOUS_DEATHS, has_waiting, params_of, release, running_rows
from studies.database import DatabaseUnreachableError, reading, transaction
from studies.tables import ReadingRecord, StudyRow, WorkRow
from trainers.run import EpochRow, Point, Reading

MAX_FAILURES = 3
"""A run whose attempts failed this often, out of memory or by a bug, is given up."""
MAX_BUGS_IN_A_ROW = 6
"""So many attempts of a study, over all workers, that ended in a bug with no finished run between
them stop the study: the code is broken, not one configuration."""
ENDED = ("finished", "failed")
"""The stages in which a study has no more work."""

FailureKind = Literal["memory", "bug", "data", "infrastructure"]
"""What ended an attempt; the last two are of the place where it ran, not of the run, and are not
counted against it. A run that was given up because its owners died has the kind "died"."""


class FencedOffError(Exception):
    """The run belongs to another owner now: nothing may be written about it any more."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One run, ours while the row's token is `token`."""

    work_id: int
    token: int
    stage: str
    round: int
    length: int
    slot: int
    replicate: int | None
    params: Params | None
    batch_size: int | None
    trial_number: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a run ended, as it is written."""

    outcome: str
    score: float | None
    sealed_score: float | None
    n_steps: int
    n_images: int
    seconds: float
    device: str
    diverged: Point | None
    points: Sequence[Point] = ()
    readings: Sequence[Reading] = ()


class Queue:
    """One worker's hands on a study's table of work; `only` names the one stage to claim of."""

    def __init__(
        self,
        engine: Engine,
        study: StudyRow,
        *,
        owner: str,
        process: str | None,
        only: str | None = None,
    ) -> None:
        self.engine, self.study_id = engine, study.id
        self.owner, self.process, self.only = owner, process, only
        self.leases = Leases(beat_s=study.beat_s, grace_s=study.grace_s)

    def claim(self) -> Claim | None:
        """Take the next waiting run, else one whose owner is gone; None when there is neither."""
        with self._contact():
            return self._claim_waiting() or self._claim_stale()

    @contextmanager
    def _contact(self) -> Iterator[None]:
        """Let the watch over the leases know whether the database answered."""
        try:
            yield
        except DatabaseUnreachableError:
            self.leases.forget()
            raise
        self.leases.answered()

    def _claim_waiting(self) -> Claim | None:
        with transaction(self.engine) as session:
            if self._is_over(session):
                return None
            row = session.scalars(
                select(WorkRow)
                .where(
                    WorkRow.study_id == self.study_id,
                    WorkRow.state == "waiting",
                    *([] if self.only is None else [WorkRow.stage == self.only]),
                )
                .order_by(
                    WorkRow.deaths >= SUSPICIOUS_DEATHS,
                    WorkRow.round,
                    WorkRow.length,
                    WorkRow.slot,
                )
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            return None if row is None else self._take(row)

    def _claim_stale(self) -> Claim | None:
        with reading(self.engine) as session:
            stale = [
                row for row in running_rows(session, self.study_id) if self.leases.is_stale(row)
            ]
        for row in stale:
            release(self.engine, row)
        return self._claim_waiting() if stale else None

    def _is_over(self, session: Session) -> bool:
        stage = select(StudyRow.stage).where(StudyRow.id == self.study_id)
        return session.scalar(stage) in ENDED

    def _take(self, row: WorkRow) -> Claim:
        row.state, row.owner, row.process = "running", self.owner, self.process
        row.token += 1
        row.attempts += 1
        row.beat, row.beat_at = 0, func.now()
        return _claim_of(row)

    def beat(self, claim: Claim, epochs: Sequence[EpochRow] = ()) -> None:
        """Show that the owner lives, and write the epochs that its run has reported since.

        An epoch trained again by a later owner replaces the earlier row. Raises FencedOffError
        where another one has taken over.
        """
        with self._contact(), transaction(self.engine) as session:
            self._hold(session, claim, epochs)

    def bind(self, claim: Claim, number: int, params: Params) -> None:
        """Write which Optuna trial and parameters a slot has."""
        with transaction(self.engine) as session:
            row = self._hold(session, claim)
            row.trial_number = number
            for name, value in params.searched().items():
                setattr(row, name, value)

    def finish(self, claim: Claim, ended: Ended, epochs: Sequence[EpochRow] = ()) -> WorkRow:
        """Write how the run ended, with its last epochs and its points, in one commit."""
        with transaction(self.engine) as session:
            row = self._hold(session, claim, epochs)
            row.state = "done"
            for name in ("outcome", "score", "sealed_score", "n_steps", "n_images"):
                setattr(row, name, getattr(ended, name))
            row.seconds, row.device = ended.seconds, ended.device
            row.failure = row.traceback = None
            if ended.diverged is not None:
                row.diverged_step, row.diverged_lr = ended.diverged.step, ended.diverged.lr
            session.execute(
                update(StudyRow)
                .where(StudyRow.id == self.study_id, StudyRow.bugs_in_a_row > 0)
                .values(bugs_in_a_row=0)
            )
            session.add_all(point_record(claim.work_id, point) for point in ended.points)
            session.add_all(
                ReadingRecord(work_id=claim.work_id, **asdict(r)) for r in ended.readings
            )
            return row

    def give_back(self, claim: Claim, epochs: Sequence[EpochRow] = ()) -> None:
        """Let any worker go on with this run at once."""
        with transaction(self.engine) as session:
            row = self._hold(session, claim, epochs)
            row.state, row.owner, row.process = "waiting", None, None

    def fail(self, claim: Claim, kind: FailureKind, traceback: str) -> bool:
        """Write a failed attempt; return whether the run is given up (MAX_FAILURES).

        MAX_BUGS_IN_A_ROW bugs with no finished run between them end the study.
        """
        with transaction(self.engine) as session:
            row = self._hold(session, claim)
            row.failure, row.traceback = kind, traceback
            row.failures += kind in ("memory", "bug")
            row.state = "failed" if row.failures >= MAX_FAILURES else "waiting"
            row.owner = row.process = None
            if kind == "bug":
                self._count_bug(session, traceback)
            return row.state == "failed"

    def _count_bug(self, session: Session, traceback: str) -> None:
        study = session.get_one(StudyRow, self.study_id, with_for_update=True)
        study.bugs_in_a_row += 1
        if study.bugs_in_a_row >= MAX_BUGS_IN_A_ROW and study.stage not in ENDED:
            last = last_line(traceback)
            reason = f"{MAX_BUGS_IN_A_ROW} attempts in a row failed, the last with {last}"
            end_study(study, "failed", {"reason": reason})

    def held(self) -> int:
        """Return how many runs of the study workers hold; 0 where one waits to be taken."""
        with reading(self.engine) as session:
            return (
                0
                if has_waiting(session, self.study_id)
                else len(running_rows(session, self.study_id))
            )

    def release_dead(self) -> None:
        """Let any worker take the runs whose owners, processes of this host, are gone."""
        with reading(self.engine) as session:
            held = running_rows(session, self.study_id)
        for row in held:
            if is_gone(row.process):
                release(self.engine, row)

    def told(self, work_id: int) -> None:
        """Write that Optuna knows the end of this run."""
        with transaction(self.engine) as session:
            session.execute(update(WorkRow).where(WorkRow.id == work_id).values(told=True))

    def untold(self) -> list[WorkRow]:
        """Return the ended search runs that Optuna was not told of."""
        with reading(self.engine) as session:
            return list(
                session.scalars(
                    select(WorkRow).where(
                        WorkRow.study_id == self.study_id,
                        WorkRow.stage == "search",
                        WorkRow.state.in_(("done", "failed")),
                        WorkRow.trial_number.is_not(None),
                        WorkRow.told.is_(False),
                    )
                )
            )

    def bound(self, length: int) -> dict[int, int]:
        """Return slot -> number of the Optuna trial it is bound to, for cycles of `length`."""
        with reading(self.engine) as session:
            rows = session.execute(
                select(WorkRow.slot, WorkRow.trial_number).where(
                    WorkRow.study_id == self.study_id,
                    WorkRow.stage == "search",
                    WorkRow.length == length,
                    WorkRow.trial_number.is_not(None),
                )
            )
            return {slot: number for slot, number in rows if number is not None}

    def _hold(self, session: Session, claim: Claim, epochs: Sequence[EpochRow] = ()) -> WorkRow:
        """Return the row, locked and beaten, if it is still ours; raise FencedOffError if not."""
        held = session.execute(
            update(WorkRow)
            .where(
                WorkRow.id == claim.work_id,
                WorkRow.token == claim.token,
                WorkRow.state == "running",
            )
            .values(beat=WorkRow.beat + 1, beat_at=func.now())
        )
        assert isinstance(held, CursorResult)
        if held.rowcount != 1:
            raise FencedOffError(f"run {claim.work_id} has another owner")
        got_further = write_epochs(session, claim.work_id, epochs)
        row = session.get_one(WorkRow, claim.work_id, populate_existing=True)
        if got_further:
            row.deaths = 0
        return row


def end_study(
    study: StudyRow, stage: Literal["finished", "failed"], result: dict[str, Any]
) -> None:
    """Write that a study has ended, and with what."""
    study.stage, study.result, study.finished_at = stage, result, func.now()


def last_line(traceback: str) -> str:
    """Return the end of a traceback: the exception and its words."""
    return traceback.strip().splitlines()[-1]


def _claim_of(row: WorkRow) -> Claim:
    return Claim(
        work_id=row.id,
        token=row.token,
        stage=row.stage,
        round=row.round,
        length=row.length,
        slot=row.slot,
        replicate=row.replicate,
        params=params_of(row),
        batch_size=row.batch_size,
        trial_number=row.trial_number,
    )
