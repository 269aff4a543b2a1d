"""What a person reads: the plan, the answer, tables of studies and trials."""

import csv as csv_module
import json as json_module
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from search.params import Params
from search.results.curves import COLUMNS, RunCurve
from search.results.result import StudyResult
from search.results.trials import Trial, columns, searched_names
from search.results.verdict import short_verdict
from search.starting.cost import StageCost, Started, duration_text
from search.text import printable
from search.views.findings import Findings
from search.views.wording import (
    CALL_EXPLAINED,
    TRAIN_EXPLAINED,
    answer_lines,
    call_code,
    candidate_cells,
    candidate_headings,
    candidate_name,
    fact_lines,
)
from studies.definition import Study
from studies.params import CYCLE, TABLE, parameter
from studies.states import Stage


def plan_text(started: Started) -> str:
    """Return the plan and its cost, before it is spent, as a few lines."""
    lines = [
        f"study {printable(started.row.name)}: {started.n_workers} worker(s) on "
        f"{started.site.device}, {started.images_per_s:,.0f} {started.trained_on}/s"
    ]
    study = started.definition.study
    for cost in started.costs:
        unit = "sweep" if cost.stage == Stage.RANGE_TEST else "cycle"
        units = unit + "s" * (cost.n_runs != 1)
        lines.append(
            f"  {cost.name:<12} {cost.n_runs:>4} {units:<6} of {cost.steps:>5} steps = "
            f"{cost.n_images:>12,} training {started.trained_on}"
        )
        lines += [f"  {'':<12} {line}" for line in _at_most(cost, unit)]
    if study.space.batch_size is not None:
        own, *others = study.batch_sizes
        sizes = " and ".join(map(str, others))
        lines.append(f"  {'':<12} steps are those of batch_size {own}; {sizes} take others")
    lines += [f"  {line}" for line in _values_text(study)]
    total = sum(cost.n_images for cost in started.costs)
    most = sum(cost.most_images for cost in started.costs)
    lines.append(f"  {'in all':<12} {total:>35,} training {started.trained_on}")
    if most > total:
        lines.append(f"  {'':<12} at most {most:,}")
    lines.append(f"  about {duration_text(started.seconds)} here")
    return "\n".join(lines)


def _values_text(study: Study) -> list[str]:
    """Return the baseline's values of what is searched beside the cycle, and what is held."""
    own = {p.name: p.baseline for p in study.parameters if p.name not in CYCLE}
    values = {
        "baseline": {name: value for name, value in own.items() if value is not None},
        "held fixed": study.space.fixed(),
    }
    return [f"{title:<12} {Params(**each)}" for title, each in values.items() if each]


def _at_most(cost: StageCost, unit: str) -> list[str]:
    """Return what a stage may come to, and of what it then consists; nothing where it is exact."""
    if not cost.extra_runs:
        return []
    text = f"at most {cost.most_runs} {unit}s = {cost.most_images:,}"
    if cost.stage == Stage.RANGE_TEST:
        return [f"{text}, where sweeps disagree;", "the last then takes twice the steps"]
    if cost.stage == Stage.SEARCH:
        return [f"{text};", "it ends by itself once one more is expected to gain too little"]
    return [text]


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
                "runs_at_most": c.most_runs,
                "images_at_most": c.most_images,
            }
            for c in started.costs
        ],
    }
    print(json_module.dumps(document, indent=2))


def print_findings(findings: Findings, page: Path, *, json: bool) -> None:
    """Print the answer of a study on stdout: tables for people, or one JSON document."""
    if json:
        print(json_module.dumps({**findings.as_json(), "report": str(page)}, indent=2))
        return
    result, console = findings.result, on_stdout()
    table, told = _candidates_table(result), list[str]()
    # The first column may be folded; where that is not enough, each configuration takes a line.
    if _width(table, console) - len("(answer)") > console.width:
        table = _candidates_table(result, scores_only=True)
        told = [f"{candidate_name(c, result)}: {c.params}" for c in result.ranked()]
    for line in (result.verdict(), ""):
        say(console, line)
    console.print(table, soft_wrap=False)
    for line in [*told, "", *answer_lines(result), "", *fact_lines(result)]:
        say(console, line)
    console.print()
    console.print(_cost_table(result), soft_wrap=False)
    for hint in findings.hints:
        console.print()
        say(console, hint.text)
        for command in hint.commands:  # whole, for whoever pastes them
            console.print(f"    {command}", markup=False, soft_wrap=True)
    console.print()
    say(console, short_verdict(result))
    say(console, CALL_EXPLAINED)
    for line in ["", *call_code(result).splitlines()]:
        console.print(printable(line), markup=False, soft_wrap=True)
    if findings.train:
        console.print()
        say(console, TRAIN_EXPLAINED)
        console.print(f"    {findings.train}", markup=False, soft_wrap=True)
    console.print(printable(f"report: {page}"), markup=False, soft_wrap=True)


