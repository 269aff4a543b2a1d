"""The command delete: a stored study with all its runs."""

from typing import Annotated

import typer

from search.commands.flags import StorageFlag, StoredFlag


def delete(
    study: StoredFlag,
    storage: StorageFlag = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also while workers train it, which then end.")
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
