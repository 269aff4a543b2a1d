"""The look that all figures share: colours, axes, and marks that mean the same everywhere."""

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from search.text import printable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe and Ito (2008): told apart under every common form of colour blindness.
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILION, PURPLE = "#D55E00", "#CC79A7"
GREY = "#808080"
"""Of text and axes: contrast 3.9 on white, 4.7 on the dark page."""
GRID = "rgba(128,128,128,0.25)"
HEIGHT_PX = 400


def plain(text: str) -> str:
    """Return text that plotly, which reads tags and links in its texts, shows as it is."""
    return html.escape(printable(text), quote=False)


def band(figure: "Figure", ends: tuple[float, float], name: str, *, color: str) -> None:
    """Shade what lies between two ends, behind everything else; without a name, unexplained."""
    low, high = ends
    figure.add_vrect(
        x0=low,
        x1=high,
        fillcolor=color,
        opacity=0.14,
        line_width=0,
        layer="below",
        showlegend=bool(name),
        name=name,
    )


def bracket(figure: "Figure", ends: tuple[float, float], *, name: str = "bracket") -> None:
    """Shade the range of max_lr that is searched, under its name."""
    low, high = ends
    band(figure, ends, f"{name} {low:.3g} to {high:.3g}", color=GREEN)


def vertical(figure: "Figure", x: float, name: str, *, color: str, dash: str) -> None:
    """Draw a line at `x`."""
    line = {"color": color, "dash": dash, "width": 2}
    figure.add_vline(x=x, line=line, showlegend=True, name=name)


def log_axis(values: Sequence[float], title: str) -> dict[str, Any]:
    """Return a logarithmic axis over `values` whose ticks are plain numbers."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = 0.03 * (high - low)
    # Up to 2.5 decades 1, 2, 5 give about eight labels; over more they would run into each other.
    steps = (1,) if high - low > 2.5 else (1, 2, 5)
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {
        "title": {"text": title},
        "type": "log",
        "range": [low - room, high + room],
        "tickvals": ticks,
        # plotly would write 1m and 100µ, which nobody types into an optimizer.
        "ticktext": [np.format_float_positional(tick, precision=12, trim="-") for tick in ticks],
    }


def finish(figure: "Figure", *, x: dict[str, Any], y: dict[str, Any]) -> None:
    """Set axes and the look that holds on a light and on a dark page, at any width."""
    axis = {"gridcolor": GRID, "linecolor": GREY, "zeroline": False, "automargin": True}
    figure.update_layout(
        # plotly's default template is over half of a figure's JSON: 10.7 kB with it, else 4.2.
        template=None,
        height=HEIGHT_PX,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        # Transparent: the page below is light or dark, as the reader's system wants it.
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 13, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "x": 0, "y": 1.03, "yanchor": "bottom"},
        xaxis={**axis, **x},
        yaxis={**axis, **y},
    )