def on_stdout() -> Console:
    """Return a console without control characters where stdout is no terminal."""
    terminal = sys.stdout.isatty()
    # rich takes FORCE_COLOR and the like for a terminal; a file must get plain text.
    return Console(highlight=False, force_terminal=terminal, soft_wrap=not terminal)


def say(console: Console, line: str) -> None:
    """Print a line: whole into a file, wrapped with a hanging indent on a terminal."""
    line = printable(line)
    if console.is_terminal and len(line) > console.width:
        line = textwrap.fill(
            line,
            console.width,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    console.print(line, markup=False, soft_wrap=True)


def _candidates_table(result: StudyResult, *, scores_only: bool = False) -> Table:
    table = open_table(
        f"{result.name}: {result.metric.title} ± half of its 95 % interval over fresh seeds"
    )
    rows = [
        _with_seeds(candidate_headings(result), "seeds"),
        *(_with_seeds(candidate_cells(c, result), str(c.validation.n)) for c in result.ranked()),
    ]
    if scores_only:
        rows = [(cells[0], *cells[-3:]) for cells in rows]
    headings, *cells_of = rows
    narrow = len(headings) > len(CYCLE) + 4
    table.add_column("" if narrow else headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(_heading(heading, narrow), justify="right", no_wrap=True)
    for cells in cells_of:
        table.add_row(*cells)
    return table


def _with_seeds(cells: tuple[str, ...], seeds: str) -> tuple[str, ...]:
    """Return cells with a number of seeds before the two scores."""
    return (*cells[:-2], seeds, *cells[-2:])


def _cost_table(result: StudyResult) -> Table:
    table = open_table()
    table.add_column("cost")
    for heading in ("runs", f"training {result.trained_on}", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for s in result.spent:
        table.add_row(s.name, str(s.n_runs), f"{s.n_images:,}", duration_text(s.seconds))
    return table


def open_table(title: str | None = None) -> Table:
    return Table(
        title=None if title is None else Text(printable(title), style="table.title"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )


def print_studies(rows: Sequence[tuple[str, Stage, int, int, datetime]]) -> None:
    """Print the stored studies as a table."""
    table = open_table()
    table.add_column("study", overflow="fold")
    for heading in ("stage", "configurations", "created (UTC)"):
        table.add_column(heading, no_wrap=True)
    for name, stage, done, wanted, created in rows:
        table.add_row(
            Text(printable(name)),
            Text(printable(stage)),
            f"{done}/{wanted}",
            f"{created:%Y-%m-%d %H:%M}",
        )
    on_stdout().print(table, soft_wrap=True)


def print_trials(rows: Sequence[Trial], *, csv: bool) -> None:
    """Print configurations: all that is known as CSV, or what fits a terminal as a table."""
    names = searched_names(rows) or CYCLE
    if csv:
        _print_csv((row.values(names) for row in rows), columns(names))
        return
    console = on_stdout()
    for hidden in range(len(_HIDDEN_FIRST) + 1):
        shown = [name for name in _SHOWN if name not in _HIDDEN_FIRST[:hidden]]
        table = _trials_table(rows, names, shown)
        if not console.is_terminal or _width(table, console) <= console.width:
            break
    if not console.is_terminal:  # a file has no width: nothing is cut there
        console.width = max(console.width, _width(table, console))
    console.print(table, soft_wrap=True)


def print_curves(curves: Iterable[RunCurve]) -> None:
    """Print learning curves as CSV: a row for each epoch and each window of steps."""
    _print_csv((values for run in curves for values in run.values()), COLUMNS)


def _print_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    # The csv module ends lines with \r\n, as RFC 4180 says, which shell tools stumble over.
    writer = csv_module.DictWriter(sys.stdout, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_cell(value) for key, value in row.items()} for row in rows)


_SHOWN = ("slot", "epochs", "state", "outcome", "score", "parameters", "seconds")
_HIDDEN_FIRST = ("seconds", "epochs", "state", "outcome")
"""Columns that a narrow terminal loses, this one first; a file has them all with --csv."""


def _width(table: Table, console: Console) -> int:
    """Return the columns of characters that a table takes where nothing is cut."""
    wide = console.options.update(max_width=10_000)
    return Measurement.get(console, wide, table).maximum


def _trials_table(rows: Sequence[Trial], names: Sequence[str], shown: Sequence[str]) -> Table:
    narrow = len(names) > len(CYCLE)
    columns = [each for name in shown for each in (names if name == "parameters" else (name,))]
    table = open_table()
    for name in columns:
        table.add_column(_heading(name, narrow), justify="right", no_wrap=True)
    for row in rows:
        values = row.values(names)
        table.add_row(*(Text(printable(_cell(values[name], name))) for name in columns))
    return table


def _heading(name: str, narrow: bool) -> str:
    """Return a column's name; in two lines where more columns than usual share the width."""
    return name.replace("_", "\n") if narrow and name != "max_lr" else name


def _csv_cell(value: Any) -> Any:
    """Return a value for a spreadsheet, which takes text that begins so for a formula."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def _cell(value: Any, name: str) -> str:
    if value is None:
        return ""
    if name in TABLE and name not in CYCLE:
        return parameter(name).text(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
