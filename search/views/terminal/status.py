"""What `status` and `reap` print: looks at a study as text or JSON, and what was given back."""

import json as json_module
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text
from sqlalchemy import Engine

from search.results.failures import distinct_failures
from search.results.status import (
    Failures,
    Overview,
    Running,
    Worker,
    overview,
    plan_of,
    stored_definition,
)
from search.starting.catalog import find
from search.starting.cost import StageCost
from search.text import printable, shell_line
from search.tracebacks import harmless
from search.views.terminal.answer import on_stdout
from search.views.terminal.live_view import done_text
from search.views.terminal.sparkline import Learning, learning
from search.views.terminal.tables import wrapped
from studies.errors import DatabaseUnreachableError
from studies.states import Stage
from studies.tables import WorkRow

log = logging.getLogger(__name__)

# As watch(1) does.
REPAINT_S = 2.0
_NARROW = 60  # columns of the narrowest terminal that the counts have to fit
_COUNTS = ("done", "running", "waiting", "given up", "total")


class Show(Protocol):
    """Shows the reader how a study stands."""

    def __call__(self, now: Overview) -> None: ...


def print_status(engine: Engine, name: str, *, json: bool) -> None:
    """Print on stdout how a stored study stands."""
    now = overview(engine, name, _plan(engine, name))
    if json:
        print(json_module.dumps(now.as_json(), indent=2))
    else:
        for line in _fitted(on_stdout(), now):
            print(line)


def print_errors(engine: Engine, name: str, *, json: bool) -> None:
    """Print on stdout what runs of a stored study failed with, each distinct failure once."""
    failures = distinct_failures(engine, name)
    if json:
        print(json_module.dumps([each.as_json() for each in failures], indent=2))
        return
    if not failures:
        print(printable(f"study {name}: no run's last attempt failed"))
    for number, each in enumerate(failures, 1):
        more = f" and {each.n_runs - 1} more run(s)" if each.n_runs > 1 else ""
        kind = f", {each.kind}" if each.kind is not None else ""
        print(
            f"{number} of {len(failures)}: {each.stage.words} {each.slot}{more}, "
            f"{each.n_attempts} attempt(s){kind}"
        )
        print(harmless(each.traceback.rstrip()) + "\n")


def watch_status(engine: Engine, name: str) -> None:
    """Show a study every REPAINT_S until it has ended or Ctrl-C, also through an outage."""
    plan = _plan(engine, name)
    with suppress(KeyboardInterrupt), _screen() as show:
        ended = False
        while not ended:
            try:
                now = overview(engine, name, plan)
                show(now)
                ended = now.ended
            except DatabaseUnreachableError as error:
                log.warning("%s", error)
            if not ended:
                time.sleep(REPAINT_S)


def _plan(engine: Engine, name: str) -> tuple[StageCost, ...]:
    """Return what the study's stages cost; an ended study has nothing left to plan."""
    row = find(engine, name)
    return () if row.stage.is_end else plan_of(row, stored_definition(row))


@contextmanager
def _screen() -> Iterator[Show]:
    """Repaint on a terminal; print again elsewhere."""
    console = on_stdout()
    lines = partial(status_lines, plain=console.options.ascii_only)
    if not console.is_terminal:
        yield lambda now: print("\n".join([*lines(now), ""]), flush=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda now: live.update(
            Text("\n".join(_fitted(console, now)), no_wrap=True, overflow="ellipsis"),
            refresh=True,
        )


def _fitted(console: Console, now: Overview) -> list[str]:
    """Return the lines that status_lines() gives: whole for a file, wrapped for a terminal."""
    lines = status_lines(now, plain=console.options.ascii_only)
    if not console.is_terminal:
        return lines
    return [part for line in lines for part in wrapped(line, console.width)]


def status_lines(now: Overview, *, plain: bool = False) -> list[str]:
    """Return a look at a study as lines of text; `plain`: its curves in characters of ASCII."""
    lines = [printable(f"study {now.study}: {_where(now)}")]
    lines += _counts(now)
    if now.running:
        devices = {worker.name: worker.device for worker in now.workers}
        learned = learning(now.running, plain=plain)
        shown = (
            _running_text(run, learned.get(place), devices.get(run.owner), now.grace_s)
            for place, run in enumerate(now.running)
        )
        lines += ["running", *(f"  {text}" for text in shown)]
    idle = [worker for worker in now.workers if worker.waits_for is not None]
    if idle:
        lines += ["idle", *(f"  {_idle_text(worker, now.grace_s)}" for worker in idle)]
    if now.failures:
        lines += ["failed attempts", *(f"  {_failures_text(each)}" for each in now.failures)]
    end = now.search_end
    if end is not None:
        lines.append(
            f"the search ended by itself, with {end.n_cycles} of at most {end.at_most} "
            "configurations"
        )
    best = now.best
    if now.answer is not None and now.call is not None:
        lines += [printable(now.answer), printable(now.call)]
    elif best is not None:
        params = "" if best.params is None else f": {best.params}"
        lines.append(f"best so far {best.score:.4f} (slot {best.slot}{params})")
    elif now.max_lr is not None:
        lines.append(now.max_lr)
    if now.time_left:
        lines.append(now.time_left)
    return lines


def _counts(now: Overview) -> list[str]:
    """Return the table of the stages, within 60 columns."""
    rows: list[tuple[str, ...]] = [("", *_COUNTS)]
    for s in now.stages:
        numbers = (s.done, s.running, s.waiting, s.given_up)
        rows.append((s.name, *map(str, numbers), s.total_text))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = " " * (2 if sum(widths) + 2 * len(widths) <= _NARROW else 1)
    return [
        f"  {name:<{widths[0]}}"
        + "".join(f"{gap}{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for name, *cells in rows
    ]


def print_reaped(given_back: Sequence[WorkRow], *, n_watched: int) -> None:
    """Print on stdout which runs were taken from their owners."""
    for row in given_back:
        owner = owner_text(row.owner or "")
        print(printable(f"given back: {row.stage.words} {row.slot} · {owner}"))
    print(f"{len(given_back)} of {n_watched} running run(s) given back")


def _where(now: Overview) -> str:
    if now.stage == Stage.FINISHED:
        return f"finished; its answer: {shell_line('onecycle', 'report', '--study', now.study)}"
    if now.stage == Stage.FAILED:
        return f"failed: {now.reason}"
    return now.stage.words


def _running_text(
    run: Running, learned: Learning | None, device: str | None, grace_s: float
) -> str:
    words = [
        f"{run.name} {run.slot}",
        done_text(run),
        "" if learned is None else str(learned),
        owner_text(run.owner),
        device or "",
        _silence_text(run, grace_s),
    ]
    return printable(" · ".join(word for word in words if word))


def _idle_text(worker: Worker, grace_s: float) -> str:
    words = [owner_text(worker.name), worker.device, f"waits for {worker.waits_for}"]
    return printable(" · ".join([*words, _silence_text(worker, grace_s)]))


def _silence_text(seen: Running | Worker, grace_s: float) -> str:
    stale = f", stale (grace {grace_s:g} s)" if seen.stale else ""
    return f"silent for {seen.silent_s:.0f} s{stale}"


def _failures_text(each: Failures) -> str:
    runs = f"{each.n_attempts} in {each.n_runs} run(s)"
    if each.kind is None:
        return f"{runs} that finished later"
    return printable(" · ".join([f"{each.kind}: {runs}", *filter(None, [each.last_line])]))


def owner_text(owner: str) -> str:
    """Return 'host:pid' of a worker's name, which ends in a part that only makes it unique."""
    return ":".join(owner.split(":")[:2])
