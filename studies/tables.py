"""Our tables, beside Optuna's in the same database."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from studies.answer import Answer, NoAnswer, SearchEnd, ending_from_json, ending_to_json
from studies.params import Value, setting_key
from studies.states import Direction, FailureKind, RunOutcome, RunState, Stage
from trainers.curve import Curve
from trainers.groups import Driven

# alembic_version is Optuna's in this database, which refuses a revision that it does not know
# (https://github.com/optuna/optuna/issues/5360).
VERSION_TABLE = "onecycle_alembic_version"
# The newest of studies/migrations/versions: every start compares the database with it.
HEAD = "0012"


class Base(DeclarativeBase):
    """The metadata of our tables; Optuna's are not part of it."""


class Ending(TypeDecorator[Answer | NoAnswer]):
    """A column of JSON that holds what a study ended with."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Answer | NoAnswer | None, dialect: Dialect) -> Any:
        """Return the value as JSON; None is stored as JSON's null, as it always was."""
        return None if value is None else ending_to_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Answer | NoAnswer | None:
        """Return the value of stored JSON."""
        return None if value is None else ending_from_json(value)


class EndOfSearch(TypeDecorator[SearchEnd]):
    """A column of JSON that holds where a search ended by itself; NULL where it did not."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: SearchEnd | None, dialect: Dialect) -> Any:
        """Return the value as JSON."""
        return None if value is None else asdict(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> SearchEnd | None:
        """Return the value of stored JSON."""
        return None if value is None else SearchEnd(**value)


class StoredCurve(TypeDecorator[Curve]):
    """A column of JSON that holds a run's learning curve; NULL where none was written."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Curve | None, dialect: Dialect) -> Any:
        """Return the value as JSON."""
        return None if value is None else asdict(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Curve | None:
        """Return the value of stored JSON."""
        return None if value is None else Curve.from_json(value)


def _one_of(states: type[StrEnum], length: int) -> Enum:
    """Return a column of text that is read as one of these states, and holds nothing else."""
    return Enum(
        states,
        native_enum=False,  # plain text: a new state then needs no migration
        length=length,
        values_callable=lambda each: [state.value for state in each],
    )


class StudyRow(Base):
    """One stored study: its protocol, where it stands, and its answer.

    `batch_size`, `steps_per_epoch`, `edge`, `bracket_low`, `bracket_high` and `proposed_max_lr`
    are those of the baseline. `batch_sizes` holds, where several settings have a range test of
    their own (batch sizes, optimizers), by the name of each (studies.params.setting_key) its
    `steps_per_epoch`, its `params` where the name does not say them, and `edge` and `proposal`
    once they are frozen; the baseline's first. It is empty where there is one range test and
    max_lr is sampled as a multiple of its proposal. `epochs`: of a cycle. `n_trials` are trained
    where they are `exact`; else that is the most, and `search_end` says that and where the search
    ended by itself.
    """

    __tablename__ = "study"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    spec: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    declared: Mapped[dict[str, str]] = mapped_column(JSON)
    resolved: Mapped[dict[str, str] | None] = mapped_column(JSON)
    # Integer has 31 bits on PostgreSQL, a seed 32; studies of before have up to 63.
    seed: Mapped[int] = mapped_column(BigInteger)
    direction: Mapped[Direction] = mapped_column(String(8))
    metric: Mapped[str] = mapped_column(String(40))
    # 53 bits are a double on every database: a score must come back to the last digit.
    # NULL until a trainer has measured it, where the study does not say it.
    diverged_value: Mapped[float | None] = mapped_column(Float(53))
    batch_size: Mapped[int] = mapped_column(Integer)
    steps_per_epoch: Mapped[int] = mapped_column(Integer)
    batch_sizes: Mapped[dict[str, dict[str, Any]] | None] = mapped_column(JSON)
    n_trials: Mapped[int] = mapped_column(Integer)
    # server_default: the column was added to tables that held rows.
    exact: Mapped[bool] = mapped_column(Boolean, default=True, server_default=true())
    search_end: Mapped[SearchEnd | None] = mapped_column(EndOfSearch)
    epochs: Mapped[int] = mapped_column(Integer)
    budget: Mapped[str | None] = mapped_column(String(40))
    beat_s: Mapped[float] = mapped_column(Float(53))
    grace_s: Mapped[float] = mapped_column(Float(53))
    stage: Mapped[Stage] = mapped_column(_one_of(Stage, 16))
    bugs_in_a_row: Mapped[int] = mapped_column(Integer, default=0)
    edge: Mapped[float | None] = mapped_column(Float(53))
    bracket_low: Mapped[float | None] = mapped_column(Float(53))
    bracket_high: Mapped[float | None] = mapped_column(Float(53))
    proposed_max_lr: Mapped[float | None] = mapped_column("proposal", Float(53))
    ending: Mapped[Answer | NoAnswer | None] = mapped_column("result", Ending)
    created_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime)

    @property
    def settings(self) -> Mapping[str, Mapping[str, Value]]:
        """The settings with a range test of their own by name; none where there is but one."""
        stored = (self.batch_sizes or {}).items()
        return {
            key: each["params"] if "params" in each else {"batch_size": int(key)}
            for key, each in stored
        }

    @property
    def moving(self) -> tuple[str, ...]:
        """The parameters that settings differ in."""
        return tuple(next(iter(self.settings.values()), ()))

    def setting_of(self, params: Mapping[str, Value]) -> str | None:
        """Return the name of the setting that a configuration has; None where there is but one."""
        names = self.moving
        return setting_key({name: params[name] for name in names}) if names else None

    def steps_per_epoch_of(self, params: Mapping[str, Value]) -> int:
        """Return the optimizer steps of an epoch at a configuration's batch size."""
        setting = self.setting_of(params)
        if setting is None:
            return self.steps_per_epoch
        return int((self.batch_sizes or {})[setting]["steps_per_epoch"])

    @property
    def may_end_search(self) -> bool:
        """Whether the search may still end by itself, with fewer than `n_trials`."""
        is_over = self.stage not in (Stage.RANGE_TEST, Stage.SEARCH)
        return not (self.exact or is_over) and self.search_end is None

    @property
    def answer(self) -> Answer | None:
        """The answer of the last confirmation; trials that were added since are not part of it."""
        return self.ending if isinstance(self.ending, Answer) else None

    @property
    def reason(self) -> str | None:
        """Why the study ended without an answer."""
        return self.ending.reason if isinstance(self.ending, NoAnswer) else None


