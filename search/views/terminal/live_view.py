"""What is shown of a study while it is worked on: bars and runs, or one line per event."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from search.results.status import EndedRun, Overview, Running, ended_since, overview
from search.starting.cost import Started, duration_text
from search.text import printable
from search.views.terminal.sparkline import KINDS, learning
from search.views.terminal.tables import wrapped
from studies.errors import DatabaseError, StudyError
from studies.params import CYCLE, parameter
from studies.states import RunState, Stage

log = logging.getLogger(__name__)

# With bars, headings and last lines these fill most of a terminal of 24 lines.
_MOST_RUNS = 8


class View:
    """One watcher's picture of a study.

    `tells_answer`: the last picture says what to take; not where the answer is printed below it.
    """

    def __init__(self, engine: Engine, started: Started, *, tells_answer: bool = True) -> None:
        self.engine, self.started = engine, started
        self.tells_answer = tells_answer
        self.now: Overview | None = None
        self.look_s = 0.0
        self._away = False
        self._known: set[int] = set()  # ids of ended runs
        self._told: Counter[Stage] = Counter()
        self._new: list[EndedRun] = []
        self._proposed = False

    def look(self) -> bool:
        """Read the database once; False while it does not answer, or has the study no more."""
        first, began = self.now is None, time.monotonic()
        try:
            self.now = overview(self.engine, self.started.row.name, self.started.costs)
            new = ended_since(self.engine, self.started.row.id, self._known)
        except StudyError:  # deleted meanwhile: who works on it says so
            return False
        except DatabaseError as error:
            if not self._away:
                log.warning("%s; the workers train on", error)
            self._away = True
            return False
        if self._away:
            log.warning("the database is back")
        self._away = False
        self.look_s = time.monotonic() - began
        self._known |= new.keys()
        if first:
            self._told.update(run.stage for run in new.values())
            self._proposed = self.now.max_lr is not None
        else:
            self._new += new.values()
        return True

    def speed_text(self) -> str:
        """Return how fast it goes and how long the rest takes, as `status` says it.

        The speed is the warm-up's until a run has ended.
        """
        assert self.now is not None
        rate = self.now.images_per_s or self.started.images_per_s
        return f"{rate:,.0f} {self.started.trained_on}/s · {self.now.time_left or 'nothing left'}"

    def news(self) -> list[str]:
        """Return a line for each event since the last call: a run that ended, a proposal."""
        assert self.now is not None
        totals = {stage.stage: stage.total_text for stage in self.now.stages}
        new = [run for run in self._new if run.stage in totals]
        lines = [self._line(run, totals) for run in new]
        self._new.clear()
        if self.now.max_lr is not None and not self._proposed:
            self._proposed = True
            # Behind the sweeps that it comes of: a slow look sees cycles beside them.
            n_sweeps = sum(run.stage == Stage.RANGE_TEST for run in new)
            lines.insert(n_sweeps, self.now.max_lr)
        return lines

    def _line(self, run: EndedRun, totals: Mapping[Stage, str]) -> str:
        self._told[run.stage] += 1
        words = [
            f"{run.stage.words} {self._told[run.stage]}/{totals[run.stage]}",
            f"slot {run.slot}",
        ]
        if run.params is not None:
            words.append(str(run.params))
        if run.score is not None:
            words.append(f"score {run.score:.4f}")
        words.append("given up" if run.state == RunState.FAILED else run.outcome or "")
        words.append(self.speed_text())
        return " · ".join(word for word in words if word)

    def picture(self, *, height: int, width: int = 80, plain: bool = False) -> RenderableType:
        """Return bars for the stages, a row for each run under way, the best so far and how
        long the rest takes, in about `height` lines of `width` columns.

        A row has how far the run is and how it learns; `plain`: in characters of ASCII.
        """
        now = self.now
        if now is None:
            return Text("")
        bars = Table.grid(padding=(0, 2))
        for stage in now.stages:
            failed = f", {stage.given_up} given up" if stage.given_up else ""
            bars.add_row(
                Text(stage.name, style="bold" if stage.stage == now.stage else ""),
                ProgressBar(
                    total=max(1, stage.total), completed=stage.done, width=min(28, width - 48)
                ),
                f"{stage.done}/{stage.total_text}{failed}",
            )
        parts: list[RenderableType] = [bars]
        if now.running:
            # Five lines are kept for the headings, 'and n more', two last lines, and the prompt.
            n_shown = max(1, min(_MOST_RUNS, height - len(now.stages) - 5))
            parts += self._running(now.running[:n_shown], width, plain=plain)
            if len(now.running) > n_shown:
                parts.append(Text(f"and {len(now.running) - n_shown} more"))
        parts += [
            Text(part) for line in self._last_lines() for part in wrapped(printable(line), width)
        ]
        return Group(*parts)

    def _running(
        self, runs: Sequence[Running], width: int, *, plain: bool
    ) -> list[RenderableType]:
        """Return a row for each run; parameters without room are named below."""
        values = _values(runs)
        columns: dict[str, list[str]] = {
            "running": [f"{run.name} {run.slot}" for run in runs],
            "done": [done_text(run) for run in runs],
            "left": [self._left(run) for run in runs],
            **_learning(runs, plain=plain),
            **values,
        }
        shown = {heading: cells for heading, cells in columns.items() if any(cells)}
        for heading in _DROPPED_FIRST:
            if _taken(shown) > width:
                shown.pop(heading, None)
        hidden = list[str]()
        while _taken(shown) > width and (last := next(reversed(shown))) in values:
            hidden.insert(0, last)
            del shown[last]
        table = Table.grid(padding=(0, 2, 0, 0))
        for heading in shown:
            table.add_column(justify="left" if heading in _TO_THE_LEFT else "right", no_wrap=True)
        table.add_row(*(Text(heading, style="dim") for heading in shown))
        for cells in zip(*shown.values(), strict=True):
            table.add_row(*map(Text, cells))
        if not hidden:
            return [table]
        left_out = f"not shown, for want of room: {', '.join(hidden)}; `onecycle trials` has them"
        return [table, *map(Text, wrapped(left_out, width))]

    def _left(self, run: Running) -> str:
        if not run.images_per_s:
            return ""
        row = self.started.row
        images = (run.length - run.epoch) * row.steps_per_epoch * row.batch_size
        return duration_text(images / run.images_per_s)

    def _last_lines(self) -> list[str]:
        assert self.now is not None
        lines, best = [], self.now.best
        if self.now.answer is not None:
            lines += [self.now.answer] if self.tells_answer else []
        elif best is not None:
            lines.append(f"best so far {best.score:.4f} (slot {best.slot}: {best.params})")
        elif self.now.max_lr is not None:
            lines.append(self.now.max_lr)
        if not self.now.ended:
            lines.append(self.speed_text())
        return lines


_TO_THE_LEFT = ("running", *KINDS)
_DROPPED_FIRST = ("left", "last")
"""Told elsewhere as well: of the whole study, and by the end of the line that is drawn."""


def _taken(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the columns of characters that a table takes, with two between its columns."""
    widths = [max(map(cell_len, [heading, *cells])) for heading, cells in columns.items()]
    return sum(widths) + 2 * (len(widths) - 1)


