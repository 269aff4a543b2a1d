"""A study may search weight decay and batch size, with a range test for each batch size."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add columns; they are NULL for the studies that are there, which search neither."""
    op.add_column("study", sa.Column("batch_sizes", sa.JSON(), nullable=True))
    op.add_column("work", sa.Column("batch_size", sa.Integer(), nullable=True))
    op.add_column("work", sa.Column("weight_decay", sa.Float(53), nullable=True))
