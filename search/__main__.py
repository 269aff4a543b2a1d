"""The command line: `python -m search COMMAND`, installed as `onecycle COMMAND`."""

import logging
import sys
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from search.result import StudyResult

app = typer.Typer(
    name="onecycle",
    help="Which max_lr, pct_start and div_factor? Range test, search and confirmation for 1cycle.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

db_app = typer.Typer(help="Care for the study database.", no_args_is_help=True)
app.add_typer(db_app, name="db")

StorageFlag = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Database URL: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. "
        "Default: ONECYCLE_STORAGE, else a SQLite file in the user's data folder.",
        show_default=False,
    ),
]
StoredFlag = Annotated[
    str, typer.Option("--study", help="Name of a stored study.", show_default=False)
]
DeviceFlag = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
GpusFlag = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        help="GPUs to use, by index among the visible ones: 0,1. Default: all.",
        show_default=False,
    ),
]
DataFlag = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of the data: torchvision's layout, or train/<class>/* and test/<class>/*.",
        show_default=False,
    ),
]
TimeoutFlag = Annotated[
    float | None,
    typer.Option(
        "--timeout-min",
        help="End this start after so many minutes; exit code 75 when work is left.",
        show_default=False,
    ),
]


@app.command()
def run(
    study: Annotated[
        str,
        typer.Option(
            "--study",
            help="digits, cifar-small, cifar, or the path of your own study file.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Name of the stored study. Default: the definition's.",
            show_default=False,
        ),
    ] = None,
    storage: StorageFlag = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Local worker processes. Default: one per GPU; on a CPU one per core.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials", help="Configurations to try. Default: the study's.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed of a new study. Default: 0.", show_default=False),
    ] = None,
    device: DeviceFlag = "auto",
    gpus: GpusFlag = None,
    data: DataFlag = None,
    timeout_min: TimeoutFlag = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Where to write the page. Default: beside the database.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its cost; store nothing.")
    ] = False,
) -> None:
    """Search: range test, trials, confirmation, report. Started again, it goes on."""
    from search import api, terminal
    from search.progress import Progress

    device = _device_with(gpus, device)
    if dry_run:
        started = api.plan(study, trials=trials, workers=workers, device=device, data=data)
        terminal.print_plan(started, json=json)
        return
    if report is not None:
        _check_page(report)
    with Progress() as progress:
        result = api.run(
            study,
            storage=storage,
            name=name,
            workers=workers,
            trials=trials,
            seed=seed,
            device=device,
            data=data,
            timeout_min=timeout_min,
            watch=progress.watch,
        )
    _print_result(result, storage, page=report, json=json, keep_page=report is None)


