"""The command trials: every configuration of a study."""

from typing import Annotated

import typer

from search.commands.flags import StorageFlag, StoredFlag
from search.commands.layout import OUTPUT

EXAMPLES = (
    "onecycle trials --study digits",
    "onecycle trials --study digits --csv",
)


def trials(
    study: StoredFlag,
    storage: StorageFlag = None,
    csv: Annotated[
        bool,
        typer.Option(
            "--csv",
            help="Print every column as comma-separated values.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    curves: Annotated[
        bool,
        typer.Option(
            "--curves",
            help="Print their learning curves as CSV: a row for each epoch and some steps.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Print every configuration of a study and what came of it."""
    from search.results.curves import stored_curves
    from search.results.trials import trials as trials_of_study
    from search.starting import opening
    from search.views.terminal.trials import print_curves, print_trials

    with opening.opened(storage) as engine:
        if curves:
            print_curves(stored_curves(engine, study))
            return
        print_trials(trials_of_study(engine, study), csv=csv)
