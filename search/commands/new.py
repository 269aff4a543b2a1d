"""The command new: a study file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.layout import WHAT

EXAMPLES = ("onecycle new mine.py", "onecycle new mine.py --lightning")


def new(
    file: Annotated[
        Path,
        typer.Argument(
            help="The file to write, such as mine.py.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ],
    training: Annotated[
        bool,
        typer.Option(
            "--training",
            help="Write one for any PyTorch model and data, which is the default.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    lightning: Annotated[
        bool,
        typer.Option(
            "--lightning",
            help="Write one for a LightningModule, by Lightning's Trainer.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    transformers: Annotated[
        bool,
        typer.Option(
            "--transformers",
            help="Write one for a model of Transformers, by its own Trainer.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="Write one for image classification, the images in memory.",
            rich_help_panel=WHAT,
        ),
    ] = False,
) -> None:
    """Write a study file that runs as it is, and says what to replace in it."""
    from search.errors import UsageError
    from search.starting.study_files import KINDS, write_study_file
    from search.text import printable, shell_line

    asked = dict(zip(KINDS, (training, lightning, transformers, images), strict=True))
    chosen = [kind for kind, is_asked in asked.items() if is_asked] or ["training"]
    if len(chosen) > 1:
        flags = " ".join(f"--{kind}" for kind in chosen)
        raise UsageError(f"{flags}: a study file is of one kind; take one of these flags")
    write_study_file(file, chosen[0])
    run = shell_line("python", "-m", "search.run", "--study", str(file))
    typer.echo(printable(f"written: {file}; run it: {run}"), err=True)
