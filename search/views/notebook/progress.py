"""Progress in a notebook: one output of the cell, written anew while the study is worked on."""

import html
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from sqlalchemy import Engine

from search.starting.cost import Started
from search.starting.start import Watch
from search.text import printable
from search.views.beside import beside
from search.views.terminal.live_view import View
from search.views.terminal.plan import plan_head
from studies.urls import masked_text

_EVERY_S = 1.0
"""Each picture is a message to the browser, and a saved notebook keeps the last one alone."""
_SHARE = 10  # as on a terminal: a look at thousands of runs takes long
_COLUMNS, _LINES = 100, 24
_PRE = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:1.35;font-size:12px;margin:0">'
    "{head}\n{{code}}</pre>"
)


def watch_in_cell() -> Watch:
    """Return what shows a study in the output of the cell that works on it.

    Called before optuna is loaded, whose tqdm would warn that ipywidgets are missing: nothing
    here needs them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tqdm.auto  # noqa: F401
    return _watched


@contextmanager
def _watched(engine: Engine, started: Started) -> Iterator[None]:
    """Show plan, database and what is under way until the block ends."""
    from IPython.display import display

    head = "\n".join([plan_head(started), f"database: {masked_text(engine.url)}"])
    view = View(engine, started)
    view.look()
    shown = display(_picture(view, head), raw=True, display_id=True)  # type: ignore[no-untyped-call]
    with beside(partial(_show, view, head, shown)):
        yield


def _show(view: View, head: str, shown: Any, over: threading.Event) -> None:
    ending = False
    while not ending:
        ending = over.wait(max(_EVERY_S, _SHARE * view.look_s))
        if view.look():
            shown.update(_picture(view, head), raw=True)


def _picture(view: View, head: str) -> dict[str, str]:
    """Return the terminal's picture of a study, as HTML and as text, under two lines of plan."""
    # Told that this is no notebook: rich would show the picture itself, as a new output each time.
    console = Console(
        file=io.StringIO(),
        record=True,
        width=_COLUMNS,
        color_system="truecolor",
        force_terminal=True,
        force_jupyter=False,
        highlight=False,
    )
    console.print(view.picture(height=_LINES))
    text = console.export_text(clear=False)
    pre = _PRE.format(head=html.escape(head).replace("{", "{{").replace("}", "}}"))
    drawn = console.export_html(inline_styles=True, code_format=pre)
    return {"text/html": drawn, "text/plain": "\n".join([head, printable(text, keep="\n")])}
