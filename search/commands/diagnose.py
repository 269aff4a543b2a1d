"""The command diagnose: which mistakes explain the rates in a log."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.call_flags import (
    AccumulateFlag,
    AnnealFlag,
    BatchSizeFlag,
    DatasetSizeFlag,
    DivFactorFlag,
    DropLastFlag,
    EpochsFlag,
    FinalDivFactorFlag,
    MaxLrFlag,
    PctStartFlag,
    StepsPerEpochFlag,
    ThreePhaseFlag,
    TotalStepsFlag,
    call_of,
)
from search.commands.flags import JsonFlag
from search.commands.layout import WHAT

EXAMPLES = (
    "onecycle diagnose --max-lr 0.01 --epochs 90 --steps-per-epoch 391 --log my.log",
    "grep lr train.log | onecycle diagnose --max-lr 0.1 --total-steps 3910",
)


def diagnose(
    max_lr: MaxLrFlag,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            help="The log: printed lines, tables, CSV or JSON lines (docs/diagnose.md). "
            "Default: stdin.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
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
    json: JsonFlag = False,
) -> None:
    """Say which mistakes explain the rates in a log, given the call that made them."""
    from search.views.terminal import diagnosis as diagnosis_view
    from trainers.calls.diagnose import diagnose as diagnosed
    from trainers.calls.logs import parse

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
    )
    text = diagnosis_view.read(log)
    diagnosis_view.print_diagnosis(diagnosed(parse(text), plan, steps), json=json)
