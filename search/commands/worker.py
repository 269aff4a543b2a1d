"""The command worker: one more worker on a stored study."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.flags import (
    DataFlag,
    DeviceFlag,
    GpusFlag,
    StorageFlag,
    StoredFlag,
    TimeoutFlag,
    device_with,
)
from studies.states import Stage

if TYPE_CHECKING:
    pass


def worker(
    study: StoredFlag,
    storage: StorageFlag = None,
    device: DeviceFlag = "auto",
    gpus: GpusFlag = None,
    data: DataFlag = None,
    timeout_min: TimeoutFlag = None,
    until_stdin_closes: Annotated[bool, typer.Option(hidden=True)] = False,
    only: Annotated[Stage | None, typer.Option(hidden=True)] = None,
) -> None:
    """Join a stored study as one more worker."""
    from search import api
    from search.starting.slurm import coming_back

    device = device_with(gpus, device)
    with nullcontext() if until_stdin_closes else coming_back():
        api.join(
            study,
            storage=storage,
            device=device,
            data=data,
            timeout_min=timeout_min,
            until_stdin_closes=until_stdin_closes,
            only=only,
        )
