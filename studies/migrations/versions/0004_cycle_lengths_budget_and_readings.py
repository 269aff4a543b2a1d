"""The cycle lengths of a study, the budget it was made with, readings inside cycles."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add columns and table; the studies that are there have one length."""
    op.add_column("study", sa.Column("lengths", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("study", sa.Column("budget", sa.String(length=40), nullable=True))
    op.create_table(
        "reading",
        sa.Column("work_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Float(53), nullable=False),
        sa.Column("accuracy", sa.Float(53), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("work_id", "step"),
    )
    study = sa.table(
        "study",
        sa.column("id", sa.String),
        sa.column("declared", sa.JSON),
        sa.column("lengths", sa.JSON),
    )
    connection = op.get_bind()
    for study_id, declared in connection.execute(sa.select(study.c.id, study.c.declared)).all():
        epochs = (declared or {}).get("screening.epochs")
        lengths = [json.loads(epochs)] if epochs else []
        connection.execute(study.update().where(study.c.id == study_id).values(lengths=lengths))
