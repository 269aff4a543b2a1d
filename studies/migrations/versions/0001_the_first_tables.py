"""The first tables: study, work, epoch, point."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "study",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("declared", sa.JSON(), nullable=False),
        sa.Column("resolved", sa.JSON(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("direction", sa.String(length=8), nullable=False),
        sa.Column("metric", sa.String(length=40), nullable=False),
        sa.Column("diverged_value", sa.Float(precision=53), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("steps_per_epoch", sa.Integer(), nullable=False),
        sa.Column("n_trials", sa.Integer(), nullable=False),
        sa.Column("beat_s", sa.Float(precision=53), nullable=False),
        sa.Column("grace_s", sa.Float(precision=53), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("bugs_in_a_row", sa.Integer(), nullable=False),
        sa.Column("centre", sa.Float(precision=53), nullable=True),
        sa.Column("bracket_low", sa.Float(precision=53), nullable=True),
        sa.Column("bracket_high", sa.Float(precision=53), nullable=True),
        sa.Column("proposal", sa.Float(precision=53), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(), server_default=sa.func.now(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "work",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.String(length=36), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.Integer(), nullable=True),
        sa.Column("replicate", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("process", sa.Text(), nullable=True),
        sa.Column("beat", sa.Integer(), nullable=False),
        sa.Column("beat_at", sa.DateTime(), nullable=True),
        sa.Column("max_lr", sa.Float(precision=53), nullable=True),
        sa.Column("pct_start", sa.Float(precision=53), nullable=True),
        sa.Column("div_factor", sa.Float(precision=53), nullable=True),
        sa.Column("trial_number", sa.Integer(), nullable=True),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("score", sa.Float(precision=53), nullable=True),
        sa.Column("sealed_score", sa.Float(precision=53), nullable=True),
        sa.Column("diverged_step", sa.Integer(), nullable=True),
        sa.Column("diverged_lr", sa.Float(precision=53), nullable=True),
        sa.Column("n_steps", sa.Integer(), nullable=True),
        sa.Column("n_images", sa.BigInteger(), nullable=True),
        sa.Column("seconds", sa.Float(precision=53), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("failure", sa.String(length=16), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("study_id", "stage", "round", "length", "slot", name="uq_work_slot"),
    )
    with op.batch_alter_table("work", schema=None) as batch_op:
        batch_op.create_index("ix_work_study_state", ["study_id", "state"], unique=False)

    op.create_table(
        "epoch",
        sa.Column("work_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("lr_first", sa.Float(precision=53), nullable=False),
        sa.Column("lr_last", sa.Float(precision=53), nullable=False),
        sa.Column("train_loss", sa.Float(precision=53), nullable=False),
        sa.Column("train_accuracy", sa.Float(precision=53), nullable=False),
        sa.Column("validation_loss", sa.Float(precision=53), nullable=False),
        sa.Column("validation_accuracy", sa.Float(precision=53), nullable=False),
        sa.Column("seconds", sa.Float(precision=53), nullable=False),
        sa.Column("images_per_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("work_id", "epoch"),
    )
    op.create_table(
        "point",
        sa.Column("work_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("lr", sa.Float(precision=53), nullable=False),
        sa.Column("loss", sa.Float(precision=53), nullable=True),
        sa.Column("grad_norm", sa.Float(precision=53), nullable=True),
        sa.Column("finite", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("work_id", "step"),
    )
