"""A run says what its optimizer was: its kind, its momentum, the ratios of its groups' rates."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add a column; it is NULL for the runs that are there."""
    op.add_column("work", sa.Column("optimizer", sa.JSON(), nullable=True))
