"""The command report: a finished study's answer, printed again, and its page."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.flags import JsonFlag, StorageFlag, StoredFlag
from search.commands.layout import OUTPUT

EXAMPLES = (
    "onecycle report --study digits",
    "onecycle report --study digits --html digits.html",
    "onecycle report --study digits --markdown",
)


def report(
    study: StoredFlag,
    storage: StorageFlag = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            help="Where to write the page. Default: beside the database.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown",
            help="Print a summary to paste into a merge request.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Print a finished study's answer again and write its page."""
    import sys

    from search.errors import UsageError
    from search.results.first import first_choice, has_first_choice_alone
    from search.starting import catalog, opening
    from search.views.findings import findings, shell_of
    from search.views.page.report import default_path, write_report
    from search.views.terminal import answer as terminal
    from search.views.terminal.first import print_first

    if json and markdown:
        raise UsageError("--json --markdown: stdout holds one document; take one of the two flags")
    with opening.opened(storage) as engine:
        row = catalog.find(engine, study)
        if not markdown and html is None and has_first_choice_alone(engine, row):
            print_first(first_choice(engine, row), shell_of(engine, row), json=json)
            return
        if row.stage.is_end:
            opening.settle_ended(engine, row)
        found = findings(engine, row)
        page = html or default_path(engine.url, study)
    write_report(found, page)
    if markdown:
        from search.views.summary import summary

        print(summary(found), end="")
        print(f"report: {page}", file=sys.stderr)
    else:
        terminal.print_findings(found, page, json=json)
