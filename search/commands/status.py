"""The command status: how a stored study stands."""

from typing import Annotated

import typer

from search.commands.flags import JsonFlag, StorageFlag, StoredFlag
from search.commands.layout import OUTPUT

EXAMPLES = (
    "onecycle status --study digits",
    "onecycle status --study digits --watch",
    "onecycle status --study digits --errors",
)


def status(
    study: StoredFlag,
    storage: StorageFlag = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Look again every 2 s until the study has ended.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    errors: Annotated[
        bool,
        typer.Option(
            "--errors",
            help="Print only what runs failed with: every distinct traceback.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonFlag = False,
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
