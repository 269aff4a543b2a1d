"""The command run: a whole search, from wherever it stands."""

from datetime import UTC
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
    TrialsFlag,
    WaitFlag,
    WorkersFlag,
    device_with,
)
from search.commands.layout import HOW_MUCH, OUTPUT, WHAT
from search.commands.what_flags import What, asks_what
from search.workers.patience import START_PATIENCE_S

if TYPE_CHECKING:
    from search.views.findings import Findings
    from studies.tables import StudyRow

EXAMPLES = (
    "onecycle run --study digits",
    "onecycle run --data photos --model torchvision.models:resnet18",
    "onecycle run --study mine.py --dry-run",
    "onecycle run --study mine.py --budget 2h --workers 2",
    "onecycle run --study mine.py --budget range-test",
    "onecycle run --study mine.py --trials +20",
)


@asks_what
def run(
    what: What,
    name: NameFlag = None,
    data: DataFlag = None,
    seed: SeedFlag = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Start a study again that failed, or of which no cycle has finished.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    trials: TrialsFlag = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="What a new study may cost, instead of --trials: 200epochs, 90min or 2h; or "
            "range-test, for its first choice, unconfirmed.",
            rich_help_panel=HOW_MUCH,
            show_default=False,
        ),
    ] = None,
    timeout_min: TimeoutFlag = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the plan and its cost, and store nothing.",
            rich_help_panel=HOW_MUCH,
        ),
    ] = False,
    storage: StorageFlag = None,
    workers: WorkersFlag = None,
    device: DeviceFlag = "auto",
    gpus: GpusFlag = None,
    wait_s: WaitFlag = START_PATIENCE_S,
    track: TrackFlag = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Where to write the page. Default: beside the database.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Search: range test, trials, confirmation, report. Started again, it resumes."""
    from search import api
    from search.errors import UsageError
    from search.results.first import first_choice
    from search.starting.asked import asked_of
    from search.starting.places import check_file
    from search.starting.slurm import coming_back
    from search.views.findings import findings, shell_of
    from search.views.page.report import default_path, write_report
    from search.views.terminal import answer as terminal
    from search.views.terminal.first import print_first
    from search.views.terminal.plan import print_plan
    from search.views.terminal.progress import Progress
    from studies.urls import sqlite_file, storage_url

    device = device_with(gpus, device)
    asked = asked_of(
        what.definition(data),
        name=name,
        storage=storage,
        trials=trials,
        budget=budget,
        seed=seed,
        device=device,
        data=data,
        workers=workers,
        timeout_min=timeout_min,
        wait_s=wait_s,
        fresh=fresh,
        track=track,
    )
    if dry_run:
        print_plan(api.costed(asked), json=json)
        return
    url, alone = storage_url(storage), asked.target.only is not None
    if report is not None:
        if alone:
            raise UsageError(
                f"--report {report}: a range test alone has no page; `onecycle range-test --save "
                "curve.html` draws its curves"
            )
        check_file(report, flag="--report")
    elif sqlite_file(url) is None:  # beside a file is looked at when that is opened
        check_file(default_path(url, "report"), flag="--report")
    with (
        coming_back(),
        Progress(tells_answer=json) as progress,
        api.brought_to_end(asked, watch=progress.watch) as (engine, row),
    ):
        if alone and not row.stage.is_end:
            print_first(first_choice(engine, row), shell_of(engine, row), json=json)
            return
        page = report or default_path(engine.url, row.name)
        answer = findings(engine, row)
        if report is not None or not _is_current(page, row, answer):
            write_report(answer, page)
    terminal.print_findings(answer, page, json=json)


def _is_current(page: Path, row: "StudyRow", answer: "Findings") -> bool:
    """Whether a page is there that was written after the study had ended, and says its answer.

    One of an earlier version may say another.
    """
    from search.views.page.report import says_answer

    assert row.finished_at is not None
    ended = row.finished_at.replace(tzinfo=UTC)  # the database's clock, which is UTC
    if not page.is_file() or page.stat().st_mtime < ended.timestamp():
        return False
    return says_answer(page, answer.result)
