"""A study's answer in a notebook: words and figure, other figures by name, trials as a table."""

import html as html_module
from collections.abc import Callable
from typing import TYPE_CHECKING

from search.errors import UsageError
from search.results.curves import COLUMNS
from search.results.result import StudyResult
from search.results.short import call_line, score_text
from search.results.trials import columns
from search.text import printable
from search.views.figures import (
    answer_figures,
    curve_figures,
    curve_lines,
    rate_figures,
    trial_figures,
)
from search.views.notebook.drawing import drawing
from search.views.notebook.table import data_frame

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

_FIGURES: dict[str, Callable[[StudyResult], "Figure"]] = {
    "confirmation": answer_figures.confirmation_figure,
    "search": lambda result: trial_figures.search_figure(
        result.trials, trial_figures.Searched.of(result)
    ),
    "curves": lambda result: curve_figures.curves_figure(
        curve_lines.Learned.of(result), choose=len(result.trials)
    ),
    "range_test": lambda result: rate_figures.range_test_figure(result.measured),
    "schedule": answer_figures.schedule_figure,
    "importance": answer_figures.importance_figure,
}
"""The figures of the page, by the name that plot() takes."""


def html(result: StudyResult) -> str:
    """Return name, verdict, recommended call and score, and the figure of the confirmation."""
    others = [f'plot("{name}")' for name in list(_FIGURES)[1:]]
    return (
        '<div style="max-width:760px">'
        f"<p><b>Study {_safe(result.name)}</b>: {_safe(result.verdict())}</p>"
        f"<p>{_safe(score_text(result))}</p>"
        f'<pre style="white-space:pre-wrap">{_safe(call_line(result))}</pre>'
        f"{drawing(answer_figures.confirmation_figure(result))}"
        '<p style="opacity:.75;font-size:12px"><code>plot()</code> is this figure to explore, '
        f"<code>{'</code>, <code>'.join(map(_safe, others))}</code> are the others; "
        "<code>to_dataframe()</code> has every trial, <code>curves()</code> every epoch.</p></div>"
    )


def plot(result: StudyResult, which: str = "confirmation") -> "Figure":
    """Return the figure of that name; raise UsageError for a name that there is not."""
    if which not in _FIGURES:
        raise UsageError(f"plot({which!r}): there is no such figure; take {', '.join(_FIGURES)}")
    if which == "importance" and result.no_importances:
        raise UsageError(f'plot("importance"): {result.no_importances}')
    return _FIGURES[which](result)


def to_dataframe(result: StudyResult) -> "DataFrame":
    """Return a row for each trial, with the columns of the file of trials."""
    rows = [trial.values(result.parameters) for trial in result.trials]
    return data_frame(rows, columns(result.parameters))


def curves(result: StudyResult) -> "DataFrame":
    """Return a row for each epoch and each window of steps of every cycle."""
    rows = [values for run in result.learned for values in run.values()]
    return data_frame(rows, COLUMNS)


def _safe(text: str) -> str:
    """Return text for HTML: names come from the database, and are not trusted to hold none."""
    return html_module.escape(printable(text))
