"""Commands about somebody's OneCycleLR call: schedule, diagnose, export."""

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
)
from search.commands.flags import JsonFlag, StorageFlag, StoredFlag
from search.results.export import Format

_OPTIMIZER = "The optimizer before"


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
    no_cycle_momentum: Annotated[
        bool, typer.Option("--no-cycle-momentum", rich_help_panel="The call")
    ] = False,
    base_momentum: Annotated[
        float, typer.Option("--base-momentum", rich_help_panel="The call")
    ] = 0.85,
    max_momentum: Annotated[
        float, typer.Option("--max-momentum", rich_help_panel="The call")
    ] = 0.95,
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Its own lr.", rich_help_panel=_OPTIMIZER, show_default=False),
    ] = None,
    momentum: Annotated[
        float | None,
        typer.Option(
            "--momentum",
            help="Its momentum (Adam: beta1).",
            rich_help_panel=_OPTIMIZER,
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write the curves as an HTML page.", show_default=False),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 when the call has an error.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Preview and lint a OneCycleLR call: the rates torch applies, and what is wrong."""
    from search.errors import EXIT_NO_RESULT
    from search.views.terminal import schedule as schedule_view
    from trainers.calls.lint import Call, lint
    from trainers.calls.schedule import Schedule, Steps

    steps = Steps(
        total_steps=total_steps,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        dataset_size=dataset_size,
        batch_size=batch_size,
        drop_last=drop_last,
        accumulate=accumulate,
    )
    plan = Schedule(
        max_lr=max_lr,
        total_steps=steps.planned,
        pct_start=pct_start,
        anneal_strategy=anneal_strategy,
        cycle_momentum=not no_cycle_momentum,
        base_momentum=base_momentum,
        max_momentum=max_momentum,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        three_phase=three_phase,
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


def diagnose(
    max_lr: MaxLrFlag,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            help="Lines like 'Epoch 3 ... LR=0.0004', CSV, or JSON lines. Default: stdin.",
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
    from trainers.calls.schedule import Schedule, Steps

    steps = Steps(
        total_steps=total_steps,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        dataset_size=dataset_size,
        batch_size=batch_size,
        drop_last=drop_last,
        accumulate=accumulate,
    )
    plan = Schedule(
        max_lr=max_lr,
        total_steps=steps.planned,
        pct_start=pct_start,
        anneal_strategy=anneal_strategy,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        three_phase=three_phase,
    )
    text = diagnosis_view.read(log)
    diagnosis_view.print_diagnosis(diagnosed(parse(text), plan, steps), json=json)


def export(
    study: StoredFlag,
    storage: StorageFlag = None,
    form: Annotated[
        Format, typer.Option("--format", help="torch, lightning, transformers or json.")
    ] = "torch",
) -> None:
    """Print a finished study's winner as code that runs as pasted."""
    from search.results.export import exported
    from search.results.result import load_result
    from search.starting import catalog
    from search.starting.opening import opened

    with opened(storage) as engine:
        catalog.find(engine, study)
        result = load_result(engine, study)
    print(exported(result, form), end="")