class WorkRow(Base):
    """One run: who does it under which fencing token, and what came out.

    `epochs` is the length of a cycle, `sweep_steps` that of a sweep; the other is NULL. `params`
    holds the configuration by name: of a cycle all of it, of a sweep its setting where several
    have a range test; NULL before a slot has asked. `optimizer` holds what the plan's scheduler
    found out about the optimizer; NULL where the loop made none by it, and of earlier versions.
    `step` is how many steps the present or last owner has reported, `curve` what they say; both
    NULL of earlier versions.
    """

    __tablename__ = "work"
    __table_args__ = (
        # Whatever goes wrong in opening a stage, no cycle is there twice.
        UniqueConstraint("study_id", "stage", "round", "epochs", "slot", name="uq_work_slot"),
        # A sweep has no epochs, and two NULLs are never equal: its slots need their own index.
        Index(
            "uq_work_sweep",
            "study_id",
            "round",
            "slot",
            unique=True,
            sqlite_where=text("sweep_steps IS NOT NULL"),
            postgresql_where=text("sweep_steps IS NOT NULL"),
        ),
        Index("ix_work_study_state", "study_id", "state"),
        # In the order of claims: without it each claim sorted all the runs that wait.
        Index(
            "ix_work_next",
            "study_id",
            "round",
            "slot",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    stage: Mapped[Stage] = mapped_column(_one_of(Stage, 16))
    round: Mapped[int] = mapped_column(Integer)
    epochs: Mapped[int | None] = mapped_column(Integer)
    sweep_steps: Mapped[int | None] = mapped_column(Integer)
    slot: Mapped[int] = mapped_column(Integer)
    candidate: Mapped[int | None] = mapped_column(Integer)
    replicate: Mapped[int | None] = mapped_column(Integer)

    state: Mapped[RunState] = mapped_column(_one_of(RunState, 8), default=RunState.WAITING)
    token: Mapped[int] = mapped_column(Integer, default=0)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    # server_default: the column was added to tables that held rows.
    deaths: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    owner: Mapped[str | None] = mapped_column(Text)
    process: Mapped[str | None] = mapped_column(Text)
    beat: Mapped[int] = mapped_column(Integer, default=0)
    beat_at: Mapped[datetime | None] = mapped_column(DateTime)

    # SQL's NULL for None, which `params IS NULL` finds; JSON's null it would not.
    params: Mapped[dict[str, Value] | None] = mapped_column(JSON(none_as_null=True))
    trial_number: Mapped[int | None] = mapped_column(Integer)
    told: Mapped[bool] = mapped_column(default=False)

    optimizer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    step: Mapped[int | None] = mapped_column(Integer)
    # Deferred: 3 kB that most queries of rows have no use for; undefer() reads it.
    curve: Mapped[Curve | None] = mapped_column(StoredCurve, deferred=True)

    outcome: Mapped[RunOutcome | None] = mapped_column(String(16))
    score: Mapped[float | None] = mapped_column(Float(53))
    sealed_score: Mapped[float | None] = mapped_column(Float(53))
    diverged_step: Mapped[int | None] = mapped_column(Integer)
    diverged_lr: Mapped[float | None] = mapped_column(Float(53))
    n_steps: Mapped[int | None] = mapped_column(Integer)
    n_images: Mapped[int | None] = mapped_column(BigInteger)
    seconds: Mapped[float | None] = mapped_column(Float(53))
    device: Mapped[str | None] = mapped_column(Text)
    failure: Mapped[FailureKind | None] = mapped_column(_one_of(FailureKind, 16))
    traceback: Mapped[str | None] = mapped_column(Text)

    @property
    def length(self) -> int:
        """Epochs of a cycle, optimizer steps of a sweep."""
        length = self.sweep_steps if self.epochs is None else self.epochs
        assert length is not None
        return length

    @property
    def driven(self) -> Driven | None:
        """What is known of the optimizer of the run."""
        return None if self.optimizer is None else Driven.from_json(self.optimizer)

    @property
    def had_owner(self) -> bool:
        """Whether the present owner is not the first: each claim raises the token by one."""
        return self.token > 1


class WorkerRow(Base):
    """One worker from joining to leaving; what it trains is told by the work that it owns."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), index=True)
    process: Mapped[str | None] = mapped_column(Text)
    device: Mapped[str] = mapped_column(Text)
    waits_for: Mapped[str | None] = mapped_column(Text)
    joined_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now())


class EpochRecord(Base):
    """One epoch of a cycle (trainers.run.EpochRow); NULL is what its loop does not compute.

    `validation_accuracy` is the score of the study's metric, whatever that is.
    """

    __tablename__ = "epoch"

    work_id: Mapped[int] = mapped_column(
        ForeignKey("work.id", ondelete="CASCADE"), primary_key=True
    )
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    lr_first: Mapped[float | None] = mapped_column(Float(53))
    lr_last: Mapped[float | None] = mapped_column(Float(53))
    train_loss: Mapped[float | None] = mapped_column(Float(53))
    train_accuracy: Mapped[float | None] = mapped_column(Float(53))
    validation_loss: Mapped[float | None] = mapped_column(Float(53))
    validation_accuracy: Mapped[float | None] = mapped_column(Float(53))
    seconds: Mapped[float | None] = mapped_column(Float(53))
    images_per_s: Mapped[float | None] = mapped_column(Float(53))


class PointRecord(Base):
    """One step of a sweep, as measured; `loss` is NULL where it was not finite.

    `other_lrs` holds the rates of the second param group and those after it; NULL where `lr`,
    that of the first, is the only one.
    """

    __tablename__ = "point"

    work_id: Mapped[int] = mapped_column(
        ForeignKey("work.id", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    lr: Mapped[float] = mapped_column(Float(53))
    other_lrs: Mapped[list[float] | None] = mapped_column(JSON)
    loss: Mapped[float | None] = mapped_column(Float(53))
    grad_norm: Mapped[float | None] = mapped_column(Float(53))
