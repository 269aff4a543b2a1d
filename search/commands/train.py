"""The command train: the final model of a study, its weights with what they are."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.flags import (
    DataFlag,
    DeviceFlag,
    GpusFlag,
    JsonFlag,
    StorageFlag,
    TimeoutFlag,
    WaitFlag,
    device_with,
)
from search.commands.layout import HOW_MUCH, OUTPUT, WHAT
from search.workers.patience import START_PATIENCE_S

EXAMPLES = (
    "onecycle train --study digits --out model.pt",
    "onecycle train --study digits --out model.pt --seeds 5",
    "onecycle train --study digits --out model.pt --on train+validation",
    "onecycle train --study digits --out slot3.pt --slot 3",
)


def train(
    study: Annotated[
        str,
        typer.Option(
            "--name",
            "--study",
            help="The name of a stored study (see onecycle list).",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Where the weights go: model.pt. Their facts are in model.pt.json.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ],
    slot: Annotated[
        int | None,
        typer.Option(
            "--slot",
            help="Train this configuration (see trials). Default: what the study recommends.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline",
            help="Train torch's defaults at the proposal.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    on: Annotated[
        str,
        typer.Option(
            "--on",
            help="The data: train or train+validation; the latter is scored on the test split "
            "alone.",
            rich_help_panel=WHAT,
        ),
    ] = "train",
    data: DataFlag = None,
    changed: Annotated[
        bool,
        typer.Option(
            "--changed",
            help="Take the study file as it is, changed code since the search or not.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            help="The seed of the first model. Default: one that no run of the study had.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            help="Train so many models: model.seed0.pt, model.seed1.pt and so on.",
            rich_help_panel=HOW_MUCH,
        ),
    ] = 1,
    timeout_min: TimeoutFlag = None,
    storage: StorageFlag = None,
    device: DeviceFlag = "auto",
    gpus: GpusFlag = None,
    wait_s: WaitFlag = START_PATIENCE_S,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Overwrite another model that is there.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Train the final model of a study: its weights, their score, their parameters.

    Load it:

    \b
    from trainers.final import load_final
    model, facts = load_final("model.pt", "trainers.models:digits_net")
    """
    from search import api
    from search.final.asked import trained_on
    from search.starting.slurm import coming_back
    from search.views.terminal.final import print_models, shown

    device = device_with(gpus, device)
    with coming_back(), shown() as watch:
        models = api.train(
            study,
            out,
            storage=storage,
            slot=slot,
            baseline=baseline,
            on=trained_on(on),
            seeds=seeds,
            seed=seed,
            force=force,
            changed=changed,
            device=device,
            data=data,
            timeout_min=timeout_min,
            wait_s=wait_s,
            watch=watch,
        )
    print_models(models, json=json)
