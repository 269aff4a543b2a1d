"""The command worker: one more worker on a stored study."""

from contextlib import nullcontext
from typing import Annotated

import typer

from search.commands.flags import (
    DataFlag,
    DeviceFlag,
    GpusFlag,
    StorageFlag,
    StoredFlag,
    TimeoutFlag,
    TrackFlag,
    WaitFlag,
    device_with,
)
from search.workers.patience import START_PATIENCE_S
from studies.states import Stage

EXAMPLES = (
    "onecycle worker --study digits",
    "onecycle worker --study cifar --gpus 1 --timeout-min 600",
)


def worker(
    study: StoredFlag,
    data: DataFlag = None,
    timeout_min: TimeoutFlag = None,
    storage: StorageFlag = None,
    device: DeviceFlag = "auto",
    gpus: GpusFlag = None,
    wait_s: WaitFlag = START_PATIENCE_S,
    track: TrackFlag = None,
    until_stdin_closes: Annotated[bool, typer.Option(hidden=True)] = False,
    only: Annotated[Stage | None, typer.Option(hidden=True)] = None,
    definition_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    beats_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
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
            wait_s=wait_s,
            track=track,
            until_stdin_closes=until_stdin_closes,
            only=only,
            definition_fd=definition_fd,
            beats_fd=beats_fd,
        )
