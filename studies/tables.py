"""Our tables, beside Optuna's in the same database."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

VERSION_TABLE = "onecycle_alembic_version"
HEAD = "0006"


class Base(DeclarativeBase):
    """The metadata of our tables; Optuna's are not part of it."""


class StudyRow(Base):
    """One stored study: its protocol, where it stands, and its answer.

    `batch_size`, `steps_per_epoch`, `edge`, `bracket_low`, `bracket_high` and `proposal` are those
    of the baseline. `batch_sizes` holds, where several are searched, `steps_per_epoch` of each by
    its text, and `edge` and `proposal` once they are frozen.
    """

    __tablename__ = "study"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    spec: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    declared: Mapped[dict[str, str]] = mapped_column(JSON)
    resolved: Mapped[dict[str, str] | None] = mapped_column(JSON)
    seed: Mapped[int] = mapped_column(BigInteger)
    direction: Mapped[str] = mapped_column(String(8))
    metric: Mapped[str] = mapped_column(String(40))
    diverged_value: Mapped[float] = mapped_column(Float(53))
    batch_size: Mapped[int] = mapped_column(Integer)
    steps_per_epoch: Mapped[int] = mapped_column(Integer)
    batch_sizes: Mapped[dict[str, dict[str, float]] | None] = mapped_column(JSON)
    n_trials: Mapped[int] = mapped_column(Integer)
    lengths: Mapped[list[int]] = mapped_column(JSON)
    budget: Mapped[str | None] = mapped_column(String(40))
    beat_s: Mapped[float] = mapped_column(Float(53))
    grace_s: Mapped[float] = mapped_column(Float(53))
    stage: Mapped[str] = mapped_column(String(16))
    bugs_in_a_row: Mapped[int] = mapped_column(Integer, default=0)
    edge: Mapped[float | None] = mapped_column(Float(53))
    bracket_low: Mapped[float | None] = mapped_column(Float(53))
    bracket_high: Mapped[float | None] = mapped_column(Float(53))
    proposal: Mapped[float | None] = mapped_column(Float(53))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime)


class WorkRow(Base):
    """One run: who does it under which fencing token, and what came out.

    `batch_size` and `weight_decay` are NULL where the study does not search them.
    """

    __tablename__ = "work"
    __table_args__ = (
        UniqueConstraint("study_id", "stage", "round", "length", "slot", name="uq_work_slot"),
        Index("ix_work_study_state", "study_id", "state"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    stage: Mapped[str] = mapped_column(String(16))
    round: Mapped[int] = mapped_column(Integer)
    length: Mapped[int] = mapped_column(Integer)
    slot: Mapped[int] = mapped_column(Integer)
    candidate: Mapped[int | None] = mapped_column(Integer)
    replicate: Mapped[int | None] = mapped_column(Integer)

    state: Mapped[str] = mapped_column(String(8), default="waiting")
    token: Mapped[int] = mapped_column(Integer, default=0)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    deaths: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    owner: Mapped[str | None] = mapped_column(Text)
    process: Mapped[str | None] = mapped_column(Text)
    beat: Mapped[int] = mapped_column(Integer, default=0)
    beat_at: Mapped[datetime | None] = mapped_column(DateTime)

    max_lr: Mapped[float | None] = mapped_column(Float(53))
    pct_start: Mapped[float | None] = mapped_column(Float(53))
    div_factor: Mapped[float | None] = mapped_column(Float(53))
    batch_size: Mapped[int | None] = mapped_column(Integer)
    weight_decay: Mapped[float | None] = mapped_column(Float(53))
    trial_number: Mapped[int | None] = mapped_column(Integer)
    told: Mapped[bool] = mapped_column(default=False)

    outcome: Mapped[str | None] = mapped_column(String(16))
    score: Mapped[float | None] = mapped_column(Float(53))
    sealed_score: Mapped[float | None] = mapped_column(Float(53))
    diverged_step: Mapped[int | None] = mapped_column(Integer)
    diverged_lr: Mapped[float | None] = mapped_column(Float(53))
    n_steps: Mapped[int | None] = mapped_column(Integer)
    n_images: Mapped[int | None] = mapped_column(BigInteger)
    seconds: Mapped[float | None] = mapped_column(Float(53))
    device: Mapped[str | None] = mapped_column(Text)
    failure: Mapped[str | None] = mapped_column(String(16))
    traceback: Mapped[str | None] = mapped_column(Text)


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
    """One epoch of a cycle (trainers.run.EpochRow)."""

    __tablename__ = "epoch"

    work_id: Mapped[int] = mapped_column(
        ForeignKey("work.id", ondelete="CASCADE"), primary_key=True
    )
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    lr_first: Mapped[float] = mapped_column(Float(53))
    lr_last: Mapped[float] = mapped_column(Float(53))
    train_loss: Mapped[float] = mapped_column(Float(53))
    train_accuracy: Mapped[float] = mapped_column(Float(53))
    validation_loss: Mapped[float] = mapped_column(Float(53))
    validation_accuracy: Mapped[float] = mapped_column(Float(53))
    seconds: Mapped[float] = mapped_column(Float(53))
    images_per_s: Mapped[float] = mapped_column(Float(53))


class ReadingRecord(Base):
    """One look at the averaged weights inside a cycle (trainers.run.Reading)."""

    __tablename__ = "reading"

    work_id: Mapped[int] = mapped_column(
        ForeignKey("work.id", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    loss: Mapped[float] = mapped_column(Float(53))
    accuracy: Mapped[float] = mapped_column(Float(53))
    seconds: Mapped[float] = mapped_column(Float(53))


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
    finite: Mapped[bool] = mapped_column()
