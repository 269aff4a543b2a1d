"""Flags that several commands share, by what a person asks: what, how much, where."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.completing import complete_stored
from search.commands.layout import HOW_MUCH, OUTPUT, WHAT, WHERE

StoredFlag = Annotated[
    str,
    typer.Option(
        "--study",
        help="The name of a stored study (see onecycle list).",
        rich_help_panel=WHAT,
        show_default=False,
        autocompletion=complete_stored,
    ),
]
NameFlag = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="The name that the study is stored under. Default: the definition's.",
        rich_help_panel=WHAT,
        show_default=False,
        autocompletion=complete_stored,
    ),
]
SeedFlag = Annotated[
    int | None,
    typer.Option(
        "--seed",
        help="The seed of a new study. Default: 0.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
DataFlag = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="The folder of the data: class folders of images, or train, val and test with such; "
        "for CIFAR-10 also torchvision's layout.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
TrialsFlag = Annotated[
    str | None,
    typer.Option(
        "--trials",
        help="How many configurations to try, exactly; +20 adds to a stored study. Default: at "
        "most the study's n_trials, until one more would gain too little.",
        rich_help_panel=HOW_MUCH,
        show_default=False,
    ),
]
TimeoutFlag = Annotated[
    float | None,
    typer.Option(
        "--timeout-min",
        help="End this start after so many minutes, with exit code 75 when work is left.",
        rich_help_panel=HOW_MUCH,
        show_default=False,
    ),
]
StorageFlag = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="The URL of the database: sqlite:///FILE or postgresql://... "
        "Default: ONECYCLE_STORAGE, else a SQLite file in your data folder.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]
WorkersFlag = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="How many processes work here. Default: one per GPU; on a CPU one per core.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]
DeviceFlag = Annotated[
    str,
    typer.Option(
        "--device", help="The device to train on: auto, cpu, cuda or mps.", rich_help_panel=WHERE
    ),
]
GpusFlag = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        help="The GPUs to use, by index among the visible ones, such as 0,1. Default: all.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]
WaitFlag = Annotated[
    float,
    typer.Option(
        "--wait-s",
        help="Wait so many seconds for a database that does not answer, then end with exit code "
        "75.",
        rich_help_panel=WHERE,
    ),
]
TrackFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        help="Also show the study in tensorboard:DIR, mlflow:URI or wandb:PROJECT; may be "
        "repeated. Default: ONECYCLE_TRACK.",
        rich_help_panel=WHERE,
        show_default=False,
    ),
]
JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout.", rich_help_panel=OUTPUT),
]


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
