"""The command doctor: what a search needs here."""

from typing import Annotated

import typer

from search.commands.flags import DataFlag, DeviceFlag, JsonFlag, StorageFlag


def doctor(
    storage: StorageFlag = None,
    data: DataFlag = None,
    device: DeviceFlag = "auto",
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            help="Look for the data of this study, stored or bundled. Default: CIFAR-10.",
            show_default=False,
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Check what a search needs here: one line each, ok or what to do. Nothing is changed."""
    from search.errors import EXIT_USER_ERROR
    from search.starting.doctor import examine, is_ready, print_checks

    checks = examine(storage=storage, data=data, device=device, study=study)
    print_checks(checks, json=json)
    if not is_ready(checks):
        raise typer.Exit(EXIT_USER_ERROR)
