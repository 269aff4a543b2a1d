"""The table of work: claim, lease, fence, write, give back."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Engine, exists, func, select, update
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.leases import Leases
from search.queue.roster import is_gone
from search.queue.rows import (
    SUSPICIOUS_DEATHS,
    changed,
    has_waiting,
    is_waiting,
    params_of,
    point_record,
    release,
    running_rows,
    write_epochs,
)
from search.tracebacks import headline
from studies.answer import Answer, NoAnswer
from studies.clock import now
from studies.database import one_statement, reading, transaction
from studies.errors import DatabaseUnreachableError
from studies.params import Value
from studies.states import ENDED_RUNS, ENDS, FailureKind, RunOutcome, RunState, Stage
from studies.tables import StudyRow, WorkRow
from trainers.curve import Curve
from trainers.groups import Driven
from trainers.run import EpochRow, Point

MAX_FAILURES = 3
"""A run whose attempts failed this often, out of memory or by a bug, is given up."""
# Two runs given up, or more runs that failed: one bad configuration alone cannot do that.
MAX_BUGS_IN_A_ROW = 6
"""So many attempts of a study, over all workers, that ended in a bug with no finished run between
them stop the study: the code is broken, not one configuration."""


_AS_ENDED = ("outcome", "score", "sealed_score", "n_steps", "n_images", "seconds", "device")
"""The columns of a run that are written as they are in Ended."""


class FencedOffError(Exception):
    """The run belongs to another owner now: nothing may be written about it any more."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One run, ours while the row's token is `token`.

    `length`: epochs of a cycle, optimizer steps of a sweep. `setting`: of a sweep, where
    several have a range test. `had_owner`: an earlier owner may have left a checkpoint or a trial.
    """

    work_id: int
    token: int
    stage: Stage
    round: int
    length: int
    slot: int
    replicate: int | None
    params: Params | None
    setting: Mapping[str, Value] | None
    trial_number: int | None
    had_owner: bool

    @property
    def title(self) -> str:
        """The run in words, for a log."""
        return f"{self.stage.words} {self.slot}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a run ended, as it is written."""

    outcome: RunOutcome
    score: float | None
    sealed_score: float | None
    n_steps: int
    n_images: int
    seconds: float
    device: str
    diverged: Point | None
    points: Sequence[Point] = ()
    driven: Driven | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a run has come: the steps it has reported, and the curve of those looked at."""

    step: int
    curve: Curve


class Queue:
    """One worker's access to a study's table of work; `only` names the one stage to claim of."""

    def __init__(
        self,
        engine: Engine,
        row: StudyRow,
        *,
        owner: str,
        process: str | None,
        only: Stage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine, self.study_id = engine, row.id
        self.owner, self.process, self.only = owner, process, only
        self.leases = Leases(beat_s=row.beat_s, grace_s=row.grace_s, clock=clock)

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
        # SQLite has no FOR UPDATE; there transaction() takes the write lock at its beginning.
        # Without that, eight processes took 28 of 200 waiting trials of Optuna twice.
        with one_statement(self.engine) as session:
            over = exists().where(StudyRow.id == self.study_id, StudyRow.stage.in_(ENDS))
            # A row that another worker is taking is passed over, not waited for.
            chosen = next_waiting(self.study_id, ~over, only=self.only, lock=True)
            take = update(WorkRow).where(WorkRow.id == chosen)
            row = changed(
                session,
                take.values(
                    state=RunState.RUNNING,
                    owner=self.owner,
                    process=self.process,
                    # The fencing token: what an earlier owner still writes matches no row any
                    # more (_hold).
                    token=WorkRow.token + 1,
                    beat=0,
                    beat_at=now(),
                ),
            )
            return None if row is None else _claim_of(row)

    def _claim_stale(self) -> Claim | None:
        with reading(self.engine) as session:
            stale = [
                row for row in running_rows(session, self.study_id) if self.leases.is_stale(row)
            ]
        for row in stale:
            release(self.engine, row)
        return self._claim_waiting() if stale else None

    def beat(
        self, claim: Claim, epochs: Sequence[EpochRow] = (), reached: Reached | None = None
    ) -> None:
        """Show that the owner lives, how far it is, and write the epochs reported since.

        An epoch trained again by a later owner replaces the earlier row, and its curve the
        earlier curve. Raises FencedOffError where another one has taken over.
        """
        writes = transaction if epochs else one_statement
        with self._contact(), writes(self.engine) as session:
            self._hold(session, claim, epochs, reached)

    def bind(self, claim: Claim, number: int, params: Params) -> None:
        """Write which Optuna trial and parameters a slot has."""
        with one_statement(self.engine) as session:
            self._hold(session, claim, trial_number=number, params=dict(params))

    def finish(
        self,
        claim: Claim,
        ended: Ended,
        epochs: Sequence[EpochRow] = (),
        reached: Reached | None = None,
    ) -> WorkRow:
        """Write how the run ended, with its last epochs, curve and points, in one commit."""
        with transaction(self.engine) as session:
            diverged, driven = ended.diverged, ended.driven
            row = self._hold(
                session,
                claim,
                epochs,
                reached,
                state=RunState.DONE,
                **{name: getattr(ended, name) for name in _AS_ENDED},
                optimizer=None if driven is None else asdict(driven),
                failure=None,
                traceback=None,
                diverged_step=None if diverged is None else diverged.step,
                diverged_lr=None if diverged is None else diverged.lr,
            )
            session.execute(
                update(StudyRow)
                # Where it is 0 the study's row stays unlocked: all workers would queue for it.
                .where(StudyRow.id == self.study_id, StudyRow.bugs_in_a_row > 0)
                .values(bugs_in_a_row=0)
            )
            session.add_all(point_record(claim.work_id, point) for point in ended.points)
            return row

    def give_back(
        self, claim: Claim, epochs: Sequence[EpochRow] = (), reached: Reached | None = None
    ) -> None:
        """Let any worker resume this run at once."""
        with transaction(self.engine) as session:
            back = {"state": RunState.WAITING, "owner": None, "process": None}
            self._hold(session, claim, epochs, reached, **back)

    def fail(
        self, claim: Claim, kind: FailureKind, traceback: str, reached: Reached | None = None
    ) -> bool:
        """Write a failed attempt; return whether the run is given up (MAX_FAILURES).

        MAX_BUGS_IN_A_ROW bugs with no finished run between them end the study.
        """
        with transaction(self.engine) as session:
            row = self._hold(session, claim, reached=reached)
            row.failure, row.traceback = kind, traceback
            row.failures += kind.counts
            given_up = row.failures >= MAX_FAILURES
            row.state = RunState.FAILED if given_up else RunState.WAITING
            row.owner = row.process = None
            if kind is FailureKind.BUG:
                self._count_bug(session, traceback)
            return given_up

    def _count_bug(self, session: Session, traceback: str) -> None:
        # Locked, so that bugs of two workers in one moment count as two.
        row = session.get_one(StudyRow, self.study_id, with_for_update=True)
        row.bugs_in_a_row += 1
        if row.bugs_in_a_row >= MAX_BUGS_IN_A_ROW and not row.stage.is_end:
            last = headline(traceback)
            reason = f"{MAX_BUGS_IN_A_ROW} attempts in a row failed, the last with {last}"
            end_study(row, NoAnswer(reason))

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
        with one_statement(self.engine) as session:
            session.execute(update(WorkRow).where(WorkRow.id == work_id).values(told=True))

    def untold(self) -> list[WorkRow]:
        """Return the ended search runs that Optuna was not told of."""
        with reading(self.engine) as session:
            return list(
                session.scalars(
                    select(WorkRow).where(
                        WorkRow.study_id == self.study_id,
                        WorkRow.stage == Stage.SEARCH,
                        WorkRow.state.in_(ENDED_RUNS),
                        WorkRow.trial_number.is_not(None),
                        WorkRow.told.is_(False),
                    )
                )
            )

    def bound(self) -> dict[int, int]:
        """Return slot -> number of the Optuna trial it is bound to."""
        with reading(self.engine) as session:
            rows = session.execute(
                select(WorkRow.slot, WorkRow.trial_number).where(
                    WorkRow.study_id == self.study_id,
                    WorkRow.stage == Stage.SEARCH,
                    WorkRow.trial_number.is_not(None),
                )
            )
            return {slot: number for slot, number in rows if number is not None}

    def _hold(
        self,
        session: Session,
        claim: Claim,
        epochs: Sequence[EpochRow] = (),
        reached: Reached | None = None,
        **values: object,
    ) -> WorkRow:
        """Return the row, locked and beaten, if it is still ours; raise FencedOffError if not.

        The curve and further `values` are part of the same statement, and cost none of their own.
        """
        if reached is not None:
            values |= {"step": reached.step, "curve": reached.curve}
        # One conditional UPDATE locks the row; that it met one tells that the token is still ours.
        held = update(WorkRow).where(
            WorkRow.id == claim.work_id,
            WorkRow.token == claim.token,
            WorkRow.state == RunState.RUNNING,
        )
        beaten = held.values(beat=WorkRow.beat + 1, beat_at=now(), **values)
        row = changed(session, beaten)
        if row is None:
            raise FencedOffError(f"run {claim.work_id} has another owner")
        if write_epochs(session, row, epochs):
            row.deaths = 0
        return row


def next_waiting(
    study_id: str, *more: ColumnElement[bool], only: Stage | None = None, lock: bool = False
) -> ColumnElement[int]:
    """Return the id of the run that is claimed next; `only`: of that stage, `lock`: passing over
    those that another worker has locked.

    One that may kill its owners comes after all others.
    """
    waiting = (
        select(WorkRow.id)
        .where(WorkRow.study_id == study_id, is_waiting(), *more)
        .where(*([] if only is None else [WorkRow.stage == only]))
        .order_by(WorkRow.round, WorkRow.slot)  # the order of the index ix_work_next
        .limit(1)
        .correlate(None)
    )
    if lock:
        waiting = waiting.with_for_update(skip_locked=True)
    suspicious = WorkRow.deaths >= SUSPICIOUS_DEATHS
    # The second is looked for where the first finds nothing.
    return func.coalesce(
        waiting.where(~suspicious).scalar_subquery(), waiting.where(suspicious).scalar_subquery()
    )


def end_study(row: StudyRow, ending: Answer | NoAnswer) -> None:
    """Write that a study has ended, and with what."""
    row.stage = Stage.FINISHED if isinstance(ending, Answer) else Stage.FAILED
    row.ending, row.finished_at = ending, now()


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
        setting=row.params if row.stage == Stage.RANGE_TEST else None,
        trial_number=row.trial_number,
        had_owner=row.had_owner,
    )
