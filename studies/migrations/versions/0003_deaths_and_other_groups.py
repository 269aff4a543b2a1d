"""How often the owner of a run died; the rates of the other param groups of a sweep."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("work", sa.Column("deaths", sa.Integer(), server_default="0", nullable=False))
    op.add_column("point", sa.Column("other_lrs", sa.JSON(), nullable=True))
