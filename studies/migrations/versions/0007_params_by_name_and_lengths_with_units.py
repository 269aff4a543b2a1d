"""Parameters by name in one column; a length says its unit; what nobody reads goes."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_PARAMS = ("max_lr", "pct_start", "div_factor", "weight_decay", "batch_size")
_GONE = ("readings", "screening.share")
"""Fields of the protocol that no definition has any more. One that asked for readings, or for
several lengths, still differs from every definition of today, and so is refused."""


def upgrade() -> None:
    """Move what the old columns hold; studies of several lengths keep all their cycles."""
    _study()
    _work()
    op.drop_table("reading")
    with op.batch_alter_table("point") as point:
        point.drop_column("finite")  # it said no more than loss, which is NULL then


def _study() -> None:
    op.add_column("study", sa.Column("epochs", sa.Integer(), server_default="0", nullable=False))
    study = sa.table(
        "study",
        sa.column("id", sa.String),
        sa.column("declared", sa.JSON),
        sa.column("lengths", sa.JSON),
        sa.column("epochs", sa.Integer),
    )
    connection = op.get_bind()
    for study_id, declared, lengths in connection.execute(
        sa.select(study.c.id, study.c.declared, study.c.lengths)
    ).all():
        fields = {
            name: text
            for name, text in declared.items()
            if not (name in _GONE and (name == "screening.share" or text == "None"))
        }
        epochs = lengths[-1] if lengths else 0
        connection.execute(
            study.update().where(study.c.id == study_id).values(declared=fields, epochs=epochs)
        )
    with op.batch_alter_table("study") as table:
        table.drop_column("lengths")
        table.alter_column("epochs", server_default=None)


def _work() -> None:
    for column in ("epochs", "sweep_steps"):
        op.add_column("work", sa.Column(column, sa.Integer(), nullable=True))
    op.add_column("work", sa.Column("params", sa.JSON(none_as_null=True), nullable=True))
    work = sa.table(
        "work",
        sa.column("id", sa.Integer),
        sa.column("stage", sa.String),
        *(sa.column(name, sa.Integer) for name in ("length", "epochs", "sweep_steps")),
        sa.column("params", sa.JSON(none_as_null=True)),
        *(sa.column(name, sa.Float(53)) for name in _PARAMS[:-1]),
        sa.column("batch_size", sa.Integer),
    )
    connection = op.get_bind()
    rows = connection.execute(
        sa.select(work.c.id, work.c.stage, work.c.length, *(work.c[name] for name in _PARAMS))
    ).all()
    if rows:
        connection.execute(
            work.update()
            .where(work.c.id == sa.bindparam("row"))
            .values({name: sa.bindparam(f"new_{name}") for name in ("epochs", "sweep_steps")})
            .values(params=sa.bindparam("new_params", type_=sa.JSON(none_as_null=True))),
            [_moved(row[0], row[1], row[2], tuple(row[3:])) for row in rows],
        )
    with op.batch_alter_table("work") as table:
        table.drop_constraint("uq_work_slot", type_="unique")
        for name in ("length", "attempts", *_PARAMS):
            table.drop_column(name)
        table.create_unique_constraint(
            "uq_work_slot", ["study_id", "stage", "round", "epochs", "slot"]
        )
    op.create_index(
        "uq_work_sweep",
        "work",
        ["study_id", "round", "slot"],
        unique=True,
        sqlite_where=sa.text("sweep_steps IS NOT NULL"),
        postgresql_where=sa.text("sweep_steps IS NOT NULL"),
    )


def _moved(row: int, stage: str, length: int, values: tuple[Any, ...]) -> dict[str, Any]:
    sweep = stage == "range_test"
    params = {
        name: value for name, value in zip(_PARAMS, values, strict=True) if value is not None
    }
    return {
        "row": row,
        "new_epochs": None if sweep else length,
        "new_sweep_steps": length if sweep else None,
        "new_params": params or None,
    }
