"""Live progress on a terminal, one line per event elsewhere; both on stderr."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.logging import RichHandler
from sqlalchemy import Engine

from search.starting.cost import Started
from search.text import printable
from search.views.beside import beside
from search.views.terminal.live_view import View
from search.views.terminal.plan import plan_text
from studies.urls import masked_text

_SHARE = 10
"""A look that takes long, at thousands of runs, is taken that much more seldom: a search in this
process shares its time."""


class Progress:
    """Shows a study while it is worked on, by looking at the database.

    CI, and terminals that cannot move their cursor, get plain lines. `tells_answer`: the last
    picture says what to take; not where the answer is printed below it.
    """

    def __init__(self, *, tells_answer: bool = True) -> None:
        self._tells_answer = tells_answer
        # CI systems give their jobs a terminal that nobody watches; most of them set CI.
        live = sys.stderr.isatty() and not os.environ.get("CI")
        self.console = Console(stderr=True, force_terminal=live)
        self.live = live and not self.console.is_dumb_terminal
        self._handlers = logging.getLogger().handlers[:]

    def __enter__(self) -> "Progress":
        if self.live:
            # Other handlers would write into the lines that rich repaints.
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
        print(plan_text(started, width=self.console.width), file=sys.stderr, flush=True)
        view = View(engine, started, tells_answer=self._tells_answer)
        view.look()  # what has ended by now is not news, what ends from now on is
        show = self._show_live if self.live else self._print_lines
        worker_log = logging.getLogger("search.workers.worker")
        level = worker_log.level
        worker_log.setLevel(logging.WARNING)  # the view shows what a worker here would tell
        try:
            with beside(partial(show, view)):
                yield
        finally:
            worker_log.setLevel(level)

    def _show_live(self, view: View, over: threading.Event) -> None:
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            while not over.wait(max(0.4, _SHARE * view.look_s)):
                if view.look():
                    live.update(self._picture(view))
            view.look()
        self.console.print(self._picture(view))

    def _picture(self, view: View) -> RenderableType:
        return view.picture(
            height=self.console.height,
            width=self.console.width,
            plain=self.console.options.ascii_only,
        )

    def _print_lines(self, view: View, over: threading.Event) -> None:
        ending = False
        while not ending:
            ending = over.wait(max(0.5, _SHARE * view.look_s))
            if view.look():
                for line in view.news():
                    print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def watched(engine: Engine, started: Started) -> Iterator[None]:
    """Show a study while a program of one's own works on it."""
    with Progress() as progress, progress.watch(engine, started):
        yield
