"""The command doctor: what a search needs here."""

from typing import Annotated

import typer

from search.commands.flags import DataFlag, DeviceFlag, JsonFlag, StorageFlag
from search.commands.layout import WHAT

EXAMPLES = ("onecycle doctor", "onecycle doctor --study digits")


def doctor(
    data: DataFlag = None,
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            help="Look for the data of this study, stored or bundled. Default: CIFAR-10.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    storage: StorageFlag = None,
    device: DeviceFlag = "auto",
    json: JsonFlag = False,
) -> None:
    """Check what a search needs here: one line each, ok or what to do. Nothing is changed."""
    from search.errors import EXIT_USER_ERROR
    from search.starting.doctor import examine, is_ready
    from search.views.terminal.checks import print_checks

    checks = examine(storage=storage, data=data, device=device, study=study)
    print_checks(checks, json=json)
    if not is_ready(checks):
        raise typer.Exit(EXIT_USER_ERROR)
