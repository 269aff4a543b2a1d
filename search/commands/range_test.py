"""The command range-test: the first stage of a study, alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.flags import (
    DataFlag,
    DeviceFlag,
    GpusFlag,
    JsonFlag,
    NameFlag,
    SeedFlag,
    StorageFlag,
    TimeoutFlag,
    TrackFlag,
    WaitFlag,
    WorkersFlag,
    device_with,
)
from search.commands.layout import HOW_MUCH, OUTPUT, WHAT
from search.commands.what_flags import What, asks_what
from search.workers.patience import START_PATIENCE_S

if TYPE_CHECKING:
    from trainers.sweeps.result import RangeTestResult

EXAMPLES = (
    "onecycle range-test --study digits",
    "onecycle range-test --study mine.py --save curve.html",
    "onecycle range-test --study digits --sweeps 3 --steps 400 --name digits-long",
)


@asks_what
def range_test(
    what: What,
    name: NameFlag = None,
    data: DataFlag = None,
    seed: SeedFlag = None,
    start_lr: Annotated[
        float | None,
        typer.Option(
            "--start-lr",
            help="The first rate of a sweep.",
            rich_help_panel=WHAT,
            show_default="the study's",
        ),
    ] = None,
    end_lr: Annotated[
        float | None,
        typer.Option(
            "--end-lr",
            help="The last rate of a sweep.",
            rich_help_panel=WHAT,
            show_default="the study's",
        ),
    ] = None,
    sweeps: Annotated[
        int | None,
        typer.Option(
            "--sweeps",
            help="How many independent sweeps, at most.",
            rich_help_panel=HOW_MUCH,
            show_default="the study's",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            help="How many optimizer steps a sweep has.",
            rich_help_panel=HOW_MUCH,
            show_default="the study's",
        ),
    ] = None,
    timeout_min: TimeoutFlag = None,
    storage: StorageFlag = None,
    workers: WorkersFlag = None,
    device: DeviceFlag = "auto",
    gpus: GpusFlag = None,
    wait_s: WaitFlag = START_PATIENCE_S,
    track: TrackFlag = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            help="Write the curves as a page (curve.html) or every step (points.csv).",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Measure the bracket and a proposal for max_lr: a search's first stage, alone.

    Two sweeps that agree are enough. What it measures is stored, and a search
    of the study continues from there. --sweeps, --steps and the rates make it
    another study, which takes a --name. Batch sizes that the study searches
    have one each; --save then writes a file for each.
    """
    from search import api
    from search.views.terminal.progress import Progress

    device = device_with(gpus, device)
    if save is not None:
        _check_save(save)
    with Progress() as progress:
        result = api.range_test(
            what.definition(data),
            storage=storage,
            name=name,
            workers=workers,
            sweeps=sweeps,
            steps=steps,
            start_lr=start_lr,
            end_lr=end_lr,
            seed=seed,
            device=device,
            data=data,
            timeout_min=timeout_min,
            wait_s=wait_s,
            track=track,
            watch=progress.watch,
        )
    if save is not None:
        from search.text import file_name

        _save(result, save)
        for key, other in result.others.items():
            _save(other, save.with_stem(file_name(f"{save.stem}-{key.replace(' ', '-')}")))
    _print(result, json=json)


def _check_save(file: Path) -> None:
    """Refuse a file that cannot be written before the sweeps are paid for."""
    from search.errors import UsageError
    from search.starting.places import check_file

    if file.suffix not in (".html", ".csv") or not file.absolute().parent.is_dir():
        raise UsageError(f"--save {file}: must be a .html or .csv file in a folder that is there")
    check_file(file, flag="--save")


def _save(result: "RangeTestResult", file: Path) -> None:
    from search.results.points import write_points

    if file.suffix == ".csv":
        write_points(result, file)
        return
    from search.views.figures.rate_figures import range_test_figure

    range_test_figure(result).write_html(file, config={"displayModeBar": False})


def _print(result: "RangeTestResult", *, json: bool) -> None:
    """Print on stdout; raise NoResultError where the sweeps propose nothing."""
    from json import dumps

    from search.errors import NoResultError
    from search.results.points import as_json
    from search.text import printable
    from studies.params import setting_text
    from trainers.sweeps.result import range_text

    if json:
        print(dumps(as_json(result), indent=2))
    else:
        _print_one(result)
        for key, other in result.others.items():
            print(f"\nat {printable(setting_text(key))}:")
            _print_one(other)
    for said in (result, *result.others.values()):
        if said.proposal is None:
            raise NoResultError(said.why_no_proposal())
        if said.proposal.edge is None:
            way_on = range_text(said.proposal)
            raise NoResultError(f"{said.why_no_proposal()}; a search goes on: {way_on}")


def _print_one(result: "RangeTestResult") -> None:
    import shutil

    from search.views.terminal.answer import on_stdout, say
    from search.views.terminal.charts import range_test_chart

    console = on_stdout()
    for line in result.table().splitlines():
        say(console, line)
    print(range_test_chart(result, width=shutil.get_terminal_size().columns))
