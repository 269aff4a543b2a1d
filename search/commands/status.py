"""The command status: how a stored study stands."""

from typing import Annotated

import typer

from search.commands.flags import JsonFlag, StorageFlag, StoredFlag


def status(
    study: StoredFlag,
    storage: StorageFlag = None,
    json: JsonFlag = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every 2 s until the study has ended.")
    ] = False,
    errors: Annotated[
        bool,
        typer.Option("--errors", help="Only what runs failed with: every distinct traceback."),
    ] = False,
) -> None:
    """Print what is done, runs, waits and failed; nothing is changed."""
    from search.errors import UsageError
    from search.starting import opening
    from search.views.terminal import status as monitor

    if json and watch:
        raise UsageError("--json --watch: one document or many looks; take one of the two flags")
    if errors and watch:
        raise UsageError("--errors --watch: tracebacks once or many looks; take one of the two")
    with opening.opened(storage) as engine:
        if errors:
            monitor.print_errors(engine, study, json=json)
        elif watch:
            monitor.watch_status(engine, study)
        else:
            monitor.print_status(engine, study, json=json)
