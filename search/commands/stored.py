"""Commands that look after what is stored: studies, their runs, the database."""

from typing import Annotated

import typer

from search.commands.flags import DataFlag, DeviceFlag, JsonFlag, StorageFlag, StoredFlag


def status(
    study: StoredFlag,
    storage: StorageFlag = None,
    json: JsonFlag = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every 2 s until the study has ended.")
    ] = False,
) -> None:
    """Print what is done, runs, waits and failed; nothing is changed."""
    from search.errors import UsageError
    from search.starting import opening
    from search.views import monitor

    if json and watch:
        raise UsageError("--json --watch: one document or many looks; take one of the two flags")
    with opening.opened(storage) as engine:
        if watch:
            monitor.watch_status(engine, study)
        else:
            monitor.print_status(engine, study, json=json)


def reap(study: StoredFlag, storage: StorageFlag = None) -> None:
    """Give back the runs of workers that are gone, after watching them for the grace time."""
    from search.queue import reaper
    from search.starting import catalog, opening
    from search.views import monitor

    with opening.opened(storage) as engine:
        row = catalog.find(engine, study)
        held = reaper.running(engine, row)
        typer.echo(f"watching {len(held)} run(s) for up to {row.grace_s:g} s", err=True)
        given_back = reaper.reap(engine, row, held)
    monitor.print_reaped(given_back, n_watched=len(held))


def list_(storage: StorageFlag = None) -> None:
    """List the stored studies."""
    from search.starting import catalog, opening
    from search.views import terminal

    with opening.opened(storage) as engine:
        terminal.print_studies(catalog.listing(engine))


def doctor(
    storage: StorageFlag = None,
    data: DataFlag = None,
    device: DeviceFlag = "auto",
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            help="Look for the data of this study, stored or bundled. Default: CIFAR-10.",
            show_default=False,
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Check what a search needs here: one line each, ok or what to do. Nothing is changed."""
    from search.errors import EXIT_USER_ERROR
    from search.starting.doctor import examine, is_ready, print_checks

    checks = examine(storage=storage, data=data, device=device, study=study)
    print_checks(checks, json=json)
    if not is_ready(checks):
        raise typer.Exit(EXIT_USER_ERROR)


def db_upgrade(storage: StorageFlag = None) -> None:
    """Bring the tables of a database, ours and Optuna's, to this version; the data stays."""
    from search.starting import opening

    for done in opening.upgrade(storage):
        if done.before == done.after:
            typer.echo(f"{done.schema} schema: {done.after}, current already")
        else:
            typer.echo(f"{done.schema} schema: from {done.before or 'none'} to {done.after}")


def delete(
    study: StoredFlag,
    storage: StorageFlag = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a stored study with all its runs."""
    from search.starting import catalog, opening

    with opening.opened(storage) as engine:
        catalog.find(engine, study)
        if not yes:
            typer.confirm(f"Delete study {study!r} with all its runs?", abort=True)
        catalog.delete(engine, study)
    typer.echo(f"study {study!r} deleted", err=True)


def trials(
    study: StoredFlag,
    storage: StorageFlag = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
) -> None:
    """Print every configuration of a study and what came of it."""
    from search.starting import catalog, opening
    from search.views import terminal

    with opening.opened(storage) as engine:
        terminal.print_trials(catalog.trials(engine, study), csv=csv)
