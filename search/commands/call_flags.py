"""Flags that are the arguments of somebody's OneCycleLR call, in torch's names."""

from typing import Annotated

import typer

from trainers.calls.schedule import Anneal

_CALL = "The call"
_STEPS = "Where its steps come from"

MaxLrFlag = Annotated[
    float, typer.Option("--max-lr", help="The peak.", rich_help_panel=_CALL, show_default=False)
]
TotalStepsFlag = Annotated[
    int | None,
    typer.Option(
        "--total-steps",
        help="Optimizer steps of the cycle; or give the epochs and the steps of one.",
        rich_help_panel=_STEPS,
        show_default=False,
    ),
]
EpochsFlag = Annotated[
    int | None, typer.Option("--epochs", rich_help_panel=_STEPS, show_default=False)
]
StepsPerEpochFlag = Annotated[
    int | None,
    typer.Option(
        "--steps-per-epoch",
        help="len(train_loader): the number of batches, not the size of one.",
        rich_help_panel=_STEPS,
        show_default=False,
    ),
]
DatasetSizeFlag = Annotated[
    int | None,
    typer.Option(
        "--dataset-size",
        help="Samples of the training data; with --batch-size, the steps are counted and checked.",
        rich_help_panel=_STEPS,
        show_default=False,
    ),
]
BatchSizeFlag = Annotated[
    int | None, typer.Option("--batch-size", rich_help_panel=_STEPS, show_default=False)
]
DropLastFlag = Annotated[
    bool,
    typer.Option("--drop-last", help="As in your DataLoader.", rich_help_panel=_STEPS),
]
AccumulateFlag = Annotated[
    int,
    typer.Option("--accumulate", help="Batches to one optimizer step.", rich_help_panel=_STEPS),
]
PctStartFlag = Annotated[float, typer.Option("--pct-start", rich_help_panel=_CALL)]
AnnealFlag = Annotated[
    Anneal, typer.Option("--anneal-strategy", help="cos or linear.", rich_help_panel=_CALL)
]
DivFactorFlag = Annotated[
    float,
    typer.Option("--div-factor", help="First rate: max_lr / this.", rich_help_panel=_CALL),
]
FinalDivFactorFlag = Annotated[
    float,
    typer.Option(
        "--final-div-factor", help="Last rate: the first rate / this.", rich_help_panel=_CALL
    ),
]
ThreePhaseFlag = Annotated[bool, typer.Option("--three-phase", rich_help_panel=_CALL)]
