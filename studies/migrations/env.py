"""Alembic's entry: runs our migrations on the connection it is given, under our version table."""

from alembic import context

from studies.tables import VERSION_TABLE, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    include_object=lambda item, name, kind, reflected, other: (
        not (kind == "table" and reflected and other is None)
    ),
)
with context.begin_transaction():
    context.run_migrations()
