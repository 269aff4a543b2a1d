"""The command line: `python -m search COMMAND`, installed as `onecycle COMMAND`."""

from search.shadowed import check_packages

check_packages()  # before anything imports them

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from search.commands import (
    dashboard,
    db,
    delete,
    diagnose,
    doctor,
    export,
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
    help="Which max_lr, pct_start and div_factor? Range test, search and confirmation for 1cycle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

db_app = typer.Typer(help="Care for the study database.", no_args_is_help=True)
app.add_typer(db_app, name="db")

for command in (
    run.run,
    new.new,
    range_test.range_test,
    worker.worker,
    submit.submit,
    status.status,
    reap.reap,
    list.list_,
    doctor.doctor,
    delete.delete,
    trials.trials,
    report.report,
    dashboard.dashboard,
    schedule.schedule,
    diagnose.diagnose,
    export.export,
    show.show,
    train.train,
):
    app.command(name=command.__name__.rstrip("_").replace("_", "-"))(command)
db_app.command(name="upgrade")(db.db_upgrade)


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
    from search.errors import (
        EXIT_GIVEN_BACK,
        EXIT_INTERRUPTED,
        EXIT_NO_RESULT,
        EXIT_USER_ERROR,
        GivenBackError,
        NoResultError,
    )
    from search.text import printable
    from search.tracebacks import told
    from studies.errors import DatabaseUnreachableError
    from trainers.errors import UserError

    if _COMPLETION & set(sys.argv[1:2]):
        called_as = "onecycle"  # what a shell completes is the installed program
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    notes: Sequence[str] = ()
    try:
        app(prog_name=called_as)
    except DatabaseUnreachableError as error:
        code, text = EXIT_GIVEN_BACK, f"error: {error}; the same command resumes when it does"
    except UserError as error:
        code, text = EXIT_USER_ERROR, f"error: {error}"
    except NoResultError as error:
        code, text = EXIT_NO_RESULT, f"no result: {error}"
        notes = error.__notes__ if hasattr(error, "__notes__") else ()
    except GivenBackError as error:
        code, text = EXIT_GIVEN_BACK, str(error)
    except Exception as error:
        if "_ONECYCLE_COMPLETE" in os.environ:  # somebody types: no trace in the middle of it
            sys.exit(1)
        where = told(error)
        if where is None:
            raise
        code, text, notes = EXIT_USER_ERROR, f"error: {type(error).__name__}: {error}", [where]
    except SystemExit as ended:
        if ended.code != EXIT_INTERRUPTED:  # Typer's end after Ctrl-C, of which it says nothing
            raise
        code, text = EXIT_INTERRUPTED, "interrupted: the same command resumes it"
    below = (printable(note, keep="\n") for note in notes)
    print("\n".join([printable(text), *below]), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
