"""What a person reads: the answer of a study, and the table of the studies."""

import json as json_module
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from search.results.result import StudyResult
from search.starting.cost import duration_text
from search.text import printable
from search.views.findings import Findings
from search.views.terminal.tables import (
    blocks_of,
    columns_of,
    fits,
    print_blocks,
    table_of,
    wrapped,
)
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
from studies.states import Stage


def print_findings(findings: Findings, page: Path, *, json: bool) -> None:
    """Print the answer of a study on stdout: tables for people, or one JSON document."""
    if json:
        print(json_module.dumps({**findings.as_json(), "report": str(page)}, indent=2))
        return
    result, console = findings.result, on_stdout()
    for line in (result.verdict(), ""):
        say(console, line)
    for line in [*_print_candidates(console, result), "", *answer_lines(result), ""]:
        say(console, line)
    for line in fact_lines(result):
        say(console, line)
    console.print()
    console.print(_cost_table(result, console.width), soft_wrap=True)
    for hint in findings.hints:
        console.print()
        say(console, hint.text)
        for command in hint.commands:  # whole, for whoever pastes them
            console.print(f"    {command}", markup=False, soft_wrap=True)
    console.print()
    say(console, CALL_EXPLAINED)
    say_code(console, call_code(result))
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


def say(console: Console, line: str, *, hang: int = 2) -> None:
    """Print a line: whole into a file, wrapped with a hanging indent on a terminal."""
    line = printable(line)
    for part in wrapped(line, console.width, hang=hang) if console.is_terminal else [line]:
        console.print(part, markup=False, soft_wrap=True)


def say_code(console: Console, code: str) -> None:
    """Print code to paste below an empty line: as it is, its comments wrapped on a terminal."""
    console.print()
    for line in map(printable, code.splitlines()):
        comment = line.startswith("# ") and console.is_terminal
        parts = wrapped(line[2:], console.width - 2, hang=0) if comment else [line]
        for part in parts:
            text = f"# {part}" if comment else part
            console.print(text, markup=False, soft_wrap=True)


def say_title(console: Console, title: str) -> None:
    """Print what stands over a table, wrapped as that is, in a file as well."""
    for part in wrapped(printable(title), console.width):
        console.print(part, style="table.title", markup=False, soft_wrap=True)


def _print_candidates(console: Console, result: StudyResult) -> list[str]:
    """Print the table of the confirmed; return a line of parameters for each where these have no
    room in it."""
    headings = _with_seeds(candidate_headings(result), "seeds")
    ranked = result.ranked()
    rows = [_with_seeds(candidate_cells(c, result), str(c.validation.n)) for c in ranked]
    told = list[str]()
    columns = columns_of(headings, rows, folds=0)
    if not fits(columns, console.width):  # what the first column holds explains itself
        columns = columns_of(("", *headings[1:]), rows, folds=0)
    if not fits(columns, console.width):
        scores = [(cells[0], *cells[-3:]) for cells in rows]
        columns = columns_of((headings[0], *headings[-3:]), scores, folds=0)
        told = [f"{candidate_name(c, result)}: {c.params}" for c in ranked]
    say_title(
        console,
        f"{result.name}: {result.metric.title} ± half of its 95 % interval over fresh seeds",
    )
    print_blocks(console, blocks_of(columns, console.width))
    return told


def _with_seeds(cells: tuple[str, ...], seeds: str) -> tuple[str, ...]:
    """Return cells with a number of seeds before the two scores."""
    return (*cells[:-2], seeds, *cells[-2:])


def _cost_table(result: StudyResult, width: int) -> Table:
    headings = ("cost", "runs", f"training {result.trained_on}", "time")
    rows = [
        (s.name, str(s.n_runs), f"{s.n_images:,}", duration_text(s.seconds)) for s in result.spent
    ]
    return table_of(columns_of(headings, rows, folds=0), width)


def print_studies(rows: Sequence[tuple[str, Stage, int, int, datetime]]) -> None:
    """Print the stored studies as a table."""
    console = on_stdout()
    cells = [
        (name, stage, f"{done}/{wanted}", f"{created:%Y-%m-%d %H:%M}")
        for name, stage, done, wanted, created in rows
    ]
    columns = columns_of(("study", "stage", "configurations", "created (UTC)"), cells, folds=0)
    columns = [replace(column, left=True) for column in columns]
    console.print(table_of(columns, console.width), soft_wrap=True)
