"""What a person reads of a diagnosis: the verdict, what explains the log, what else it says."""

import codecs
import json as json_module
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from search.errors import UsageError
from trainers.calls.diagnosis import NOT_A_NUMBER, SAYS_NOTHING, Diagnosis
from trainers.calls.fits import Explanation
from trainers.calls.logs import Log
from trainers.calls.mistakes import PLAN
from trainers.calls.placings import Whole

_CLOSEST = 3
_SAMPLE = 4_096
"""Bytes that tell how a file is encoded."""


def read(path: Path | None) -> Iterator[str]:
    """Yield the lines of a log file, or of stdin, which is also called "-"."""
    if path is None or str(path) == "-":
        if sys.stdin.isatty():
            print("reading the log from the terminal; Ctrl-D ends it", file=sys.stderr)
        yield from sys.stdin
        return
    try:
        with path.open("rb") as file:
            encoding = _encoding(file.read(_SAMPLE))
        with path.open(encoding=encoding, errors="replace") as text:
            yield from text
    except OSError as error:
        raise UsageError(f"--log {path}: cannot be read: {error.strerror}") from error


def _encoding(begin: bytes) -> str:
    """Return how a file is encoded, from its byte order mark or its zero bytes."""
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if begin[1::2].count(0) > len(begin) / 4:
        return "utf-16-le"
    if begin[::2].count(0) > len(begin) / 4:
        return "utf-16-be"
    return "utf-8-sig"


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
    epochs = found.placing.epochs_done
    return {
        "verdict": found.verdict,
        "call": found.schedule.call(found.steps.names),
        "rates": found.n,
        "epochs": [round(float(epochs[0]), 4), round(float(epochs[-1]), 4)],
        "read": reading(found),
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


def reading(found: Diagnosis) -> list[str]:
    """Return what was read of the log, and what of it was left out, an item a line."""
    log = found.log
    rates = "rate" if found.n == 1 else "rates"
    unit = 2 * float(log.half.max())
    said = [f"{found.n:,} {rates} named '{log.group}', rounded to {unit:.3g}"]
    forms = " and ".join(f"'{form}'" for _, form in log.forms)
    said.append(found.placing.what + (f" (from {forms})" if forms else ""))
    if found.fits_plan and found.plan.moment:
        said.append(f"what fits the plan: {found.plan.moment}")
    said += [f"not used: {other}" for other in found.others]
    said += [f"left out: {what}" for what in _left_out(log)]
    return said


def _left_out(log: Log) -> Iterator[str]:
    for n, what in (
        (log.n_repeated, "at a place that has a later one"),
        (log.n_of_earlier_runs, "of earlier runs in the log"),
        (
            log.n_left_out,
            "in a line that says no place, or says it in another way (options, a summary, a "
            "validation)",
        ),
    ):
        if n:
            yield f"{n:,} {'rate' if n == 1 else 'rates'} {what}"


def lines(found: Diagnosis) -> list[str]:
    """Return a diagnosis as text, a paragraph or an item a line."""
    paragraphs = [_head(found), _verdict(found), [f"{remark}." for remark in found.remarks]]
    return [
        line
        for number, paragraph in enumerate(p for p in paragraphs if p)
        for line in ([""] * (number > 0) + paragraph)
    ]


def _head(found: Diagnosis) -> list[str]:
    return [*reading(found), f"against {found.schedule.call(found.steps.names)}"]


def _verdict(found: Diagnosis) -> list[str]:
    if found.verdict == SAYS_NOTHING:
        return _says_nothing(found)
    if found.verdict == NOT_A_NUMBER:
        return [f"Not every rate is a number: {'; '.join(found.not_finite)}.", "", *_rest(found)]
    if not found.follows:
        return [_misses(found), "", *_rest(found)]
    said = [f"The log follows the plan: torch gives all {found.n:,} rates."]
    if found.truncated:
        said.append(
            f"It ends at {found.placing.said(found.n - 1)} with {found.log.lr[-1]:g}, and the "
            f"plan has {found.steps.epochs:,} epochs of {found.steps.per_epoch:,} steps: training "
            "was cut short before the anneal was over, or the log is a part."
        )
    others = [e for e in found.equals if e.name != PLAN]
    if others:
        said += ["", "These digits do not exclude:", *_items(others, found)]
    return said


def _says_nothing(found: Diagnosis) -> list[str]:
    others = [e for e in found.equals if e.name != PLAN]
    rates = "rate fits" if found.n == 1 else f"{found.n:,} rates fit"
    if found.fits_plan:
        said = (
            f"The log says nothing: its {rates} the plan, and these as well, so its digits do not "
            "tell a sound training from a broken one:"
        )
    else:
        said = "The log says nothing, for it has no numbers that place its rates:"
    return [
        said,
        *_items(others, found),
        "Print more digits and more lines: f'step {step} lr {scheduler.get_last_lr()[0]:.3e}'.",
    ]


def _misses(found: Diagnosis) -> str:
    at, planned = found.worst()
    ends = "ends at" if isinstance(found.placing, Whole) else "gives"
    return (
        f"The log does not follow the plan, which gives {found.plan.n_fit:,} of its "
        f"{found.n:,} rates: {found.placing.said(at)} says {found.log.lr[at]:g} "
        f"where torch {ends} {planned:.4g}."
    )


def _rest(found: Diagnosis) -> list[str]:
    equals = [e for e in found.equals if e.name != PLAN]
    if not equals:
        closest = [e for e in found.explanations if e.name != PLAN][:_CLOSEST]
        return ["No single mistake gives all of them. The closest:", *_items(closest, found)]
    if len(equals) == 1:
        return [f"One mistake gives all {found.n:,} rates:", *_items(equals, found)]
    return [
        f"These give all {found.n:,} rates, the likeliest first; the digits cannot tell:",
        *_items(equals, found),
    ]


def _items(explanations: Sequence[Explanation], found: Diagnosis) -> list[str]:
    return [
        f"  {number}. {e.what}"
        + ("" if e.n_fit == found.n else f" ({e.n_fit} of {found.n} rates)")
        + f"; {e.instead}."
        for number, e in enumerate(explanations, 1)
    ]


def _width() -> int:
    return min(100, shutil.get_terminal_size().columns)
