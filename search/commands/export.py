"""The command export: a finished study's answer as code, or any study to a tracker."""

from typing import Annotated

import typer

from search.commands.flags import StorageFlag, StoredFlag
from search.commands.layout import OUTPUT, WHERE
from search.results.export import Format

EXAMPLES = (
    "onecycle export --study digits",
    "onecycle export --study digits --format lightning",
    "onecycle export --study digits --to tensorboard:runs",
)


def export(
    study: StoredFlag,
    storage: StorageFlag = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="FORM",
            help="The form of the code: torch, lightning, transformers or json.",
            rich_help_panel=OUTPUT,
            show_default="torch",
        ),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            help="Send the study, finished or not, with all its curves, to tensorboard:DIR, "
            "mlflow:URI or wandb:PROJECT; may be repeated. What is there is not sent again.",
            rich_help_panel=WHERE,
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="With --to: stay, and send what comes, to the end.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    until_stdin_closes: Annotated[
        bool, typer.Option(hidden=True, help="With --follow: stay until our stdin is closed.")
    ] = False,
) -> None:
    """Print a finished study's answer as code that runs as pasted; or send it to a tracker.

    Of a study that has had its range test alone it is the first choice, unconfirmed.
    """
    if to or follow:
        _send(study, storage, form, to=to, follow=follow, until_stdin_closes=until_stdin_closes)
        return
    from search.results.export import exported, exported_first
    from search.results.first import first_choice, has_first_choice_alone
    from search.results.result import load_result
    from search.starting import catalog
    from search.starting.opening import opened

    form = form or "torch"
    with opened(storage) as engine:
        row = catalog.find(engine, study)
        if has_first_choice_alone(engine, row):
            text = exported_first(first_choice(engine, row), form)
        else:
            text = exported(load_result(engine, study), form)
    print(text, end="")


def _send(
    study: str,
    storage: str | None,
    form: Format | None,
    *,
    to: list[str] | None,
    follow: bool,
    until_stdin_closes: bool,
) -> None:
    from functools import partial

    from search import api
    from search.errors import UsageError

    if form is not None:
        raise UsageError(f"--format {form}: a tracker takes the study as it is; leave it out")
    api.send(
        study,
        to,
        storage=storage,
        follow=follow,
        until_stdin_closes=until_stdin_closes,
        say=partial(print, flush=True),
    )
