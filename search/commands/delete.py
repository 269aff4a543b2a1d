"""The command delete: a stored study with all its runs."""

from typing import Annotated

import typer

from search.commands.flags import StorageFlag, StoredFlag
from search.commands.layout import OUTPUT, WHAT

EXAMPLES = ("onecycle delete --study digits", "onecycle delete --study digits --yes")


def delete(
    study: StoredFlag,
    storage: StorageFlag = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Delete it without asking.", rich_help_panel=OUTPUT),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Delete it also while workers train it, which then end.",
            rich_help_panel=WHAT,
        ),
    ] = False,
) -> None:
    """Delete a stored study with all its runs."""
    from search.starting import catalog, opening

    with opening.opened(storage) as engine:
        catalog.find(engine, study)
        if not force:
            catalog.check_unused(engine, study)
        if not yes:
            typer.confirm(f"Delete study {study!r} with all its runs?", abort=True)
        catalog.delete(engine, study)
    typer.echo(f"study {study!r} deleted", err=True)
