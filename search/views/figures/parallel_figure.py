"""The figure of all parameters side by side: a line for each configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.params import Params
from search.results.landscape import Landscape
from search.results.trials import Trial
from search.stages.search import BASELINE_SLOT
from search.views.figures.look import BLUE, GREY, ORANGE, PURPLE, VERMILION, finish, plain
from search.views.figures.trial_figures import Heights, Searched, best_of, broken_text
from studies.params import Choice, Range, Value, parameter
from studies.states import sign_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_HEIGHT_PX = 400
_END = 0.07  # of the height: where the ends of an axis are written, above and below it


@dataclass(frozen=True, slots=True)
class _Line:
    """Configurations that look alike."""

    name: str
    trials: tuple[Trial, ...]
    color: str
    width: float
    dash: str = "solid"
    opacity: float = 1.0


def parallel_figure(landscape: Landscape, trials: Sequence[Trial], searched: Searched) -> "Figure":
    """Draw each configuration as a line over all searched parameters and its score.

    What lies within noise of the best is marked, as baseline and answer are. Drawn with lines of
    SVG: plotly's own kind needs WebGL, and is empty on paper.
    """
    import plotly.graph_objects as go

    scored = [t for t in trials if t.score is not None and t.params is not None]
    shown = best_of(scored, searched, sign=sign_of(landscape.belief.direction))
    heights = Heights.over(scored, searched.metric)
    axes = _Axes(landscape, searched, heights)
    figure = go.Figure([_drawn(line, axes) for line in _lines(shown, searched, n=len(scored))])
    for place, _ in enumerate(axes.names):
        figure.add_shape(
            type="line",
            x0=place,
            x1=place,
            y0=0,
            y1=1,
            line={"color": GREY, "width": 1},
            layer="below",
            showlegend=False,
        )
    figure.update_layout(annotations=[*axes.labels()])
    n = len(axes.names)
    x = {
        "tickvals": list(range(n)),
        "ticktext": [plain(name) for name in axes.names],
        "range": [-0.35, n - 0.65],
        "showgrid": False,
        "showline": False,
    }
    y = {"range": [-0.12, 1.12], "visible": False, "showgrid": False}
    finish(figure, x=x, y=y)
    figure.update_layout(height=_HEIGHT_PX)
    return figure


def _lines(shown: Sequence[Trial], searched: Searched, *, n: int) -> list[_Line]:
    """Return who looks alike, what matters most drawn last; `n`: how many there are in all."""
    tied, marked = set(searched.tied), searched.marked
    plain_ones = [t for t in shown if t.slot not in marked]
    whole = [t for t in plain_ones if not t.broken and t.slot not in tied]
    broken = [t for t in plain_ones if t.broken]
    best = [t for t in plain_ones if t.slot in tied and not t.broken]
    of_all = f", the best {len(shown)} of {n:,}" if n > len(shown) else ""
    lines = [
        _Line(f"trial, n = 1 seed{of_all}", tuple(whole), GREY, 1.2, opacity=0.7),
        _Line(broken_text(broken), tuple(broken), VERMILION, 1.2, "dot", 0.8),
        _Line(f"within noise of the best ({len(tied)} of {n:,})", tuple(best), BLUE, 2.0),
    ]
    for trial in shown:
        if trial.slot in marked:
            is_baseline = trial.slot == BASELINE_SLOT
            color, dash = (ORANGE, "dash") if is_baseline else (PURPLE, "solid")
            lines.append(_Line(marked[trial.slot], (trial,), color, 3.5, dash))
    return [line for line in lines if line.trials]


def _drawn(line: _Line, axes: "_Axes") -> Any:
    """Return the configurations of a line as one trace, with gaps between them."""
    import plotly.graph_objects as go

    n = len(axes.names)
    return go.Scatter(
        x=[place for _ in line.trials for place in (*range(n), None)],
        y=[share for trial in line.trials for share in (*axes.shares(trial), None)],
        mode="lines",
        line={"color": line.color, "width": line.width, "dash": line.dash},
        opacity=line.opacity,
        name=line.name,
        text=[f"slot {trial.slot}" for trial in line.trials for _ in range(n + 1)],
        hovertemplate="%{text}<extra></extra>",
    )


class _Axes:
    """The parameters that are searched, and the score."""

    def __init__(self, landscape: Landscape, searched: Searched, heights: Heights) -> None:
        self._domains, self._searched, self._heights = landscape.domains, searched, heights
        rate = "max_lr" if None in searched.proposals else "max_lr / proposal"
        parameters = [rate if name == "max_lr" else name for name in self._domains]
        self.names = (*parameters, searched.metric.name)

    def shares(self, trial: Trial) -> list[float]:
        """Return the places of a trial on the axes, 0 to 1 from the lower end to the upper."""
        assert trial.params is not None
        places = [self._place(name, trial.params) for name in self._domains]
        return [*places, self._height(self._heights.of(trial))]

    def labels(self) -> list[dict[str, Any]]:
        """Return what is written along the axes: both ends, or each choice."""
        texts: list[tuple[int, float, str]] = []
        for place, (name, domain) in enumerate(self._domains.items()):
            if isinstance(domain, Choice):
                text = parameter(name).text
                texts += [(place, domain.share(value), text(value)) for value in domain.values]
                continue
            ends: tuple[Value, Value] = (domain.low, domain.high)
            if name == "max_lr":
                ends = self._searched.bracket
            texts += [
                (place, y, parameter(name).text(v))
                for y, v in zip((-_END, 1 + _END), ends, strict=True)
            ]
        heights = self._heights
        for y, value in ((-_END, heights.low), (1 + _END, heights.high)):
            texts.append((len(self._domains), y, f"{value:.4g}"))
        look = {"showarrow": False, "font": {"size": 12}}
        return [
            # A choice is written beside its axis, where fewer lines cross.
            {"x": x, "y": y, "text": plain(text), "xshift": 0 if y < 0 or y > 1 else 14, **look}
            for x, y, text in texts
        ]

    def _place(self, name: str, params: Params) -> float:
        """Return the place of a configuration on the axis of a parameter."""
        domain = self._domains[name]
        if name != "max_lr":
            return domain.share(params[name])
        low, high = self._searched.bracket
        return Range(low, high, log=True).share(self._searched.rate(params))

    def _height(self, shown: float) -> float:
        """Return the place of a shown score on its axis."""
        return (shown - self._heights.low) / (self._heights.high - self._heights.low)
