"""The command line: `python -m search COMMAND`, installed as `onecycle COMMAND`."""

import logging
import sys

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
    add_completion=False,
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
    train.train,
):
    app.command(name=command.__name__.rstrip("_").replace("_", "-"))(command)
db_app.command(name="upgrade")(db.db_upgrade)


def main(called_as: str | None = None) -> None:
    """Run a command and end with its exit code (search/errors.py).

    `called_as` is the program's name in its help; None reads it off the command line.
    """
    from search.errors import EXIT_INTERRUPTED, Ending, ending_of

    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        app(prog_name=called_as)
        return
    except Exception as error:
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
