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
from search.plan import Started, duration_text
from search.result import Candidate, StudyResult
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
    "weight_decay",
    "batch_size",
    "seconds",
)
_WHERE_SEARCHED = ("weight_decay", "batch_size")
"""Columns that are shown of studies that search them."""


def plan_text(started: Started) -> str:
    """Return the plan and its cost, before it is spent, as a few lines."""
    lines = [
        f"study {started.row.name}: {started.n_workers} worker(s) on {started.site.device}, "
        f"{started.images_per_s:,.0f} images/s"
    ]
    study = started.definition.study
    slow = "one sweep" if len(study.batch_sizes) == 1 else "one of each batch size"
    for cost in started.plan:
        sweeps = cost.stage == "range_test"
        lines.append(
            f"  {cost.name:<12} {cost.n_runs:>4} {'sweeps' if sweeps else 'cycles'} "
            f"of {cost.steps:>5} steps = {cost.n_images:>12,} training images"
            + (f", {slow} twice as slow" if sweeps else "")
        )
    if study.space.batch_size is not None:
        own, *others = study.batch_sizes
        sizes = " and ".join(map(str, others))
        lines.append(f"  {'':<12} steps are those of batch_size {own}; {sizes} take others")
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


def print_result(result: StudyResult, page: Path, *, json: bool) -> None:
    """Print the answer of a study on stdout: a table for people, or one JSON document."""
    if json:
        document = {**result.as_json(), "report": str(page)}
        print(json_module.dumps(document, indent=2))
        return
    console = Console(highlight=False)
    console.soft_wrap = not console.is_terminal  # a file keeps its lines whole
    console.print(_candidates_table(result), soft_wrap=False)
    for line in result_lines(result):
        console.print(line, markup=False)
    console.print(f"report: {page}", markup=False)


def _candidates_table(result: StudyResult) -> Table:
    n = result.winner.validation.n
    table = _open_table(
        f"{result.name}: {result.metric.title} ± half of its 95 % interval, n = {n} fresh seeds"
    )
    table.add_column("configuration", overflow="fold")
    searched = [n for n in _WHERE_SEARCHED if getattr(result.winner.params, n) is not None]
    for heading in ("max_lr", "pct_start", "div_factor", *searched, "validation", "test"):
        table.add_column(_heading(heading, searched), justify="right", no_wrap=True)
    interval = result.metric.interval
    for candidate in result.ranked():
        p = candidate.params
        table.add_row(
            candidate_name(candidate, result),
            f"{p.max_lr:.3g}",
            f"{p.pct_start:.2f}",
            f"{p.div_factor:.3g}",
            *(_cell(getattr(p, name), name) for name in searched),
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


def candidate_name(candidate: Candidate, result: StudyResult) -> str:
    """Return 'slot 7', marked as baseline and as winner."""
    marks = ["baseline"] if candidate.is_baseline else [f"slot {candidate.slot}"]
    if candidate.slot == result.winner.slot:
        marks.append("(winner)")
    return " ".join(marks)


def result_lines(result: StudyResult) -> list[str]:
    """Return the answer in words: verdict, importances beside noise, cost, a call to paste."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.importances.items())
    lines = [
        "",
        result.verdict(),
        "",
        *range_test_lines(result),
        f"importance (fANOVA, {result.n_trials} configurations at {result.screens[0].epochs} "
        f"epochs of which {result.n_diverged} diverged): {shares or 'nothing to explain'}"
        f"{_floor_text(result)}",
        f"noise of a seed: sd {result.metric.difference(result.noise.deviation)} (from the "
        f"confirmation's seeds, {result.noise.freedom} degrees of freedom); spread over the "
        f"configurations: sd {result.metric.difference(result.screens[0].spread)}",
        f"comparisons made on the test split: {result.n_comparisons}",
        f"within noise of the best: {len(result.region.slots)} of {result.region.n_cycles} "
        f"configurations at {result.epochs} epochs, n = 1 seed each: {result.region}",
        "cost: "
        + "; ".join(
            f"{s.name} {s.n_runs} runs, {s.n_images:,} images, {duration_text(s.seconds)}"
            for s in result.spent
        ),
    ]
    hint = result.at_bound()
    if hint is not None:
        lines += ["", hint]
    return [*lines, "", *call_lines(result)]


def range_test_lines(result: StudyResult) -> list[str]:
    """Return what the sweeps say, batch size by batch size where several were searched."""
    if not result.range_tests:
        return ["range test: " + line for line in conclusion(result.range_test)]
    return [
        f"range test, batch_size {size}: {line}"
        for size, said in result.range_tests.items()
        for line in conclusion(said)
    ]


def _floor_text(result: StudyResult) -> str:
    """Return what share of the variance that is shared out comes from the seed."""
    if result.noise_floor is None or result.search_noise is None:
        return ""
    return (
        f"; of that variance at most about {result.noise_floor:.0%} is a seed's noise (sd "
        f"{result.metric.difference(result.search_noise.deviation)}, from nearest neighbours)"
    )


def call_lines(result: StudyResult) -> list[str]:
    """Return the winner as Python source for the reader's own loop, total_steps explained."""
    steps = result.epochs * result.steps_per_epoch
    return [
        "In your own loop (scheduler.step() once after every optimizer.step(), not per epoch):",
        "",
        "scheduler = " + result.plan.call(total_steps="epochs * len(train_loader)"),
        "",
        f"# total_steps counts optimizer steps; here {result.epochs} epochs x "
        f"{result.steps_per_epoch} batches of {result.batch_size} images = {steps}.",
        *_optimizer_line(result),
    ]


def _optimizer_line(result: StudyResult) -> list[str]:
    decay = result.winner.params.weight_decay
    return [] if decay is None else [f"# The optimizer has weight_decay={decay:.6g}."]


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
    searched = [name for name in _WHERE_SEARCHED if any(row[name] is not None for row in rows)]
    hidden = {*_WHERE_SEARCHED} - {*searched} | ({"seconds"} if searched else set())  # 80 columns
    shown = [name for name in _SHOWN_COLUMNS if name not in hidden]
    for name in shown:
        table.add_column(_heading(name, searched), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[name], name) for name in shown))
    Console(soft_wrap=True).print(table)


def _heading(name: str, searched: Sequence[str]) -> str:
    """Return a column's name; in two lines where more columns than usual share the width."""
    return name.replace("_", "\n") if searched and name != "max_lr" else name


def _cell(value: Any, name: str) -> str:
    if value is None:
        return ""
    if name == "weight_decay":
        return f"{value:.2g}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
