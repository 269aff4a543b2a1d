"""What a person reads: the plan, the answer, tables of studies and trials."""

import csv as csv_module
import json as json_module
import sys
import textwrap
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from search.results.result import StudyResult
from search.starting.catalog import TRIAL_COLUMNS
from search.starting.cost import Started, duration_text
from search.views.findings import Findings
from search.views.wording import (
    CANDIDATE_HEADINGS,
    SEARCHED_TOO,
    call_lines,
    candidate_cells,
    candidate_headings,
    fact_lines,
)

_SHOWN_COLUMNS = (
    "slot",
    "length",
    "state",
    "outcome",
    "score",
    "max_lr",
    "pct_start",
    "div_factor",
    "weight_decay",
    "batch_size",
    "seconds",
)


def plan_text(started: Started) -> str:
    """Return the plan and its cost, before it is spent, as a few lines."""
    lines = [
        f"study {started.row.name}: {started.n_workers} worker(s) on {started.site.device}, "
        f"{started.images_per_s:,.0f} images/s"
    ]
    study = started.definition.study
    for cost in started.plan:
        sweeps = cost.stage == "range_test"
        lines.append(
            f"  {cost.name:<12} {cost.n_runs:>4} {'sweeps' if sweeps else 'cycles'} "
            f"of {cost.steps:>5} steps = {cost.n_images:>12,} training images"
        )
    if study.space.batch_size is not None:
        own, *others = study.batch_sizes
        sizes = " and ".join(map(str, others))
        lines.append(f"  {'':<12} steps are those of batch_size {own}; {sizes} take others")
    total = sum(cost.n_images for cost in started.plan)
    lines.append(f"  {'in all':<12} {total:>35,} training images")
    lines.append(f"  about {duration_text(started.seconds)} here{_slow_text(started)}")
    return "\n".join(lines)


def _slow_text(started: Started) -> str:
    if started.plan[0].stage != "range_test":
        return ""
    each = " of each batch size" if len(started.definition.study.batch_sizes) > 1 else ""
    return f"; the last sweep{each} takes twice the steps"


def print_plan(started: Started, *, json: bool) -> None:
    """Print the plan of a study on stdout."""
    if not json:
        print(plan_text(started))
        return
    document = {
        "study": started.row.name,
        "device": started.site.device,
        "workers": started.n_workers,
        "images_per_s": started.images_per_s,
        "seconds": started.seconds,
        "stages": [
            {
                "stage": c.stage,
                "name": c.name,
                "runs": c.n_runs,
                "steps": c.steps,
                "images": c.n_images,
            }
            for c in started.plan
        ],
    }
    print(json_module.dumps(document, indent=2))


def print_findings(found: Findings, page: Path, *, json: bool) -> None:
    """Print the answer of a study on stdout: tables for people, or one JSON document."""
    if json:
        print(json_module.dumps({**found.as_json(), "report": str(page)}, indent=2))
        return
    result, console = found.result, on_stdout()
    console.print(_candidates_table(result), soft_wrap=False)
    for line in ["", result.verdict(), "", *fact_lines(result)]:
        _say(console, line)
    console.print()
    console.print(_cost_table(result), soft_wrap=False)
    for hint in found.hints:
        console.print()
        _say(console, hint.text)
        for command in hint.commands:  # whole, for whoever pastes them
            console.print(f"    {command}", markup=False, soft_wrap=True)
    explanation, *call = call_lines(result)
    console.print()
    _say(console, explanation)
    for line in [*call, f"report: {page}"]:
        console.print(line, markup=False, soft_wrap=True)


def on_stdout() -> Console:
    """Return a console without control characters where stdout is no terminal."""
    terminal = sys.stdout.isatty()
    return Console(highlight=False, force_terminal=terminal, soft_wrap=not terminal)


def _say(console: Console, line: str) -> None:
    """Print a line: whole into a file, wrapped with a hanging indent on a terminal."""
    if console.is_terminal and len(line) > console.width:
        line = textwrap.fill(
            line,
            console.width,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    console.print(line, markup=False, soft_wrap=True)


def _candidates_table(result: StudyResult) -> Table:
    n = result.winner.validation.n
    table = _open_table(
        f"{result.name}: {result.metric.title} ± half of its 95 % interval, n = {n} fresh seeds"
    )
    headings = candidate_headings(result)
    searched = len(headings) > len(CANDIDATE_HEADINGS)
    table.add_column("" if searched else headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(_heading(heading, searched), justify="right", no_wrap=True)
    for candidate in result.ranked():
        table.add_row(*candidate_cells(candidate, result))
    return table


def _cost_table(result: StudyResult) -> Table:
    table = _open_table()
    table.add_column("cost")
    for heading in ("runs", "training images", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for s in result.spent:
        table.add_row(s.name, str(s.n_runs), f"{s.n_images:,}", duration_text(s.seconds))
    return table


def _open_table(title: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )


def print_studies(rows: Sequence[tuple[str, str, int, int, datetime]]) -> None:
    """Print the stored studies as a table."""
    table = _open_table()
    table.add_column("study", overflow="fold")
    for heading in ("stage", "configurations", "created (UTC)"):
        table.add_column(heading, no_wrap=True)
    for name, stage, done, wanted, created in rows:
        table.add_row(name, stage, f"{done}/{wanted}", f"{created:%Y-%m-%d %H:%M}")
    on_stdout().print(table, soft_wrap=True)


def print_trials(rows: Sequence[dict[str, Any]], *, csv: bool) -> None:
    """Print configurations: all that is known as CSV, or what fits a terminal as a table."""
    if csv:
        writer = csv_module.DictWriter(sys.stdout, fieldnames=TRIAL_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    table = _open_table()
    searched = [name for name in SEARCHED_TOO if any(row[name] is not None for row in rows)]
    hidden = {*SEARCHED_TOO} - {*searched} | ({"seconds"} if searched else set())  # 80 columns
    shown = [name for name in _SHOWN_COLUMNS if name not in hidden]
    for name in shown:
        table.add_column(_heading(name, bool(searched)), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[name], name) for name in shown))
    on_stdout().print(table, soft_wrap=True)


def _heading(name: str, searched: bool) -> str:
    """Return a column's name; in two lines where more columns than usual share the width."""
    return name.replace("_", "\n") if searched and name != "max_lr" else name


def _cell(value: Any, name: str) -> str:
    if value is None:
        return ""
    if name == "weight_decay":
        return f"{value:.2g}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
