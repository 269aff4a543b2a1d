"""A run says how far it is and how it learns; an epoch may lack what its loop does not compute."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_WERE_ASKED_FOR = (
    "lr_first",
    "lr_last",
    "train_loss",
    "validation_accuracy",
    "seconds",
    "images_per_s",
)


def upgrade() -> None:
    """Add columns, NULL for the runs that are there, and let others be NULL."""
    op.add_column("work", sa.Column("step", sa.Integer(), nullable=True))
    op.add_column("work", sa.Column("curve", sa.JSON(), nullable=True))
    with op.batch_alter_table("epoch") as table:
        for name in _WERE_ASKED_FOR:
            table.alter_column(name, existing_type=sa.Float(53), nullable=True)
