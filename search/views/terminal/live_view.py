"""What is shown of a study while it is worked on: bars and runs, or one line per event."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from search.results.status import EndedRun, Overview, Running, ended_since, overview
from search.starting.cost import Started, duration_text
from search.views.terminal.sparkline import KINDS, learning
from studies.errors import DatabaseError, StudyError
from studies.params import CYCLE, parameter
from studies.states import RunState, Stage

log = logging.getLogger(__name__)

# With bars, headings and last lines these fill most of a terminal of 24 lines.
_MOST_RUNS = 8


class View:
    """One watcher's picture of a study."""

    def __init__(self, engine: Engine, started: Started) -> None:
        self.engine, self.started = engine, started
        self.now: Overview | None = None
        self.look_s = 0.0
        self._since: tuple[float, int] | None = None  # a moment of progress: time, images done
        self._images_at_start = 0
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
            self._images_at_start = self.now.images_done
            self._told.update(run.stage for run in new.values())
            self._proposed = self.now.max_lr is not None
        else:
            self._new += new.values()
        if not first and self._since is None and self.now.images_done > self._images_at_start:
            self._since = time.monotonic(), self.now.images_done
        return True

    def images_per_s(self) -> float:
        """Training images per second of all workers as seen so far, at first the warm-up's."""
        assert self.now is not None
        if self._since is not None:
            moment, images = self._since
            seen = self.now.images_done - images
            # Too few runs tell no speed: until 2 % of the images are done the warm-up's counts.
            if seen > 0.02 * self.now.images_total:
                return seen / (time.monotonic() - moment)
        return self.started.images_per_s

    def speed_text(self) -> str:
        """Return how fast it goes and how long the rest takes at that rate."""
        assert self.now is not None
        rate = self.images_per_s()
        left = (self.now.images_total - self.now.images_done) / rate
        return f"{rate:,.0f} {self.started.trained_on}/s · {duration_text(left)} left"

    def news(self) -> list[str]:
        """Return a line for each event since the last call: a run that ended, a proposal."""
        assert self.now is not None
        totals = {stage.stage: stage.total_text for stage in self.now.stages}
        lines = [self._line(run, totals) for run in self._new if run.stage in totals]
        self._new.clear()
        if self.now.max_lr is not None and not self._proposed:
            self._proposed = True
            lines.append(self.now.max_lr)
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

    def picture(self, *, height: int, plain: bool = False) -> RenderableType:
        """Return bars for the stages, a row for each run under way, the best so far and how
        long the rest takes, in about `height` lines of 80 columns.

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
                ProgressBar(total=max(1, stage.total), completed=stage.done, width=28),
                f"{stage.done}/{stage.total_text}{failed}",
            )
        parts: list[RenderableType] = [bars]
        if now.running:
            # Five lines are kept for the headings, 'and n more', two last lines, and the prompt.
            n_shown = max(1, min(_MOST_RUNS, height - len(now.stages) - 5))
            parts.append(self._running(now.running[:n_shown], plain=plain))
            if len(now.running) > n_shown:
                parts.append(Text(f"and {len(now.running) - n_shown} more"))
        parts += [Text(line) for line in self._last_lines()]
        return Group(*parts)

    def _running(self, runs: Sequence[Running], *, plain: bool) -> Table:
        columns: dict[str, list[str]] = {
            "running": [f"{run.name} {run.slot}" for run in runs],
            "done": [done_text(run) for run in runs],
            "left": [self._left(run) for run in runs],
            **_learning(runs, plain=plain),
            **_values(runs),
        }
        table = Table.grid(padding=(0, 2, 0, 0))
        shown = _fitting({heading: cells for heading, cells in columns.items() if any(cells)})
        for heading in shown:
            table.add_column(justify="left" if heading in _TO_THE_LEFT else "right", no_wrap=True)
        table.add_row(*(Text(heading, style="dim") for heading in shown))
        for cells in zip(*shown.values(), strict=True):
            table.add_row(*map(Text, cells))
        return table

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
            lines.append(self.now.answer)
        elif best is not None:
            lines.append(f"best so far {best.score:.4f} (slot {best.slot}: {best.params})")
        elif self.now.max_lr is not None:
            lines.append(self.now.max_lr)
        if not self.now.ended:
            lines.append(self.speed_text())
        return lines


_COLUMNS = 80
_DROPPED_FIRST = ("left", "last", *KINDS)
"""Where a study has many parameters; rich would cut values off instead."""


def _fitting(columns: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return as many of the columns as fit a terminal of 80."""
    kept = dict(columns)
    for heading in _DROPPED_FIRST:
        if sum(2 + max(map(len, [name, *cells])) for name, cells in kept.items()) <= _COLUMNS:
            break
        kept.pop(heading, None)
    return kept


_TO_THE_LEFT = ("running", *KINDS)


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
        parameter(name).heading or name: [each.get(name, "") for each in texts] for name in names
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
