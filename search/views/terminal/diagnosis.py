"""What a person reads of a diagnosis: the verdict, what explains the log, what else it says."""

import json as json_module
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.errors import UsageError
from trainers.calls.diagnose import PLAN, Diagnosis
from trainers.calls.fits import Explanation

_CLOSEST = 3


def read(path: Path | None) -> str:
    """Return the text of a log file, or of stdin, which is also called "-"."""
    if path is None or str(path) == "-":
        if sys.stdin.isatty():
            print("reading the log from the terminal; Ctrl-D ends it", file=sys.stderr)
        return sys.stdin.read()
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise UsageError(f"--log {path}: cannot be read: {error.strerror}") from error


def print_diagnosis(found: Diagnosis, *, json: bool) -> None:
    """Print a diagnosis on stdout: text, or one JSON document."""
    if json:
        print(json_module.dumps(as_json(found), indent=2))
        return
    for line in lines(found):
        indent = " " * (len(line) - len(line.lstrip()) + 3 * line.lstrip()[:1].isdigit())
        print(textwrap.fill(line, _width(), subsequent_indent=indent) if line else "")


def as_json(found: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as plain JSON values."""
    return {
        "verdict": found.verdict,
        "call": found.schedule.call(found.steps.names),
        "rates": found.n,
        "epochs": [found.log.readings[0].epoch, found.log.last_epoch],
        "explanations": [
            {
                "name": e.name,
                "reproduced": e.n_fit,
                "values": list(e.values),
                "what": e.what,
                "instead": e.instead,
            }
            for e in found.explanations
        ],
        "remarks": list(found.remarks),
    }


def lines(found: Diagnosis) -> list[str]:
    """Return a diagnosis as text, a paragraph or an item a line."""
    return [*_head(found), "", *_verdict(found), "", *_remarks(found)][
        : None if found.remarks else -1
    ]


def _head(found: Diagnosis) -> list[str]:
    log = found.log
    first, last = log.readings[0].epoch, log.last_epoch
    unit = 2 * max(reading.half for reading in log.readings)
    said = [
        f"{found.n} {'rate' if found.n == 1 else 'rates'} of epochs {first:g} to {last:g}, "
        f"rounded to {unit:g}, against",
        found.schedule.call(found.steps.names),
    ]
    if not log.numbered:
        said.append("(no epoch numbers in the log: its rates were counted, one an epoch)")
    if log.n_repeated:
        said.append(f"({log.n_repeated} more rates within the same epochs: the last ones count)")
    if log.n_of_earlier_runs:
        said.append(f"({log.n_of_earlier_runs} rates of earlier runs in the log: left out)")
    return said


def _verdict(found: Diagnosis) -> list[str]:
    if found.follows:
        said = [f"The log follows the plan: torch gives all {found.n} rates."]
        if found.truncated:
            said.append(
                f"It ends at epoch {found.log.last_epoch:g} of {found.steps.epochs} with "
                f"{found.log.readings[-1].lr:g}: training was cut short before the anneal was "
                "over, or the log is a part."
            )
        others = [e for e in found.equals if e.name != PLAN]
        if others:
            said += ["", "These digits do not exclude:", *_items(others, found)]
        return said
    reading, planned = found.worst()
    plan = next((e.n_fit for e in found.explanations if e.name == PLAN), 0)
    said = [
        f"The log does not follow the plan, which gives {plan} of its {found.n} rates: epoch "
        f"{reading.epoch:g} says {reading.lr:g} where torch ends at {planned:.4g}.",
        "",
    ]
    if not found.equals:
        said.append("No single mistake gives all of them. The closest:")
        closest = [e for e in found.explanations if e.name != PLAN][:_CLOSEST]
        return [*said, *_items(closest, found)]
    if len(found.equals) == 1:
        said.append(f"One mistake gives all {found.n} rates:")
    else:
        said.append(
            f"These give all {found.n} rates, the likeliest first; the digits cannot tell:"
        )
    return [*said, *_items(found.equals, found)]


def _items(explanations: Sequence[Explanation], found: Diagnosis) -> list[str]:
    return [
        f"  {number}. {e.what}"
        + ("" if e.n_fit == found.n else f" ({e.n_fit} of {found.n} rates)")
        + f"; {e.instead}."
        for number, e in enumerate(explanations, 1)
    ]


def _remarks(found: Diagnosis) -> list[str]:
    return [f"{remark}." for remark in found.remarks]


def _width() -> int:
    return min(100, shutil.get_terminal_size().columns)
