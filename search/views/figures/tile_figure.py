"""The first card: the answer's tiles as a table, which wraps at any width."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.results.result import StudyResult
from search.results.verdict import short_verdict
from search.stages.verdict import Verdict
from search.views.figures.look import GREEN, GREY, VERMILION, finish, plain
from search.views.tiles import Tile

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_COLORS = {Verdict.BETTER: GREEN, Verdict.WORSE: VERMILION}


def tile_figure(tiles: Sequence[Tile], result: StudyResult | None = None) -> "Figure":
    """Draw tiles as rows, and the verdict below them where there is one, in one sentence."""
    import plotly.graph_objects as go

    rows = [(tile.label, f"<b>{plain(tile.value)}</b>", tile.note) for tile in tiles]
    labels, values, notes = (list(column) for column in zip(*rows, strict=True))
    color = GREY if result is None else _COLORS.get(result.outcome, GREY)
    # Only the rows about the verdict have its colour; icon and word say the same.
    colors = [color if tile.look else GREY for tile in tiles]
    if result is not None:
        labels.append("verdict")
        values.append("")
        notes.append(short_verdict(result))
        colors.append(GREY)
    texts = [list(map(plain, labels)), values, list(map(plain, notes))]
    figure = go.Figure(
        go.Table(
            columnwidth=[6, 6, 8],  # a parameter's name fits at 400 pixels
            header={"values": ["", "", ""], "height": 1, "line": {"width": 0}, "fill": _CLEAR},
            cells={
                "values": texts,
                "align": "left",
                "height": 28,
                "line": {"width": 0},
                "fill": _CLEAR,
                "font": {"size": [14, 17, 14], "color": [GREY, colors, colors]},
            },
        )
    )
    finish(figure, x={}, y={})
    return figure


_CLEAR = {"color": "rgba(0,0,0,0)"}
