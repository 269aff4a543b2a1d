"""The figures as Markdown, from whatever lines are there."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.images import GENERATED
from benchmarks.lines import whole_lines
from benchmarks.tables import table

Row = dict[str, Any]


def page(lines: Path) -> str:
    """Return the page of a file of figures; a part that is not there says so."""
    rows: list[Row] = [json.loads(line) for line in whole_lines(lines)]
    by_part = {part: [row for row in rows if row["part"] == part] for part in (*SECTIONS, "data")}
    sections = [f"## {title}\n\n{make(by_part)}" for title, make in SECTIONS.values()]
    return "\n\n".join(["# `cifar` on a GPU", *sections]) + "\n"


def _machine(parts: dict[str, list[Row]]) -> str:
    rows = parts["machine"][-1:]
    facts = [(name, value) for row in rows for name, value in row.items() if value is not None]
    facts += [(f"images {row['name']} in s", row["seconds"]) for row in parts["data"]]
    return table(("what", "which"), facts[1:])


def _peak(parts: dict[str, list[Row]]) -> str:
    rows = [
        (name, f"{rate:,.3f}", row["matrix"])
        for row in parts["peak"]
        if "failed" not in row
        for name, rate in row["tflops"].items()
    ]
    return table(("precision", "TFLOP/s", "rows and columns"), rows) + _failures(parts["peak"])


def _step(parts: dict[str, list[Row]]) -> str:
    whole = [row for row in parts["peak"] if "failed" not in row][-1:]
    rows = [
        (
            row["name"],
            _count(row.get("images_per_s")),
            _spread(row),
            _count(row.get("overall_images_per_s")),
            _share(row, whole),
            row.get("warm_up_s", "-"),
        )
        for row in parts["step"]
        if not _reason(row)
    ]
    heads = (
        *("form", "images/s, training", "slowest to fastest epoch"),
        *("with evaluation", "share of the peak", "warm-up in s"),
    )
    return table(heads, rows) + _failures(parts["step"])


def _share(row: Row, whole: Sequence[Row]) -> str:
    """Return the FLOPs of the images over what a multiplication did in the same precision."""
    rate = row.get("images_per_s") or row.get("overall_images_per_s")
    if not whole or rate is None:
        return "-"
    peak = whole[0]["tflops"][whole[0]["precision"]]
    return f"{rate * whole[0]['gflop_per_image'] / 1e3 / peak:.1%}"


def _count(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def _spread(row: Row) -> str:
    if "slowest" not in row:
        return "-"
    return f"{row['slowest']:,} to {row['fastest']:,} ({row['rounds']})"


def _repeat(parts: dict[str, list[Row]]) -> str:
    rows = [
        (
            row["name"],
            row["runs"],
            row["epochs"],
            "yes" if row["same_losses"] else "no",
            ", ".join(str(score) for score in row["scores"]),
        )
        for row in parts["repeat"]
        if not _reason(row)
    ]
    heads = ("form", "runs of one seed", "epochs", "the same losses", "scores")
    return table(heads, rows) + _failures(parts["repeat"])


def _study(parts: dict[str, list[Row]]) -> str:
    rows = [
        (row["name"], name, value)
        for row in parts["study"]
        if not _reason(row)
        for name, value in row.items()
        if name not in ("part", "name")
    ]
    text = table(("study", "what", "value"), rows) + _failures(parts["study"])
    made = [row for row in parts["machine"] if row["images"] == GENERATED]
    return f"{text}\n\nThe images are generated: accuracies say nothing." if made else text


def _reason(row: Row) -> str | None:
    """Return why a row has no figures."""
    return next((f"{why}: {row[why]}" for why in ("failed", "skipped") if why in row), None)


def _failures(rows: Sequence[Row]) -> str:
    lines = [f"- {row['name']}: {_reason(row)}" for row in rows if _reason(row)]
    return "\n\n" + "\n".join(lines) if lines else ""


SECTIONS = {
    "machine": ("Where", _machine),
    "peak": ("The peak", _peak),
    "step": ("The step", _step),
    "repeat": ("The same seed twice", _repeat),
    "study": ("The whole study", _study),
}