def _learning(runs: Sequence[Running], *, plain: bool) -> dict[str, list[str]]:
    """Return how the runs learn as two columns; none before there is anything to show."""
    learned = learning(runs, plain=plain)
    if not learned:
        return {}
    shown = [learned.get(place) for place in range(len(runs))]
    return {
        next(iter(learned.values())).kind: [each.line if each else "" for each in shown],
        "last": [f"{each.last:.4g}" if each else "" for each in shown],
    }


def _values(runs: Sequence[Running]) -> dict[str, list[str]]:
    """Return a column for each parameter; a heading is short, for 80 columns hold no long ones."""
    asked = [tuple(run.params) for run in runs if run.params is not None]
    names = max(asked, key=len, default=CYCLE)
    texts = [{} if run.params is None else run.params.texts() for run in runs]
    columns = {
        printable(parameter(name).heading or name): [
            printable(each.get(name, "")) for each in texts
        ]
        for name in names
    }
    for place, run in enumerate(runs):
        if run.params is None and run.stage != Stage.RANGE_TEST:
            next(iter(columns.values()))[place] = "asking"
    return columns


def done_text(run: Running) -> str:
    """Return how far a run is: in epochs once its loop has reported one, else in steps."""
    if run.epoch:
        return f"epoch {run.epoch}/{run.length}"
    return f"step {run.step}/{run.total_steps}"
