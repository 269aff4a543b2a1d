"""What a person sees: the plan and live progress on stderr, the answer on stdout."""

import csv as csv_module
import json as json_module
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.logging import RichHandler
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from search.budget import duration_text
from search.catalog import TRIAL_COLUMNS
from search.result import Candidate, StudyResult
from search.status import RunStatus, Status, status
from studies.database import DatabaseUnreachableError, masked_text

if TYPE_CHECKING:
    from search.api import Started

log = logging.getLogger(__name__)

_SHOWN_COLUMNS = (
    "slot",
    "state",
    "outcome",
    "score",
    "max_lr",
    "pct_start",
    "div_factor",
    "seconds",
)
_STAGE_NAMES = {
    "range_test": "range test",
    "search": "search",
    "confirmation": "confirmation",
}


def plan_text(started: "Started") -> str:
    """Return the plan and its cost, before it is spent, as a few lines."""
    lines = [f"study {started.row.name}: {started.n_workers} worker(s) on {started.site.device}"]
    for cost in started.plan:
        kind = "sweeps" if cost.stage == "range_test" else "cycles"
        lines.append(
            f"  {_STAGE_NAMES[cost.stage]:<12} {cost.n_runs:>4} {kind} of {cost.steps:>5} steps "
            f"= {cost.n_images:>12,} training images"
        )
    total = sum(cost.n_images for cost in started.plan)
    lines.append(
        f"  {'in all':<12} {total:>34,} training images, about {duration_text(started.seconds)} "
        f"here ({started.images_per_s:,.0f} images/s)"
    )
    return "\n".join(lines)


def print_plan(started: "Started", *, json: bool) -> None:
    """Print the plan of a study on stdout."""
    if not json:
        print(plan_text(started))
        return
    document = {
        "study": started.row.name,
        "device": started.site.device,
        "workers": started.n_workers,
        "images_per_s": started.images_per_s,
        "seconds": started.seconds,
        "stages": [
            {"stage": c.stage, "runs": c.n_runs, "steps": c.steps, "images": c.n_images}
            for c in started.plan
        ],
    }
    print(json_module.dumps(document, indent=2))


