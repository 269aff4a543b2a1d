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
from search.commands.what_flags import What, asks_what


@asks_what
def submit(
    what: What,
    name: NameFlag = None,
    storage: StorageFlag = None,
    trials: TrialsFlag = None,
    seed: SeedFlag = None,
    data: DataFlag = None,
    track: TrackFlag = None,
    workers: Annotated[int, typer.Option("--workers", help="Tasks of the array.")] = 4,
    gpus_per_worker: Annotated[
        int, typer.Option("--gpus-per-worker", help="1, or 0 to train on the CPU.")
    ] = 0,
    cpus_per_worker: Annotated[
        int, typer.Option("--cpus-per-worker", help="Cores, and threads, of each.")
    ] = 1,
    time_min: Annotated[
        int,
        typer.Option(
            "--time-min", help="Time limit in minutes; a worker that meets it comes back."
        ),
    ] = 60,
    partition: Annotated[
        str | None, typer.Option("--partition", help="Default: the cluster's.", show_default=False)
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            "--sbatch",
            help="One more option of sbatch, as --sbatch=--account=ml; may be repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the batch script; store and submit nothing.")
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
    study = what.definition(data)
    if dry_run:
        script = api.submitted_script(
            study,
            batch,
            storage=storage,
            name=name,
            trials=trials,
            seed=seed,
            data=data,
            track=track,
        )
        typer.echo(script, nl=False)
        return
    job = api.submit(
        study,
        batch,
        storage=storage,
        name=name,
        trials=trials,
        seed=seed,
        data=data,
        track=track,
    )
    if job is not None:
        typer.echo(
            f"{workers} worker(s) are queued; `scancel JOB` takes them back, job:", err=True
        )
        typer.echo(job)
