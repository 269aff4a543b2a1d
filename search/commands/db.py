"""The commands db: care for the study database."""

import typer

from search.commands.flags import StorageFlag

EXAMPLES = ("onecycle db upgrade", "onecycle db upgrade --storage sqlite:///studies.db")


def db_upgrade(storage: StorageFlag = None) -> None:
    """Bring the tables of a database, ours and Optuna's, to this version; the data stays."""
    from search.starting import opening

    for done in opening.upgrade(storage):
        if done.added:
            typer.echo(f"{done.schema} schema: {', '.join(done.added)} were missing, added now")
        if done.before == done.after:
            typer.echo(f"{done.schema} schema: {done.after}, current already")
        else:
            typer.echo(f"{done.schema} schema: from {done.before or 'none'} to {done.after}")
