"""What `trials` prints: every configuration as a table that fits, or as CSV with all columns."""

import csv as csv_module
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search.results.curves import COLUMNS, RunCurve
from search.results.trials import Trial, columns, searched_names
from search.text import printable
from search.views.terminal.answer import on_stdout, say
from search.views.terminal.tables import Column, blocks_of, fits, print_blocks
from studies.params import CYCLE, TABLE, parameter

_SHOWN = ("slot", "epochs", "state", "outcome", "score", "parameters", "seconds")
_HIDDEN_FIRST = ("seconds", "epochs", "state", "outcome")
"""Columns that a narrow terminal loses, this one first; a file has them all with --csv."""
_KEYS = ("slot", "score")
"""Columns that each part of a table has whose parameters have no room side by side."""


def print_trials(rows: Sequence[Trial], *, csv: bool) -> None:
    """Print configurations: all that is known as CSV, or what fits a terminal as a table."""
    names = searched_names(rows) or CYCLE
    if csv:
        _print_csv((row.values(names) for row in rows), columns(names))
        return
    console = on_stdout()
    if not (console.is_terminal or "COLUMNS" in os.environ):
        console.width = 1_000_000  # a file has no width
    hidden = list[str]()
    while not fits(_columns(rows, names, hidden), console.width) and hidden != [*_HIDDEN_FIRST]:
        hidden.append(_HIDDEN_FIRST[len(hidden)])
    shown = _columns(rows, names, hidden)
    if fits(shown, console.width):
        print_blocks(console, blocks_of(shown, console.width))
    else:
        keys = [column for column in shown if column.heading in _KEYS]
        others = [column for column in shown if column.heading not in _KEYS]
        print_blocks(console, blocks_of([*keys, *others], console.width, n_keys=len(keys)))
    if hidden:
        more = ", ".join(name for name in _SHOWN if name in hidden)
        say(console, f"not shown, for want of room: {more}; --csv has every column")


def print_curves(curves: Iterable[RunCurve]) -> None:
    """Print learning curves as CSV: a row for each epoch and each window of steps."""
    _print_csv((values for run in curves for values in run.values()), COLUMNS)


def _print_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    # The csv module ends lines with \r\n, as RFC 4180 says, which shell tools stumble over.
    writer = csv_module.DictWriter(sys.stdout, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_cell(value) for key, value in row.items()} for row in rows)


def _columns(rows: Sequence[Trial], names: Sequence[str], hidden: Sequence[str]) -> list[Column]:
    shown = [name for name in _SHOWN if name not in hidden]
    headings = [each for name in shown for each in (names if name == "parameters" else (name,))]
    values = [row.values(names) for row in rows]
    return [
        Column(heading=name, cells=[printable(_cell(each[name], name)) for each in values])
        for name in headings
    ]


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
    if name == "seconds":
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
