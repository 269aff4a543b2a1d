"""What a broken cycle is worth may be measured later; an epoch may lack a loss or an accuracy."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Let the columns be NULL; what is there stays as it is."""
    with op.batch_alter_table("study") as table:
        table.alter_column("diverged_value", existing_type=sa.Float(53), nullable=True)
    with op.batch_alter_table("epoch") as table:
        for name in ("train_accuracy", "validation_loss"):
            table.alter_column(name, existing_type=sa.Float(53), nullable=True)
