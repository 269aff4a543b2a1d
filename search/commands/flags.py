"""Flags that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

StorageFlag = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Database URL: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. "
        "Default: ONECYCLE_STORAGE, else a SQLite file in the user's data folder.",
        show_default=False,
    ),
]
StoredFlag = Annotated[
    str, typer.Option("--study", help="Name of a stored study.", show_default=False)
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
        help="Folder of the data: torchvision's layout, or train/<class>/* and test/<class>/*.",
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
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
