"""The command export: a finished study's answer as code."""

from typing import Annotated

import typer

from search.commands.flags import StorageFlag, StoredFlag
from search.commands.layout import OUTPUT
from search.results.export import Format

EXAMPLES = (
    "onecycle export --study digits",
    "onecycle export --study digits --format lightning",
)


def export(
    study: StoredFlag,
    storage: StorageFlag = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="FORM",
            help="The form of the code: torch, lightning, transformers or json.",
            rich_help_panel=OUTPUT,
        ),
    ] = "torch",
) -> None:
    """Print a finished study's answer as code that runs as pasted.

    Of a study that has had its range test alone it is the first choice, unconfirmed.
    """
    from search.results.export import exported, exported_first
    from search.results.first import first_choice, has_first_choice_alone
    from search.results.result import load_result
    from search.starting import catalog
    from search.starting.opening import opened

    with opened(storage) as engine:
        row = catalog.find(engine, study)
        if has_first_choice_alone(engine, row):
            text = exported_first(first_choice(engine, row), form)
        else:
            text = exported(load_result(engine, study), form)
    print(text, end="")
