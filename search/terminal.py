"""What a person reads: the plan, the answer, tables of studies and trials."""

import csv as csv_module
import json as json_module
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from search.catalog import TRIAL_COLUMNS
from search.findings import Findings
from search.hints import Hint
from search.plan import Started, duration_text
from search.result import StudyResult
from search.wording import (
    call_lines,
    candidate_name,
    cost_text,
    importance_text,
    noise_text,
    region_text,
)
from trainers.range_test_result import conclusion

_SHOWN_COLUMNS = (
    "slot",
    "length",
    "state",
    "outcome",
    "score",
    "max_lr",
    "pct_start",
    "div_factor",
    "seconds",
)


def plan_text(started: Started) -> str:
    """Return the plan and its cost, before it is spent, as a few lines."""
    lines = [
        f"study {started.row.name}: {started.n_workers} worker(s) on {started.site.device}, "
        f"{started.images_per_s:,.0f} images/s"
    ]
    for cost in started.plan:
        sweeps = cost.stage == "range_test"
        lines.append(
            f"  {cost.name:<12} {cost.n_runs:>4} {'sweeps' if sweeps else 'cycles'} "
            f"of {cost.steps:>5} steps = {cost.n_images:>12,} training images"
            + (", one sweep twice as slow" if sweeps else "")
        )
    total = sum(cost.n_images for cost in started.plan)
    lines.append(f"  {'in all':<12} {total:>35,} training images")
    lines.append(f"  about {duration_text(started.seconds)} here")
    return "\n".join(lines)


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
    """Print the answer of a study on stdout: a table for people, or one JSON document."""
    if json:
        print(json_module.dumps({**found.as_json(), "report": str(page)}, indent=2))
        return
    console = Console(highlight=False)
    console.soft_wrap = not console.is_terminal  # a file keeps its lines whole
    console.print(_candidates_table(found.result), soft_wrap=False)
    lines = ["", *result_lines(found.result), *hint_lines(found.hints)]
    for line in [*lines, "", *call_lines(found.result)]:
        console.print(line, markup=False)
    console.print(f"report: {page}", markup=False)


def _candidates_table(result: StudyResult) -> Table:
    n = result.winner.validation.n
    table = _open_table(
        f"{result.name}: {result.metric.title} ± half of its 95 % interval, n = {n} fresh seeds"
    )
    table.add_column("configuration", overflow="fold")
    for heading in ("max_lr", "pct_start", "div_factor", "validation", "test"):
        table.add_column(heading, justify="right", no_wrap=True)
    interval = result.metric.interval
    for candidate in result.ranked():
        p = candidate.params
        table.add_row(
            candidate_name(candidate, result),
            f"{p.max_lr:.3g}",
            f"{p.pct_start:.2f}",
            f"{p.div_factor:.3g}",
            interval(candidate.scores),
            "sealed" if candidate.test is None else interval(candidate.test),
        )
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


def result_lines(result: StudyResult) -> list[str]:
    """Return the answer in words: verdict, importances beside noise, cost."""
    return [
        result.verdict(),
        "",
        *("range test: " + line for line in conclusion(result.range_test)),
        importance_text(result),
        noise_text(result),
        f"comparisons made on the test split: {result.n_comparisons}",
        region_text(result),
        cost_text(result),
    ]


def hint_lines(hints: Sequence[Hint]) -> list[str]:
    """Return what to try next, each with its commands."""
    lines = []
    for hint in hints:
        lines += ["", hint.text, *(f"    {command}" for command in hint.commands)]
    return lines


def print_studies(rows: Sequence[tuple[str, str, int, int, datetime]]) -> None:
    """Print the stored studies as a table."""
    table = _open_table()
    table.add_column("study", overflow="fold")
    for heading in ("stage", "configurations", "created (UTC)"):
        table.add_column(heading, no_wrap=True)
    for name, stage, done, wanted, created in rows:
        table.add_row(name, stage, f"{done}/{wanted}", f"{created:%Y-%m-%d %H:%M}")
    Console(soft_wrap=True).print(table)


def print_trials(rows: Sequence[dict[str, Any]], *, csv: bool) -> None:
    """Print configurations: all that is known as CSV, or what fits a terminal as a table."""
    if csv:
        writer = csv_module.DictWriter(sys.stdout, fieldnames=TRIAL_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    table = _open_table()
    for name in _SHOWN_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in _SHOWN_COLUMNS))
    Console(soft_wrap=True).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
