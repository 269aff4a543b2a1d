"""The command show: what a stored study was asked to do, as a study file."""

import typer

from search.commands.flags import StorageFlag, StoredFlag

EXAMPLES = ("onecycle show --study digits", "onecycle show --study photos-resnet18")


def show(study: StoredFlag, storage: StorageFlag = None) -> None:
    """Print a stored study's definition as a study file to go on with.

    Saved as mine.py, `--study mine.py --name NAME` resumes the same study.
    """
    import sys

    from search.results.study_file import study_file
    from search.starting import catalog
    from search.starting.opening import opened
    from search.text import printable

    with opened(storage) as engine:
        text, notes = study_file(catalog.find(engine, study))
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    typer.echo(text, nl=False)
    for note in notes:
        typer.echo(printable(note), err=True)
