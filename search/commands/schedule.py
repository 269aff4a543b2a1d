"""The command schedule: the rates that a OneCycleLR call gives, and what is wrong with it."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.call_flags import (
    AccumulateFlag,
    AnnealFlag,
    BaseMomentumFlag,
    BatchSizeFlag,
    DatasetSizeFlag,
    DivFactorFlag,
    DropLastFlag,
    EpochsFlag,
    FinalDivFactorFlag,
    MaxLrFlag,
    MaxMomentumFlag,
    NoCycleMomentumFlag,
    PctStartFlag,
    StepsPerEpochFlag,
    ThreePhaseFlag,
    TotalStepsFlag,
    call_of,
)
from search.commands.flags import JsonFlag
from search.commands.layout import OUTPUT

_OPTIMIZER = "The optimizer before"
EXAMPLES = (
    "onecycle schedule --max-lr 0.01 --epochs 200 --steps-per-epoch 391",
    "onecycle schedule --max-lr 0.1 --epochs 9 --dataset-size 50000 --batch-size 64",
    "onecycle schedule --max-lr 0.1 --total-steps 3910 --lr 0.5 --strict",
)


def schedule(
    max_lr: MaxLrFlag,
    total_steps: TotalStepsFlag = None,
    epochs: EpochsFlag = None,
    steps_per_epoch: StepsPerEpochFlag = None,
    dataset_size: DatasetSizeFlag = None,
    batch_size: BatchSizeFlag = None,
    drop_last: DropLastFlag = False,
    accumulate: AccumulateFlag = 1,
    pct_start: PctStartFlag = 0.3,
    anneal_strategy: AnnealFlag = "cos",
    div_factor: DivFactorFlag = 25.0,
    final_div_factor: FinalDivFactorFlag = 1e4,
    three_phase: ThreePhaseFlag = False,
    no_cycle_momentum: NoCycleMomentumFlag = False,
    base_momentum: BaseMomentumFlag = 0.85,
    max_momentum: MaxMomentumFlag = 0.95,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            help="The lr that the optimizer was made with.",
            rich_help_panel=_OPTIMIZER,
            show_default=False,
        ),
    ] = None,
    momentum: Annotated[
        float | None,
        typer.Option(
            "--momentum",
            help="The momentum that the optimizer was made with (Adam: beta1).",
            rich_help_panel=_OPTIMIZER,
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            help="Write the curves as an HTML page.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="End with exit code 1 when the call has an error.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Preview and lint a OneCycleLR call: the rates torch applies, and what is wrong."""
    from search.errors import EXIT_NO_RESULT
    from search.views.terminal import schedule as schedule_view
    from trainers.calls.lint import Call, lint

    plan, steps = call_of(
        max_lr=max_lr,
        total_steps=total_steps,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        dataset_size=dataset_size,
        batch_size=batch_size,
        drop_last=drop_last,
        accumulate=accumulate,
        pct_start=pct_start,
        anneal_strategy=anneal_strategy,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        three_phase=three_phase,
        cycle_momentum=not no_cycle_momentum,
        base_momentum=base_momentum,
        max_momentum=max_momentum,
    )
    findings = lint(
        Call(
            schedule=plan,
            steps=steps,
            optimizer_lrs=() if lr is None else (lr,),
            optimizer_momentum=momentum,
        )
    )
    view = schedule_view.View.of(plan, steps, findings)
    if save is not None:
        schedule_view.save(view, save)
    schedule_view.print_view(view, json=json)
    if strict and any(finding.severity == "error" for finding in findings):
        raise typer.Exit(EXIT_NO_RESULT)
