"""The command trials: every configuration of a study."""

from typing import Annotated

import typer

from search.commands.flags import StorageFlag, StoredFlag


def trials(
    study: StoredFlag,
    storage: StorageFlag = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    curves: Annotated[
        bool,
        typer.Option(
            "--curves", help="Their learning curves as CSV: a row for each epoch and some steps."
        ),
    ] = False,
) -> None:
    """Print every configuration of a study and what came of it."""
    from search.results.curves import stored_curves
    from search.results.trials import trials as trials_of_study
    from search.starting import opening
    from search.views.terminal import answer as terminal

    with opening.opened(storage) as engine:
        if curves:
            terminal.print_curves(stored_curves(engine, study))
            return
        terminal.print_trials(trials_of_study(engine, study), csv=csv)
