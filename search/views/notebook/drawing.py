"""A plotly figure as plain HTML and SVG: it is drawn without a script, a network or a browser.

plotly's own HTML loads 4.7 MB of JavaScript: from a network that may not be there, or in each cell
of the saved notebook; an untrusted notebook runs no script at all. This drawing takes some 20 kB
and looks the same in JupyterLab, VS Code and what nbconvert writes. It draws what our own figures
consist of: lines, markers, intervals, bands and vertical lines, on linear and logarithmic axes.

Everything is placed in percent, so that it fits any width and no letter is ever scaled.
"""

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.views.figures.look import GREY, GRID

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_N_TICKS = 5
# Of the figure's height plotly gives about this to legend and titles, which stand beside ours.
_AROUND_PX = 100
_UNIT = 1000
"""Of the inner drawing, which is stretched: whole numbers of it are finer than a screen."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: where its ends lie (of a logarithmic one: in powers of ten), and its ticks."""

    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]
    title: str

    def share(self, value: float) -> float:
        """Return where a value lies, from 0 at the low end to 1."""
        place = math.log10(value) if self.log else value
        return (place - self.low) / (self.high - self.low)


def drawing(figure: "Figure") -> str:
    """Return a figure as HTML: legend, axes and curves."""
    layout = figure.layout
    x, y = _axis(layout.xaxis, _values(figure, "x")), _axis(layout.yaxis, _values(figure, "y"))
    height = max(120, layout.height - _AROUND_PX)
    plot = "".join(
        [*_grid(x, y), *(_shape(each, x) for each in layout.shapes), *_traces(figure, x, y)]
    )
    labels = "".join(_y_label(value, text, y) for value, text in y.ticks)
    widest = max((text for _, text in y.ticks), key=len, default="")
    return (
        '<div style="font-size:12px;line-height:1.4">'
        f"{_legend(figure)}"
        f'<div style="margin:4px 0 2px">{_safe(y.title)}</div>'
        '<div style="display:grid;grid-template-columns:max-content minmax(0,1fr);column-gap:6px">'
        # The widest label once more, unseen: it makes the column as wide as it needs to be.
        f'<div style="position:relative"><span style="visibility:hidden">{_safe(widest)}</span>'
        f"{labels}</div>"
        f'<svg width="100%" height="{height}" role="img" style="display:block;overflow:hidden" '
        f'aria-label="{_safe(x.title)}">{plot}</svg>'
        f'<div></div><div style="position:relative;height:18px">{"".join(_x_labels(x))}</div>'
        f'<div></div><div style="text-align:center">{_safe(x.title)}</div>'
        "</div></div>"
    )


def _safe(text: str | None) -> str:
    """Return text for HTML; that of a figure is escaped for plotly already."""
    return html.escape(html.unescape(text or ""))


