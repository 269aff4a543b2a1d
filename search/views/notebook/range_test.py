"""A range test in a notebook: what it says, its curves, and every step as a table."""

import html as html_module
from typing import TYPE_CHECKING

from search.errors import UsageError
from search.results.points import COLUMNS, rows
from search.views.figures.rate_figures import range_test_figure
from search.views.notebook.drawing import drawing
from search.views.notebook.table import data_frame
from trainers.sweeps.result import RangeTestResult

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure


def html(result: RangeTestResult) -> str:
    """Return what the sweeps say and their curves, for each batch size that was searched."""
    parts = [_one(result, "")]
    parts += [_one(other, f" at batch_size {size}") for size, other in result.others.items()]
    return f'<div style="max-width:760px">{"".join(parts)}</div>'


def _one(result: RangeTestResult, where: str) -> str:
    first, *lines = repr(result).splitlines()
    said = "<br>".join(html_module.escape(line.strip()) for line in lines)
    head = html_module.escape(first + where)
    return f"<p><b>{head}</b><br>{said}</p>{drawing(range_test_figure(result))}"


def plot(result: RangeTestResult, setting: int | str | None = None) -> "Figure":
    """Return the curves; where several settings have a range test, of the one that is named."""
    if setting is None:
        return range_test_figure(result)
    if str(setting) not in result.others:
        known = ", ".join(result.others) or "no other was searched"
        raise UsageError(
            f"plot({setting!r}): no range test at that setting; "
            f"without one it is the task's own, others: {known}"
        )
    return range_test_figure(result.others[str(setting)])


def to_dataframe(result: RangeTestResult) -> "DataFrame":
    """Return a row for each step of each sweep; the sweep "slow" takes twice the steps."""
    return data_frame([dict(zip(COLUMNS, row, strict=True)) for row in rows(result)], COLUMNS)
