"""The page of a finished study: one HTML file that asks nothing of the network."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy import URL

from search.errors import UsageError
from search.starting.cost import duration_text
from search.views import wording
from search.views.findings import Findings
from studies.database import sqlite_file
from trainers.sweeps.result import conclusion, count

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def default_path(url: URL, name: str) -> Path:
    """Return where a study's page goes: beside a SQLite file, else the user's data folder.

    The database's name is part of it, for another database may hold a study of that name.
    """
    file = sqlite_file(url)
    if file is not None:
        return file.with_name(f"{file.stem}-{name}.html")
    return platformdirs.user_data_path("onecycle") / f"{url.database}-{name}.html"


def write_report(found: Findings, path: Path) -> None:
    """Write the page of a finished study to `path`, making its folder.

    A reader finds the old page or the whole new one. Raises UsageError where nothing can be
    written.
    """
    text = page(found)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"the report cannot be written to {path}: {reason}") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def page(found: Findings) -> str:
    """Return the page of a finished study as HTML."""
    from plotly.offline import get_plotlyjs

    from search.views.figures.answer_figures import seeds_text

    environment = Environment(
        loader=PackageLoader("search.views.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result = found.result
    return environment.get_template("report.html").render(
        result=result,
        trials=found.trials,
        hints=found.hints,
        provenance=found.provenance,
        figures=_figures(found),
        range_test=conclusion(result.range_test),
        other_range_tests={
            size: conclusion(result.range_tests[size]) for size in found.range_test.others
        },
        n_sweeps=len(found.range_test.points),
        seeds=seeds_text([c.scores for c in result.candidates]),
        seconds=sum(s.seconds for s in result.spent),
        wording=wording,
        duration_text=duration_text,
        count=count,
        plotly=Markup(get_plotlyjs()),
    )


def _figures(found: Findings) -> dict[str, "Drawing"]:
    from search.views.figures import answer_figures, rate_figures, trial_figures

    result, trials = found.result, found.trials
    drawn = {
        "range_test": rate_figures.range_test_figure(found.range_test),
        "search": trial_figures.search_figure(
            [t for t in trials if t["length"] == result.epochs], trial_figures.Searched.of(result)
        ),
        "schedule": answer_figures.schedule_figure(result),
        "confirmation": answer_figures.confirmation_figure(result),
    }
    for size, measured in found.range_test.others.items():
        drawn[f"range_test-{size}"] = rate_figures.range_test_figure(measured)
    if result.importances:
        drawn["importance"] = answer_figures.importance_figure(result)
    if len(result.screens) > 1:
        drawn["screening"] = trial_figures.screening_figure(trials, result)
    return {name: Drawing.of(figure) for name, figure in drawn.items()}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure of the page: what plotly.js draws, and the style of its box.

    On narrow screens the style sheet gives each entry of the legend a line of its own.
    """

    json: Markup
    style: str

    @classmethod
    def of(cls, figure: "Figure") -> "Drawing":
        """Move the height from the figure to its box; plotly escapes what its texts hold."""
        height_px, figure.layout.height = figure.layout.height, None
        marks = (*figure.data, *figure.layout.shapes)
        n_entries = sum(mark.showlegend is not False for mark in marks)
        style = f"height: calc({height_px}px + {n_entries} * var(--entry))"
        return cls(Markup(figure.to_json()), style)
