"""What a person reads of a OneCycleLR call: its numbers, a chart, a table, what is wrong."""

import json as json_module
import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.errors import UsageError
from trainers.calls.lint import Finding
from trainers.calls.schedule import Preview, Schedule, Steps, preview
from trainers.errors import ScheduleError

# A terminal's usual height and width; --json has every row.
_MOST_ROWS, _WIDTH = 24, 80


@dataclass(frozen=True, slots=True)
class Row:
    """One epoch, or one tenth of a cycle without epochs: its rates and its first momentum."""

    name: str
    first: float
    highest: float
    last: float
    momentum: float | None


@dataclass(frozen=True, slots=True)
class View:
    """A call with what torch applies and what the lint found."""

    schedule: Schedule
    steps: Steps
    seen: Preview
    findings: Sequence[Finding]

    @classmethod
    def of(cls, schedule: Schedule, steps: Steps, findings: Sequence[Finding]) -> "View":
        """Step torch's class; raise ScheduleError with the reason where torch refuses the call."""
        try:
            return cls(schedule, steps, preview(schedule), findings)
        except ScheduleError:
            reasons = [f for f in findings if f.severity == "error"]
            if not reasons:
                raise
            raise ScheduleError(reasons[0].line().removeprefix("error: ")) from None

    @property
    def per_row(self) -> int:
        """Steps of a row of the table."""
        return self.steps.per_epoch or max(1, -(-self.schedule.total_steps // 10))

    def rows(self) -> list[Row]:
        """Return every epoch, or ten parts of a cycle that was given without epochs."""
        rows, seen, total = [], self.seen, self.schedule.total_steps
        for number, begin in enumerate(range(0, total, self.per_row), 1):
            end = min(begin + self.per_row, total)
            lrs = seen.lrs[begin:end]
            name = str(number) if self.steps.per_epoch else f"{begin + 1:,}-{end:,}"
            momentum = seen.momenta[begin] if seen.momenta else None
            rows.append(Row(name, lrs[0], max(lrs), lrs[-1], momentum))
        return rows

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values; steps are counted from 1."""
        s, seen = self.schedule, self.seen
        return {
            "call": s.call(self.steps.names),
            "onecycle_lr": asdict(s),
            "total_steps": s.total_steps,
            "total_steps_from": self.steps.explained(),
            "taken_steps": self.steps.taken,
            "first_lr": seen.lrs[0],
            "peak_lr": seen.lrs[seen.peak],
            "peak_step": seen.peak + 1,
            "last_lr": seen.lrs[-1],
            "mean_lr": seen.mean_lr,
            "after_the_end": seen.after,
            "rows": [asdict(row) for row in self.rows()],
            "findings": [
                {
                    "severity": f.severity,
                    "pitfall": f.pitfall.name,
                    "what": f.pitfall.what,
                    "number": f.number,
                    "why": f.pitfall.why,
                    "instead": f.instead,
                }
                for f in self.findings
            ],
        }


def print_view(view: View, *, json: bool) -> None:
    """Print a call on stdout: text of at most 80 columns, or one JSON document."""
    if json:
        print(json_module.dumps(view.as_json(), indent=2))
        return
    print("\n".join([*numbers(view), "", *chart(view.seen.lrs), "", *table(view)]))
    print()
    if not view.findings:
        print("nothing is wrong with this call")
    for finding in view.findings:
        print(fitted(finding.line()))


def numbers(view: View) -> list[str]:
    """Return the call and its numbers, a line each."""
    s, seen = view.schedule, view.seen
    peak = f"{seen.lrs[seen.peak]:.4g} at step {seen.peak + 1:,} of {s.total_steps:,}"
    if view.steps.per_epoch:
        peak += f", in epoch {seen.peak // view.per_row + 1}"
    momentum = "not cycled"
    if seen.momenta:
        m = seen.momenta
        momentum = f"{m[0]:.4g}, {m[seen.peak]:.4g} at the peak, {m[-1]:.4g} (Adam: beta1)"
    first, last = "max_lr / div_factor", "max_lr / (div_factor * final_div_factor)"
    named = {
        "total steps": f"{s.total_steps:,}: {view.steps.explained()}",
        "first rate": _beside(seen.lrs[0], s.first_lr, first, s.div_factor),
        "peak": peak,
        "last rate": _beside(seen.lrs[-1], s.last_lr, last, s.div_factor * s.final_div_factor),
        "mean rate": f"{seen.mean_lr:.4g} = {seen.mean_lr / s.max_lr:.3f} max_lr",
        "momentum": momentum,
    }
    width = _width()
    call = textwrap.wrap(s.call(view.steps.names), width, subsequent_indent=" " * 11)
    lines = [f"{name:<13}{text}" for name, text in named.items()]
    return [*call, "", *(textwrap.fill(x, width, subsequent_indent=" " * 13) for x in lines)]


def _beside(applied: float, meant: float, formula: str, divisor: float) -> str:
    """Return an applied rate beside the formula that it should follow."""
    rule = f"{formula} = max_lr / {divisor:,.10g}"
    if math.isclose(applied, meant, rel_tol=1e-6):
        return f"{applied:.4g}; {rule}"
    return f"{applied:.4g}, not {rule} = {meant:.4g}"


def chart(lrs: Sequence[float]) -> list[str]:
    """Return the rates over the steps as a chart; stdout must be able to show its characters."""
    if "utf" not in (sys.stdout.encoding or "").lower():
        return ["(no chart: this output is not UTF-8)"]
    from search.views.terminal.charts import schedule_chart

    return schedule_chart(lrs, width=_width()).splitlines()


def _width() -> int:
    return min(_WIDTH, shutil.get_terminal_size().columns)


def table(view: View) -> list[str]:
    """Return the table by epoch: all of them, or some with the first, the peak and the last."""
    rows = view.rows()
    shown, note = list(range(len(rows))), []
    title = "epoch" if view.steps.per_epoch else "steps"
    if len(rows) > _MOST_ROWS:
        last = len(rows) - 1
        even = {round(last * k / (_MOST_ROWS - 4)) for k in range(_MOST_ROWS - 3)}
        shown = sorted(even | {view.seen.peak // view.per_row})
        note = [f"{len(shown)} of {len(rows)} epochs; --json has all"]
    width = max(len(title), *(len(row.name) for row in rows))
    head = f"{title:>{width}}{'first':>12}{'highest':>12}{'last':>12}{'momentum':>11}"
    lines = [head if view.seen.momenta else head[:-11]]
    for number in shown:
        row = rows[number]
        line = f"{row.name:>{width}}{row.first:>12.4g}{row.highest:>12.4g}{row.last:>12.4g}"
        lines.append(line if row.momentum is None else f"{line}{row.momentum:>11.4f}")
    return [*lines, *note]


def fitted(line: str) -> str:
    """Return a line that wraps on a terminal; a pipe or a file keeps it whole."""
    if not sys.stdout.isatty():
        return line
    width = min(100, shutil.get_terminal_size().columns)
    return textwrap.fill(line, width, subsequent_indent="    ", break_long_words=False)


def save(view: View, path: Path) -> None:
    """Write rate and momentum over the steps as an HTML page that needs no network."""
    from search.views.figures.rate_figures import call_figure

    figure = call_figure(view.seen)
    try:
        figure.write_html(path, config={"displayModeBar": False})
    except OSError as error:
        raise UsageError(f"--save {path}: cannot be written: {error.strerror}") from error
