"""The command line: `python -m search COMMAND`, installed as `onecycle COMMAND`."""

from search.shadowed import check_packages

check_packages()  # before anything imports them

import atexit
import gc
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Annotated

import typer

from search.commands import (
    dashboard,
    db,
    delete,
    diagnose,
    doctor,
    export,
    layout,
    list,
    new,
    range_test,
    reap,
    report,
    run,
    schedule,
    show,
    status,
    submit,
    train,
    trials,
    worker,
)

app = typer.Typer(
    name="onecycle",
    cls=layout.Group,
    help="Which max_lr, pct_start and div_factor? Range test, search and confirmation for 1cycle.",
    epilog=layout.epilog(
        ("onecycle run --study digits", "onecycle new mine.py", "onecycle run --help")
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

db_app = typer.Typer(cls=layout.Group, help="Care for the study database.", no_args_is_help=True)

PANELS: Mapping[str, Sequence[tuple[ModuleType, Callable[..., None]]]] = {
    layout.FIRST: ((doctor, doctor.doctor), (new, new.new)),
    layout.SEARCH: (
        (run, run.run),
        (range_test, range_test.range_test),
        (worker, worker.worker),
        (submit, submit.submit),
    ),
    layout.WATCH: (
        (status, status.status),
        (trials, trials.trials),
        (list, list.list_),
        (dashboard, dashboard.dashboard),
    ),
    layout.ANSWER: (
        (report, report.report),
        (export, export.export),
        (train, train.train),
        (show, show.show),
    ),
    layout.OWN_CALL: ((schedule, schedule.schedule), (diagnose, diagnose.diagnose)),
    layout.CARE: ((reap, reap.reap), (delete, delete.delete)),
}
"""The commands as `onecycle --help` groups them: in the order of use."""

for panel, commands in PANELS.items():
    for module, command in commands:
        app.command(
            name=command.__name__.rstrip("_").replace("_", "-"),
            cls=layout.Command,
            epilog=layout.epilog(module.EXAMPLES),
            rich_help_panel=panel,
        )(command)
app.add_typer(db_app, name="db", rich_help_panel=layout.CARE)
db_app.command(name="upgrade", cls=layout.Command, epilog=layout.epilog(db.EXAMPLES))(
    db.db_upgrade
)


_COMPLETION = {"--install-completion", "--show-completion"}


def _print_version(asked: bool) -> None:
    if asked:
        from studies.format import written_by

        typer.echo(written_by())
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version, and that of the study format.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    pass


def main(called_as: str | None = None) -> None:
    """Run a command and end with its exit code (search/errors.py).

    `called_as` is the program's name in its help; None reads it off the command line.
    """
    from search.errors import EXIT_INTERRUPTED, Ending, ending_of

    # An interpreter that ends looks through all that is left for garbage. After torch those are
    # 400,000 objects, which took up to three seconds. Handlers of exits still run.
    atexit.register(gc.freeze)
    if _COMPLETION & set(sys.argv[1:2]):
        called_as = "onecycle"  # what a shell completes is the installed program
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        app(prog_name=called_as)
        return
    except Exception as error:
        if "_ONECYCLE_COMPLETE" in os.environ:  # somebody types: no trace in the middle of it
            sys.exit(1)
        told = ending_of(error)
        if told is None:
            raise
        ending = told
    except SystemExit as ended:
        if ended.code != EXIT_INTERRUPTED:  # Typer's end after Ctrl-C, of which it says nothing
            raise
        ending = Ending(EXIT_INTERRUPTED, "interrupted: the same command resumes it")
    print(ending.text, file=sys.stderr)
    sys.exit(ending.code)


if __name__ == "__main__":
    main()
