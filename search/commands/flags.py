"""Flags that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.completing import complete_stored

StorageFlag = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Database URL: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. "
        "Default: ONECYCLE_STORAGE, else a SQLite file in the user's data folder.",
        show_default=False,
    ),
]
NameFlag = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Name of the stored study. Default: the definition's.",
        show_default=False,
        autocompletion=complete_stored,
    ),
]
WorkersFlag = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Local worker processes. Default: one per GPU; on a CPU one per core.",
        show_default=False,
    ),
]
TrialsFlag = Annotated[
    str | None,
    typer.Option(
        "--trials",
        help="Configurations to try, exactly; +20 adds to a stored study. Default: at most the "
        "study's n_trials, until one more would gain too little.",
        show_default=False,
    ),
]
SeedFlag = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of a new study. Default: 0.", show_default=False),
]
StoredFlag = Annotated[
    str,
    typer.Option(
        "--study",
        help="Name of a stored study.",
        show_default=False,
        autocompletion=complete_stored,
    ),
]
DeviceFlag = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
GpusFlag = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        help="GPUs to use, by index among the visible ones: 0,1. Default: all.",
        show_default=False,
    ),
]
DataFlag = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of the data: class folders of images, or train, val and test with such; "
        "for CIFAR-10 also torchvision's layout.",
        show_default=False,
    ),
]
TimeoutFlag = Annotated[
    float | None,
    typer.Option(
        "--timeout-min",
        help="End this start after so many minutes; exit code 75 when work is left.",
        show_default=False,
    ),
]
WaitFlag = Annotated[
    float,
    typer.Option(
        "--wait-s",
        help="Wait so long for a database that does not answer; 0: not at all. Then exit code 75.",
    ),
]
TrackFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        help="Also show the study in tensorboard:DIR, mlflow:URI or wandb:PROJECT; may be "
        "repeated. Default: ONECYCLE_TRACK.",
        show_default=False,
        rich_help_panel="Where",
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def device_with(gpus: str | None, device: str) -> str:
    """Return the device to use; let this process see the named GPUs only, before torch looks."""
    from search.errors import UsageError
    from trainers.gpus import use_gpus

    if gpus is None:
        return device
    if device not in ("auto", "cuda"):
        raise UsageError(f"--gpus {gpus}: goes with --device cuda or auto, got --device {device}")
    use_gpus(gpus)
    return "cuda"