class Progress:
    """Live progress on a terminal, one line per event elsewhere; both on stderr."""

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
    def watch(self, engine: Engine, started: "Started") -> Iterator[None]:
        """Print database and plan, then show the study until the block ends."""
        print(f"database: {masked_text(engine.url)}", file=sys.stderr)
        print(plan_text(started), file=sys.stderr, flush=True)
        view = _View(engine, started)
        over = threading.Event()
        show = self._show_live if self.console.is_terminal else self._print_lines
        thread = threading.Thread(target=show, args=(view, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _show_live(self, view: "_View", over: threading.Event) -> None:
        logging.getLogger("search.worker").setLevel(logging.WARNING)
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            while not over.wait(0.4):
                if view.look():
                    live.update(view.picture())
            view.look()
        self.console.print(view.picture())

    def _print_lines(self, view: "_View", over: threading.Event) -> None:
        logging.getLogger("search.worker").setLevel(logging.WARNING)
        ending = False
        while not ending:
            ending = over.wait(0.5)
            if view.look():
                for line in view.news():
                    print(line, file=sys.stderr, flush=True)


class _View:
    """One watcher's picture of a study."""

    def __init__(self, engine: Engine, started: "Started") -> None:
        self.engine, self.started = engine, started
        self.now: Status | None = None
        self.began = time.monotonic()
        self.images_at_start: int | None = None
        self._said: set[tuple[str, int]] = set()

    def look(self) -> bool:
        """Read the database once; False while it does not answer."""
        try:
            self.now = status(self.engine, self.started.row.id, self.started.plan)
        except DatabaseUnreachableError as error:
            log.warning("%s", error)
            return False
        if self.images_at_start is None:
            self.images_at_start = self.now.images_done
            self._said = {(r.stage, r.slot) for r in self.now.runs if _ended(r)}
        return True

    def seconds_left(self) -> float:
        """How long the rest takes at the rate seen so far, at first at the warm-up's."""
        assert self.now is not None
        seen = self.now.images_done - (self.images_at_start or 0)
        elapsed = time.monotonic() - self.began
        early = seen < 0.02 * self.now.images_total
        rate = self.started.images_per_s if early else seen / elapsed
        return (self.now.images_total - self.now.images_done) / rate

    def news(self) -> list[str]:
        """Return a line for each run that ended since the last call."""
        assert self.now is not None
        lines = []
        for run in self.now.runs:
            if _ended(run) and (run.stage, run.slot) not in self._said:
                self._said.add((run.stage, run.slot))
                lines.append(self._line(run))
        return lines

    def _line(self, run: RunStatus) -> str:
        assert self.now is not None
        stage = next(s for s in self.now.stages if s.stage == run.stage)
        n_said = sum(said == run.stage for said, _ in self._said)
        words = [f"{_STAGE_NAMES[run.stage]} {n_said}/{stage.total}", f"slot {run.slot}"]
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
            name = _STAGE_NAMES[stage.stage]
            failed = f", {stage.failed} given up" if stage.failed else ""
            bars.add_row(
                Text(name, style="bold" if stage.stage == now.stage else ""),
                ProgressBar(total=max(1, stage.total), completed=stage.done, width=28),
                f"{stage.done}/{stage.total}{failed}",
            )
        lines = [self._under_way(run) for run in now.running[:8]]
        best = now.best
        if best is not None and best.score is not None:
            lines.append(f"best so far {best.score:.4f} (slot {best.slot}: {best.params})")
        elif now.proposal is not None:
            lines.append(f"proposed max_lr {now.proposal:.3g}")
        if now.stage in _STAGE_NAMES:
            lines.append(f"{duration_text(self.seconds_left())} left")
        return Group(bars, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))

    def _under_way(self, run: RunStatus) -> str:
        name = f"  {_STAGE_NAMES[run.stage]} {run.slot}"
        if run.stage == "range_test":
            return f"{name}: sweep of {run.length} steps"
        return f"{name}: epoch {run.epoch}/{run.length} · {run.params or 'asking'}"


def _ended(run: RunStatus) -> bool:
    return run.state in ("done", "failed")


def print_result(result: StudyResult, page: Path, *, json: bool) -> None:
    """Print the answer of a study on stdout: a table for people, or one JSON document."""
    if json:
        document = {**result.as_json(), "report": str(page)}
        print(json_module.dumps(document, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(_candidates_table(result), soft_wrap=False)
    for line in result_lines(result):
        console.print(line, markup=False)
    console.print(f"report: {page}", markup=False)


def _candidates_table(result: StudyResult) -> Table:
    n = result.winner.validation.n
    table = _open_table(
        f"{result.name}: accuracy in % ± half of its 95 % interval, n = {n} fresh seeds"
    )
    table.add_column("configuration", overflow="fold")
    for heading in ("max_lr", "pct_start", "div_factor", "validation", "test"):
        table.add_column(heading, justify="right", no_wrap=True)
    sign = -1 if result.direction == "maximize" else 1
    for candidate in sorted(result.candidates, key=lambda c: sign * c.validation.mean):
        p = candidate.params
        table.add_row(
            candidate_name(candidate, result),
            f"{p.max_lr:.3g}",
            f"{p.pct_start:.2f}",
            f"{p.div_factor:.3g}",
            interval_text(candidate.scores),
            "sealed" if candidate.test is None else interval_text(candidate.test),
        )
    return table


def _open_table(title: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )


def candidate_name(candidate: Candidate, result: StudyResult) -> str:
    """Return 'slot 7', marked as baseline and as winner."""
    marks = ["baseline"] if candidate.is_baseline else [f"slot {candidate.slot}"]
    if candidate.slot == result.winner.slot:
        marks.append("(winner)")
    return " ".join(marks)


def interval_text(values: Sequence[float]) -> str:
    """Return 'mean ± half of the 95 % interval' of accuracies, in percent."""
    from search.confirmation import estimate

    found = estimate(values)
    return f"{100 * found.mean:.2f} ± {100 * found.half_width:.2f}"


def result_lines(result: StudyResult) -> list[str]:
    """Return the answer in words: verdict, importances beside noise, cost, a call to paste."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.importances.items())
    lines = [
        "",
        result.verdict(),
        "",
        f"range test: centre {result.centre:.3g}, bracket "
        f"{result.bracket[0]:.3g} to {result.bracket[1]:.3g}, proposal {result.proposal:.3g}",
        f"importance (fANOVA, {result.n_trials} configurations of which {result.n_diverged} "
        f"diverged): {shares or 'nothing to explain'}",
        f"noise of a seed: sd {100 * result.seed_noise:.2f} points; spread over the "
        f"configurations: sd {100 * result.spread:.2f} points",
        "cost: "
        + "; ".join(
            f"{_STAGE_NAMES[s.stage]} {s.n_runs} runs, {s.n_images:,} images, "
            f"{duration_text(s.seconds)}"
            for s in result.spent
        ),
    ]
    hint = result.at_bound()
    if hint is not None:
        lines += ["", hint]
    return [*lines, "", *call_lines(result)]


def call_lines(result: StudyResult) -> list[str]:
    """Return the winner as Python source for the reader's own loop, total_steps explained."""
    steps = result.epochs * result.steps_per_epoch
    return [
        "In your own loop (scheduler.step() once after every optimizer.step(), not per epoch):",
        "",
        "scheduler = " + result.plan.call(total_steps="epochs * len(train_loader)"),
        "",
        f"# total_steps counts optimizer steps; here {result.epochs} epochs x "
        f"{result.steps_per_epoch} batches of {result.batch_size} images = {steps}.",
    ]


def print_studies(rows: Sequence[tuple[str, str, int, int, datetime]]) -> None:
    """Print the stored studies as a table."""
    table = _open_table()
    table.add_column("study", overflow="fold")
    for heading in ("stage", "configurations", "created (UTC)"):
        table.add_column(heading, no_wrap=True)
    for name, stage, done, wanted, created in rows:
        table.add_row(name, stage, f"{done}/{wanted}", f"{created:%Y-%m-%d %H:%M}")
    Console(soft_wrap=True).print(table)


def print_trials(rows: Sequence[dict[str, Any]], *, csv: bool) -> None:
    """Print configurations: all that is known as CSV, or what fits a terminal as a table."""
    if csv:
        writer = csv_module.DictWriter(sys.stdout, fieldnames=TRIAL_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    table = _open_table()
    for name in _SHOWN_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in _SHOWN_COLUMNS))
    Console(soft_wrap=True).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
