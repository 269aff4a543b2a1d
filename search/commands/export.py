"""The command export: a finished study's answer as code."""

from typing import Annotated

import typer

from search.commands.flags import StorageFlag, StoredFlag
from search.results.export import Format


def export(
    study: StoredFlag,
    storage: StorageFlag = None,
    form: Annotated[
        Format, typer.Option("--format", help="torch, lightning, transformers or json.")
    ] = "torch",
) -> None:
    """Print a finished study's answer as code that runs as pasted."""
    from search.results.export import exported
    from search.results.result import load_result
    from search.starting import catalog
    from search.starting.opening import opened

    with opened(storage) as engine:
        catalog.find(engine, study)
        result = load_result(engine, study)
    print(exported(result, form), end="")