def _values(figure: "Figure", name: str) -> list[float]:
    """Return every number that lies on an axis, the ends of intervals among them."""
    values = [v for trace in figure.data for v in trace[name] if _is_number(v)]
    if name == "y":
        return values
    for trace in figure.data:
        halves = trace.error_x.array if trace.error_x.array is not None else ()
        ends = [(v, h) for v, h in zip(trace.x, halves, strict=False) if _is_number(h)]
        values += [v + sign * half for v, half in ends for sign in (-1, 1)]
    return values + [end for shape in figure.layout.shapes for end in (shape.x0, shape.x1)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _axis(layout: Any, values: Sequence[float]) -> _Axis:
    log = layout.type == "log"
    if layout.range is not None:
        low, high = layout.range
    else:
        low, high = min(values, default=0.0), max(values, default=1.0)
        room = 0.05 * (high - low) or 0.5
        low, high = low - room, high + room
    if layout.tickvals is not None:
        ticks = list(zip(layout.tickvals, layout.ticktext, strict=True))
    else:
        ticks = [(value, f"{value:.6g}") for value in _round_numbers(low, high)]
    places = [(math.log10(value) if log else value, value, text) for value, text in ticks]
    within = tuple((value, text) for place, value, text in places if low <= place <= high)
    return _Axis(low, high, log, within, layout.title.text or "")


def _round_numbers(low: float, high: float) -> Iterator[float]:
    """Yield about _N_TICKS numbers that are 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / _N_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * n for n in (1, 2, 5, 10)), key=lambda each: abs(math.log(each / rough)))
    for k in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield k * step


def _grid(x: _Axis, y: _Axis) -> Iterator[str]:
    for value, _ in x.ticks:
        yield _line(x.share(value), 0, x.share(value), 1, color=GRID)
    for value, _ in y.ticks:
        yield _line(0, y.share(value), 1, y.share(value), color=GRID)
    yield _line(0, 0, 1, 0, color=GREY)


def _line(x0: float, y0: float, x1: float, y1: float, *, color: str, more: str = "") -> str:
    return (
        f'<line x1="{100 * x0:.2f}%" y1="{100 - 100 * y0:.2f}%" x2="{100 * x1:.2f}%" '
        f'y2="{100 - 100 * y1:.2f}%" stroke="{color}"{more}/>'
    )


def _shape(shape: Any, x: _Axis) -> str:
    """Return a band or a vertical line, as tall as the drawing."""
    first, last = x.share(shape.x0), x.share(shape.x1)
    if shape.type == "line":
        return _line(first, 0, first, 1, color=shape.line.color, more=_stroke(shape.line))
    return (
        f'<rect x="{100 * first:.2f}%" width="{100 * (last - first):.2f}%" y="0" height="100%" '
        f'fill="{shape.fillcolor}" fill-opacity="{shape.opacity}"/>'
    )


_DASHES = {"dash": "7 5", "dot": "2 4", "dashdot": "7 4 2 4", "longdash": "12 5"}


def _stroke(line: Any) -> str:
    dash = _DASHES.get(line.dash)
    return f' stroke-width="{line.width}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _traces(figure: "Figure", x: _Axis, y: _Axis) -> Iterator[str]:
    """Yield the intervals, and one stretched drawing of all lines and markers in their order."""
    for trace in figure.data:
        yield from _intervals(trace, x, y)
    paths = [path for trace in figure.data for path in _paths(trace, x, y)]
    yield (
        f'<svg width="100%" height="100%" viewBox="0 0 {_UNIT} {_UNIT}" '
        f'preserveAspectRatio="none" fill="none" stroke-linejoin="round">{"".join(paths)}</svg>'
    )


def _intervals(trace: Any, x: _Axis, y: _Axis) -> Iterator[str]:
    if trace.error_x.array is None:
        return
    more = f' stroke-width="{trace.error_x.thickness}"'
    for value, row, half in zip(trace.x, trace.y, trace.error_x.array, strict=True):
        if _is_number(half):
            ends, place = (x.share(value - half), x.share(value + half)), y.share(row)
            yield _line(ends[0], place, ends[1], place, color=trace.marker.color, more=more)


def _paths(trace: Any, x: _Axis, y: _Axis) -> Iterator[str]:
    points = list(_places(zip(trace.x, trace.y, strict=True), x, y))
    if "lines" in trace.mode:
        pieces: list[str] = []
        for point in points:
            start = not pieces or pieces[-1] == ""
            pieces.append("" if point is None else f"{'M' if start else 'L'}{point}")
        yield _path("".join(pieces), trace.line.color, _stroke(trace.line))
    if "markers" in trace.mode:
        # A line of no length with such ends is a dot, which the stretching leaves round.
        dots = "".join(f"M{point}h0" for point in points if point is not None)
        yield _path(dots, trace.marker.color, _marker(trace.marker))


def _places(points: Iterable[tuple[Any, Any]], x: _Axis, y: _Axis) -> Iterator[str | None]:
    """Yield the place of each point in the stretched drawing, None where it is no number."""
    for value, height in points:
        if _is_number(value) and _is_number(height):
            # A loss that exploded would be a coordinate that no browser draws.
            up = min(3.0, max(-2.0, y.share(height)))
            yield f"{_UNIT * x.share(value):.1f} {_UNIT * (1 - up):.1f}"
        else:
            yield None


def _path(places: str, color: str, more: str) -> str:
    return f'<path d="{places}" stroke="{color}" vector-effect="non-scaling-stroke"{more}/>'


def _marker(marker: Any) -> str:
    cap = "square" if marker.symbol == "square" else "round"
    opacity = "" if marker.opacity is None else f' stroke-opacity="{marker.opacity}"'
    return f' stroke-width="{marker.size}" stroke-linecap="{cap}"{opacity}'


def _y_label(value: float, text: str, axis: _Axis) -> str:
    return (
        f'<span style="position:absolute;right:0;top:{100 - 100 * axis.share(value):.2f}%;'
        f'transform:translateY(-50%);white-space:nowrap">{_safe(text)}</span>'
    )


def _x_labels(axis: _Axis) -> Iterator[str]:
    for value, text in axis.ticks:
        yield (
            f'<span style="position:absolute;left:{100 * axis.share(value):.2f}%;'
            f'transform:translateX(-50%);white-space:nowrap">{_safe(text)}</span>'
        )


def _legend(figure: "Figure") -> str:
    marks = (*figure.data, *figure.layout.shapes)
    entries = [
        '<span style="white-space:nowrap">'
        '<svg width="24" height="12" style="vertical-align:-1px;margin-right:5px">'
        f"{_swatch(mark)}</svg>{_safe(mark.name)}</span>"
        for mark in marks
        if mark.showlegend is not False and mark.name
    ]
    style = "display:flex;flex-wrap:wrap;column-gap:16px;row-gap:2px"
    return f'<div style="{style}">{"".join(entries)}</div>'


def _swatch(mark: Any) -> str:
    """Return a small picture of a trace, a band or a line."""
    if mark.type == "rect":
        return (
            f'<rect width="24" height="12" fill="{mark.fillcolor}" fill-opacity="{mark.opacity}"/>'
        )
    if mark.type == "line" or "lines" in mark.mode:
        return f'<path d="M0 6h24" stroke="{mark.line.color}"{_stroke(mark.line)}/>'
    return f'<path d="M12 6h0" stroke="{mark.marker.color}"{_marker(mark.marker)}/>'
