"""Live progress on a terminal, one line per event elsewhere; both on stderr."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.logging import RichHandler
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from search.plan import Started, duration_text
from search.snapshot import RunStatus, Snapshot, snapshot
from search.stages import STAGE_NAMES
from search.terminal import plan_text
from studies.database import DatabaseUnreachableError, masked_text

log = logging.getLogger(__name__)


class Progress:
    """Shows a study while it is worked on, by looking at the database."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._handlers = logging.getLogger().handlers[:]

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            handler = RichHandler(console=self.console, show_path=False, show_level=False)
            logging.getLogger().handlers[:] = [handler]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        logging.getLogger().handlers[:] = self._handlers

    @contextmanager
    def watch(self, engine: Engine, started: Started) -> Iterator[None]:
        """Print database and plan, then show the study until the block ends."""
        print(f"database: {masked_text(engine.url)}", file=sys.stderr)
        print(plan_text(started), file=sys.stderr, flush=True)
        view = _View(engine, started)
        over = threading.Event()
        show = self._show_live if self.console.is_terminal else self._print_lines
        thread = threading.Thread(target=show, args=(view, over), daemon=True)
        worker_log = logging.getLogger("search.worker")
        level = worker_log.level
        worker_log.setLevel(logging.WARNING)  # the view shows what a worker here would tell
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            worker_log.setLevel(level)

    def _show_live(self, view: "_View", over: threading.Event) -> None:
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            while not over.wait(0.4):
                if view.look():
                    live.update(view.picture())
            view.look()
        self.console.print(view.picture())

    def _print_lines(self, view: "_View", over: threading.Event) -> None:
        ending = False
        while not ending:
            ending = over.wait(0.5)
            if view.look():
                for line in view.news():
                    print(line, file=sys.stderr, flush=True)


class _View:
    """One watcher's picture of a study."""

    def __init__(self, engine: Engine, started: Started) -> None:
        self.engine, self.started = engine, started
        self.now: Snapshot | None = None
        self._since: tuple[float, int] | None = None  # a moment of progress: time, images done
        self._images_at_start = 0
        self._away = False
        self._said: set[int] = set()  # ids of runs

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
        elif self._since is None and self.now.images_done > self._images_at_start:
            self._since = time.monotonic(), self.now.images_done
        return True

    def seconds_left(self) -> float:
        """How long the rest takes at the rate seen so far, at first at the warm-up's."""
        assert self.now is not None
        rate = self.started.images_per_s
        if self._since is not None:
            moment, images = self._since
            seen = self.now.images_done - images
            if seen > 0.02 * self.now.images_total:
                rate = seen / (time.monotonic() - moment)
        return (self.now.images_total - self.now.images_done) / rate

    def news(self) -> list[str]:
        """Return a line for each run that ended since the last call."""
        assert self.now is not None
        lines = []
        for run in self.now.runs:
            if _ended(run) and run.work_id not in self._said:
                self._said.add(run.work_id)
                lines.append(self._line(run))
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
        words.append(f"{duration_text(self.seconds_left())} left")
        return " · ".join(word for word in words if word)

    def picture(self) -> RenderableType:
        """Return bars for the stages, a line for each run under way, and the best so far."""
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
        lines = [self._under_way(run) for run in now.running[:8]]
        best = now.best
        if best is not None and best.score is not None:
            lines.append(f"best so far {best.score:.4f} (slot {best.slot}: {best.params})")
        elif now.proposal is not None:
            lines.append(f"proposed max_lr {now.proposal:.3g}")
        if now.stage in STAGE_NAMES:
            lines.append(f"{duration_text(self.seconds_left())} left")
        return Group(bars, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))

    def _under_way(self, run: RunStatus) -> str:
        name = f"  {run.name} {run.slot}"
        if run.stage == "range_test":
            return f"{name}: sweep of {run.length} steps"
        return f"{name}: epoch {run.epoch}/{run.length} · {run.params or 'asking'}"


def _ended(run: RunStatus) -> bool:
    return run.state in ("done", "failed")
