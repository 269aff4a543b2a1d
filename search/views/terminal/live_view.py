"""What is shown of a study while it is worked on: bars and runs, or one line per event."""

import logging
import time

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from search.results.snapshot import RunStatus, Snapshot, snapshot
from search.stages.order import STAGE_NAMES
from search.starting.cost import Started, duration_text
from studies.database import DatabaseUnreachableError

log = logging.getLogger(__name__)

_MOST_RUNS = 8
_COLUMNS = ("running", "epoch", "images/s", "left", "max_lr", "pct_start", "div_factor")
_MORE_COLUMNS = (*_COLUMNS[:5], "pct", "div", "decay", "batch")  # the same width for two more


class View:
    """One watcher's picture of a study."""

    def __init__(self, engine: Engine, started: Started) -> None:
        self.engine, self.started = engine, started
        self.now: Snapshot | None = None
        self._since: tuple[float, int] | None = None  # a moment of progress: time, images done
        self._images_at_start = 0
        self._away = False
        self._said: set[int] = set()  # ids of runs
        self._proposed = False

    def look(self) -> bool:
        """Read the database once; False while it does not answer."""
        first = self.now is None
        try:
            self.now = snapshot(self.engine, self.started.row.id, self.started.plan)
        except DatabaseUnreachableError as error:
            if not self._away:
                log.warning("%s; the workers train on", error)
            self._away = True
            return False
        if self._away:
            log.warning("the database is back")
        self._away = False
        if first:
            self._images_at_start = self.now.images_done
            self._said = {r.work_id for r in self.now.runs if _ended(r)}
            self._proposed = self.now.proposal is not None
        elif self._since is None and self.now.images_done > self._images_at_start:
            self._since = time.monotonic(), self.now.images_done
        return True

    def images_per_s(self) -> float:
        """Training images per second of all workers as seen so far, at first the warm-up's."""
        assert self.now is not None
        if self._since is not None:
            moment, images = self._since
            seen = self.now.images_done - images
            if seen > 0.02 * self.now.images_total:
                return seen / (time.monotonic() - moment)
        return self.started.images_per_s

    def speed_text(self) -> str:
        """Return how fast it goes and how long the rest takes at that rate."""
        assert self.now is not None
        rate = self.images_per_s()
        left = (self.now.images_total - self.now.images_done) / rate
        return f"{rate:,.0f} images/s · {duration_text(left)} left"

    def news(self) -> list[str]:
        """Return a line for each event since the last call: a run that ended, a proposal."""
        assert self.now is not None
        lines = []
        for run in self.now.runs:
            if _ended(run) and run.work_id not in self._said:
                self._said.add(run.work_id)
                lines.append(self._line(run))
        if self.now.proposal is not None and not self._proposed:
            self._proposed = True
            lines.append(f"proposed max_lr {self.now.proposal:.3g}")
        return lines

    def _line(self, run: RunStatus) -> str:
        assert self.now is not None
        total = next(s.total for s in self.now.stages if s.name == run.name)
        n_said = sum(r.work_id in self._said for r in self.now.runs if r.name == run.name)
        words = [f"{run.name} {n_said}/{total}", f"slot {run.slot}"]
        if run.params is not None:
            words.append(str(run.params))
        if run.score is not None:
            words.append(f"score {run.score:.4f}")
        words.append("given up" if run.state == "failed" else run.outcome or "")
        words.append(self.speed_text())
        return " · ".join(word for word in words if word)

    def picture(self, *, height: int) -> RenderableType:
        """Return bars for the stages, a row for each run under way, the best so far and how
        long the rest takes, in about `height` lines of 80 columns.
        """
        now = self.now
        if now is None:
            return Text("")
        bars = Table.grid(padding=(0, 2))
        for stage in now.stages:
            failed = f", {stage.failed} given up" if stage.failed else ""
            bars.add_row(
                Text(stage.name, style="bold" if stage.stage == now.stage else ""),
                ProgressBar(total=max(1, stage.total), completed=stage.done, width=28),
                f"{stage.done}/{stage.total}{failed}",
            )
        parts: list[RenderableType] = [bars]
        if now.running:
            n_shown = max(1, min(_MOST_RUNS, height - len(now.stages) - 5))
            parts.append(self._running(now.running[:n_shown]))
            if len(now.running) > n_shown:
                parts.append(Text(f"and {len(now.running) - n_shown} more"))
        parts += [Text(line) for line in self._last_lines()]
        return Group(*parts)

    def _running(self, runs: list[RunStatus]) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        more = any(run.params is not None and len(run.params.searched()) > 3 for run in runs)
        columns = _MORE_COLUMNS if more else _COLUMNS
        for heading in columns:
            table.add_column(justify="left" if heading == columns[0] else "right", no_wrap=True)
        table.add_row(*(Text(heading, style="dim") for heading in columns))
        for run in runs:
            table.add_row(*self._cells(run))
        return table

    def _cells(self, run: RunStatus) -> list[str]:
        name = f"{run.name} {run.slot}"
        if run.stage == "range_test":
            return [name, f"{run.length} steps"]
        speed, left = "", ""
        if run.images_per_s:
            row = self.started.row
            images = (run.length - run.epoch) * row.steps_per_epoch * row.batch_size
            speed, left = f"{run.images_per_s:,.0f}", duration_text(images / run.images_per_s)
        cells = [name, f"{run.epoch}/{run.length}", speed, left]
        if run.params is None:
            return [*cells, "asking"]
        params = run.params
        cells += [f"{params.max_lr:.3g}", f"{params.pct_start:.2f}", f"{params.div_factor:.3g}"]
        if len(params.searched()) > 3:
            cells.append("" if params.weight_decay is None else f"{params.weight_decay:.2g}")
            cells.append("" if params.batch_size is None else str(params.batch_size))
        return cells

    def _last_lines(self) -> list[str]:
        assert self.now is not None
        lines, best = [], self.now.best
        if best is not None and best.score is not None:
            lines.append(f"best so far {best.score:.4f} (slot {best.slot}: {best.params})")
        elif self.now.proposal is not None:
            lines.append(f"proposed max_lr {self.now.proposal:.3g}")
        if self.now.stage in STAGE_NAMES:
            lines.append(self.speed_text())
        return lines


def _ended(run: RunStatus) -> bool:
    return run.state in ("done", "failed")
