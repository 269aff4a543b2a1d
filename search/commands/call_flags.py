"""Flags that are the arguments of somebody's OneCycleLR call, in torch's names, and the call."""

from typing import Annotated

import typer

from trainers.calls.schedule import Anneal, Schedule, Steps
from trainers.errors import ScheduleError

_CALL = "The call"
_STEPS = "Where its steps come from"

# torch is stepped through the whole cycle: some seconds and 100 MiB for so many.
_MOST_STEPS = 1_000_000

MaxLrFlag = Annotated[
    float,
    typer.Option("--max-lr", help="The highest rate.", rich_help_panel=_CALL, show_default=False),
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
    int | None,
    typer.Option(
        "--epochs",
        help="Epochs of the whole cycle.",
        rich_help_panel=_STEPS,
        show_default=False,
    ),
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
    int | None,
    typer.Option(
        "--batch-size",
        help="Samples of a batch in your DataLoader.",
        rich_help_panel=_STEPS,
        show_default=False,
    ),
]
DropLastFlag = Annotated[
    bool,
    typer.Option(
        "--drop-last",
        help="Your DataLoader leaves out a last batch that is not full.",
        rich_help_panel=_STEPS,
    ),
]
AccumulateFlag = Annotated[
    int,
    typer.Option("--accumulate", help="Batches of one optimizer step.", rich_help_panel=_STEPS),
]
PctStartFlag = Annotated[
    float,
    typer.Option(
        "--pct-start", help="Share of the steps that warm up, from 0 to 1.", rich_help_panel=_CALL
    ),
]
AnnealFlag = Annotated[
    Anneal,
    typer.Option(
        "--anneal-strategy",
        metavar="SHAPE",  # the words alone would leave a narrow terminal no room for the flag
        help="Shape of both phases: cos or linear.",
        rich_help_panel=_CALL,
    ),
]
DivFactorFlag = Annotated[
    float,
    typer.Option("--div-factor", help="The first rate is max_lr / this.", rich_help_panel=_CALL),
]
FinalDivFactorFlag = Annotated[
    float,
    typer.Option(
        "--final-div-factor", help="The last rate is the first rate / this.", rich_help_panel=_CALL
    ),
]
ThreePhaseFlag = Annotated[
    bool,
    typer.Option(
        "--three-phase",
        help="Fall to the first rate as slowly as it rose, then to the last.",
        rich_help_panel=_CALL,
    ),
]
NoCycleMomentumFlag = Annotated[
    bool,
    typer.Option(
        "--no-cycle-momentum",
        help="Leave the optimizer's momentum alone.",
        rich_help_panel=_CALL,
    ),
]
BaseMomentumFlag = Annotated[
    float,
    typer.Option(
        "--base-momentum", help="Momentum (Adam: beta1) at the peak.", rich_help_panel=_CALL
    ),
]
MaxMomentumFlag = Annotated[
    float,
    typer.Option(
        "--max-momentum",
        help="Momentum (Adam: beta1) at the first and the last step.",
        rich_help_panel=_CALL,
    ),
]


def call_of(
    *,
    max_lr: float,
    total_steps: int | None,
    epochs: int | None,
    steps_per_epoch: int | None,
    dataset_size: int | None,
    batch_size: int | None,
    drop_last: bool,
    accumulate: int,
    pct_start: float,
    anneal_strategy: Anneal,
    div_factor: float,
    final_div_factor: float,
    three_phase: bool,
    cycle_momentum: bool = True,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> tuple[Schedule, Steps]:
    """Return the call that the flags make, and where its steps come from.

    Raises ScheduleError for values that make none, and for a cycle too long to be stepped here.
    """
    steps = Steps(
        total_steps=total_steps,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        dataset_size=dataset_size,
        batch_size=batch_size,
        drop_last=drop_last,
        accumulate=accumulate,
    )
    schedule = Schedule(
        max_lr=max_lr,
        total_steps=steps.planned,
        pct_start=pct_start,
        anneal_strategy=anneal_strategy,
        cycle_momentum=cycle_momentum,
        base_momentum=base_momentum,
        max_momentum=max_momentum,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        three_phase=three_phase,
    )
    if schedule.total_steps > _MOST_STEPS:
        raise ScheduleError(
            f"a cycle can have at most {_MOST_STEPS:,} steps here, got {schedule.total_steps:,} "
            f"({steps.explained()}); a shorter one has the same curve"
        )
    return schedule, steps
