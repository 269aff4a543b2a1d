"""A study keeps the edge that its range test measured; before, the median rebound."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Rename the column; what older studies hold there is still the centre of their bracket."""
    op.execute("ALTER TABLE study RENAME COLUMN centre TO edge")
