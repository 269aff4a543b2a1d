"""A search may end by itself: whether its number is exact, and where it ended."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add columns; the studies that are there train all of their configurations."""
    yes = sa.true()
    op.add_column("study", sa.Column("exact", sa.Boolean(), nullable=False, server_default=yes))
    op.add_column("study", sa.Column("search_end", sa.JSON(), nullable=True))