@app.command()
def worker(
    study: StoredFlag,
    storage: StorageFlag = None,
    device: DeviceFlag = "auto",
    gpus: GpusFlag = None,
    data: DataFlag = None,
    timeout_min: TimeoutFlag = None,
    until_stdin_closes: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Join a stored study as one more worker."""
    from search import api

    device = _device_with(gpus, device)
    api.join(
        study,
        storage=storage,
        device=device,
        data=data,
        timeout_min=timeout_min,
        until_stdin_closes=until_stdin_closes,
    )


@app.command()
def status(
    study: StoredFlag,
    storage: StorageFlag = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every 2 s until the study has ended.")
    ] = False,
) -> None:
    """Print what is done, runs, waits and failed; nothing is changed."""
    from search import api, monitor
    from search.errors import UsageError

    if json and watch:
        raise UsageError("--json --watch: one document or many looks; take one of the two flags")
    with api.opened(storage) as engine:
        if watch:
            monitor.watch_status(engine, study)
        else:
            monitor.print_status(engine, study, json=json)


@app.command()
def reap(study: StoredFlag, storage: StorageFlag = None) -> None:
    """Give back the runs of workers that are gone, after watching them for the grace time."""
    from search import api, catalog, monitor, reaper

    with api.opened(storage) as engine:
        row = catalog.find(engine, study)
        held = reaper.running(engine, row)
        typer.echo(f"watching {len(held)} run(s) for up to {row.grace_s:g} s", err=True)
        given_back = reaper.reap(engine, row, held)
    monitor.print_reaped(given_back, n_watched=len(held))


@app.command(name="list")
def list_(storage: StorageFlag = None) -> None:
    """List the stored studies."""
    from search import api, catalog, terminal

    with api.opened(storage) as engine:
        terminal.print_studies(catalog.listing(engine))


@app.command()
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
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check what a search needs here: one line each, ok or what to do. Nothing is changed."""
    from search.doctor import examine, is_ready, print_checks
    from search.errors import EXIT_USER_ERROR

    checks = examine(storage=storage, data=data, device=device, study=study)
    print_checks(checks, json=json)
    if not is_ready(checks):
        raise typer.Exit(EXIT_USER_ERROR)


@db_app.command(name="upgrade")
def db_upgrade(storage: StorageFlag = None) -> None:
    """Bring the tables of a database, ours and Optuna's, to this version; the data stays."""
    from search import api

    for done in api.upgrade(storage):
        if done.before == done.after:
            typer.echo(f"{done.schema} schema: {done.after}, current already")
        else:
            typer.echo(f"{done.schema} schema: from {done.before or 'none'} to {done.after}")


@app.command()
def delete(
    study: StoredFlag,
    storage: StorageFlag = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a stored study with all its runs."""
    from search import api, catalog

    with api.opened(storage) as engine:
        catalog.find(engine, study)
        if not yes:
            typer.confirm(f"Delete study {study!r} with all its runs?", abort=True)
        catalog.delete(engine, study)
    typer.echo(f"study {study!r} deleted", err=True)


@app.command()
def trials(
    study: StoredFlag,
    storage: StorageFlag = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
) -> None:
    """Print every configuration of a study and what came of it."""
    from search import api, catalog, terminal

    with api.opened(storage) as engine:
        terminal.print_trials(catalog.trials(engine, study), csv=csv)


@app.command()
def report(
    study: StoredFlag,
    storage: StorageFlag = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Where to write the page.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Print a finished study's answer again and write its page."""
    from search import api, catalog
    from search.result import load_result
    from search.work import ENDED

    with api.opened(storage) as engine:
        row = catalog.find(engine, study)
        if row.stage in ENDED:
            api.settle_ended(engine, row)
        result = load_result(engine, study)
    _print_result(result, storage, page=html, json=json, keep_page=False)


def _print_result(
    result: "StudyResult",
    storage: str | None,
    *,
    page: Path | None,
    json: bool,
    keep_page: bool,
) -> None:
    from search import api, terminal
    from search.report import default_path, write_report
    from studies.database import storage_url

    path = page or default_path(storage_url(storage), result.name)
    with api.opened(storage) as engine:
        if not (keep_page and _is_current(path, engine, result.name)):
            write_report(engine, result, path)
    terminal.print_result(result, path, json=json)


def _device_with(gpus: str | None, device: str) -> str:
    """Return the device to use; let this process see the named GPUs only, before torch looks."""
    from search.errors import UsageError
    from trainers.gpus import use_gpus

    if gpus is None:
        return device
    if device not in ("auto", "cuda"):
        raise UsageError(f"--gpus {gpus}: goes with --device cuda or auto, got --device {device}")
    use_gpus(gpus)
    return "cuda"


def _check_page(page: Path) -> None:
    """Refuse a page that cannot be written before the search is paid for."""
    from search.errors import UsageError

    if page.is_dir() or any(folder.exists() and not folder.is_dir() for folder in page.parents):
        raise UsageError(
            f"--report {page}: must be a file in a folder that is there or can be made"
        )


def _is_current(page: Path, engine: "Engine", name: str) -> bool:
    """Whether a page is there that was written after the study had ended."""
    from search import catalog

    ended = catalog.find(engine, name).finished_at
    assert ended is not None
    return page.is_file() and page.stat().st_mtime >= ended.replace(tzinfo=UTC).timestamp()


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
    from trainers.errors import UserError

    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        app(prog_name=called_as)
    except UserError as error:
        code, text = EXIT_USER_ERROR, f"error: {error}"
    except NoResultError as error:
        code, text = EXIT_NO_RESULT, f"no result: {error}"
    except GivenBackError as error:
        code, text = EXIT_GIVEN_BACK, str(error)
    except SystemExit as ended:
        if ended.code != EXIT_INTERRUPTED:  # Typer's end after Ctrl-C, of which it says nothing
            raise
        code, text = EXIT_INTERRUPTED, "interrupted: the same command goes on"
    print(text, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
