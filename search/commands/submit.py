"""The command submit: workers as a Slurm array."""

from typing import Annotated

import typer

from search.commands.flags import (
    DataFlag,
    NameFlag,
    SeedFlag,
    StorageFlag,
    TrackFlag,
    TrialsFlag,
)
from search.commands.layout import HOW_MUCH, OUTPUT, WHERE
from search.commands.what_flags import What, asks_what

EXAMPLES = (
    "onecycle submit --study cifar --workers 8 --gpus-per-worker 1 --dry-run",
    "onecycle submit --study mine.py --sbatch=--account=ml --time-min 240",
)


@asks_what
def submit(
    what: What,
    name: NameFlag = None,
    data: DataFlag = None,
    seed: SeedFlag = None,
    trials: TrialsFlag = None,
    time_min: Annotated[
        int,
        typer.Option(
            "--time-min",
            help="The time limit in minutes; a worker that meets it comes back.",
            rich_help_panel=HOW_MUCH,
        ),
    ] = 60,
    storage: StorageFlag = None,
    track: TrackFlag = None,
    workers: Annotated[
        int,
        typer.Option("--workers", help="How many tasks the array has.", rich_help_panel=WHERE),
    ] = 4,
    gpus_per_worker: Annotated[
        int,
        typer.Option(
            "--gpus-per-worker",
            help="The GPUs of each worker: 1, or 0 to train on the CPU.",
            rich_help_panel=WHERE,
        ),
    ] = 0,
    cpus_per_worker: Annotated[
        int,
        typer.Option(
            "--cpus-per-worker",
            help="The cores of each worker, and its threads.",
            rich_help_panel=WHERE,
        ),
    ] = 1,
    partition: Annotated[
        str | None,
        typer.Option(
            "--partition",
            help="The partition of the cluster. Default: the cluster's own.",
            rich_help_panel=WHERE,
            show_default=False,
        ),
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            "--sbatch",
            help="One more option of sbatch (see the examples); may be repeated.",
            rich_help_panel=WHERE,
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the batch script, and store and submit nothing.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Store a study and submit workers on it to Slurm; a study that has ended is left alone."""
    from search import api
    from search.starting.slurm import Batch

    batch = Batch(
        workers=workers,
        time_min=time_min,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        partition=partition,
        sbatch=tuple(sbatch or ()),
    )
    call = api.submitted_script if dry_run else api.submit
    told = call(
        what.definition(data),
        batch,
        storage=storage,
        name=name,
        trials=trials,
        seed=seed,
        data=data,
        track=track,
    )
    if dry_run:
        typer.echo(told, nl=False)
        return
    if told is not None:
        typer.echo(
            f"{workers} worker(s) are queued; `scancel JOB` takes them back, job:", err=True
        )
        typer.echo(told)
