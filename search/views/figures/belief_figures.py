"""Figures of what is expected over the range: a slice of each parameter, a map of two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.params import Params
from search.results.landscape import MAPPED, Landscape, Plane, Slice
from search.results.trials import Trial
from search.views.figures.look import BLUE, GREY, VERMILION, finish, log_axis, plain
from search.views.figures.trial_figures import (
    SCALE,
    Heights,
    Searched,
    best_of,
    broken_text,
    how,
    ring,
)
from studies.params import Choice, Range
from studies.states import sign_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_BAND = "rgba(86,180,233,0.28)"  # look.SKY with the opacity that a fill needs
_SLICE_PX, _MAP_PX = 360, 440
_BESIDE = 0.2  # of the distance of two choices: what is expected stands beside the scores


@dataclass(frozen=True, slots=True)
class _Axis:
    """The axis of one parameter."""

    name: str
    domain: Range | Choice
    searched: Searched

    def of(self, params: Params) -> float:
        """Return where a configuration stands: choices stand side by side."""
        if self.name == "max_lr":
            return self.searched.rate(params)
        if isinstance(self.domain, Choice):
            return float(self.domain.values.index(params[self.name]))
        return float(params[self.name])

    def layout(self, places: Sequence[float]) -> dict[str, Any]:
        """Return the axis over these places."""
        title = self.searched.title if self.name == "max_lr" else plain(self.name)
        if isinstance(self.domain, Choice):
            n = len(self.domain.values)
            return {
                "title": {"text": title},
                "tickvals": list(range(n)),
                "ticktext": [plain(str(value)) for value in self.domain.values],
                "range": [-0.5, n - 0.5],
            }
        if self.domain.log:
            return log_axis(places, title)
        room = 0.03 * (max(places) - min(places))
        ends = [min(places) - room, max(places) + room]
        return {"title": {"text": title}, "range": ends, "nticks": 8}


def slice_figure(
    landscape: Landscape, name: str, trials: Sequence[Trial], searched: Searched
) -> "Figure":
    """Draw the score that is expected along one parameter with its 95 % band, and the trials.

    The others are held, and trials have values of their own there: they need not lie on it.
    """
    import plotly.graph_objects as go

    cut, axis = landscape.slice(name), _Axis(name, landscape.domains[name], searched)
    scored = _scored(landscape, trials, searched)
    factor = searched.metric.factor
    heights = Heights.over([t for t, _ in scored], searched.metric)
    heights = heights.reaching([factor * score for score in (*cut.low, *cut.high)])
    places = [axis.of(params) for params in cut.params]
    expected = _intervals if isinstance(cut.domain, Choice) else _curve
    figure = go.Figure(
        [
            *expected(cut, places, heights),
            *_marks([(t, axis.of(p), heights.of(t)) for t, p in scored], searched, n=len(trials)),
            *(
                ring(t, searched, x=axis.of(p), y=heights.of(t))
                for t, p in scored
                if t.slot in searched.marked
            ),
        ]
    )
    y = {
        "title": {"text": f"validation {plain(searched.metric.title)}"},
        "range": [heights.low, heights.high],
    }
    finish(figure, x=axis.layout([*places, *(axis.of(p) for _, p in scored)]), y=y)
    figure.update_layout(height=_SLICE_PX)
    return figure


def map_figure(landscape: Landscape, trials: Sequence[Trial], searched: Searched) -> "Figure":
    """Draw the score that is expected over max_lr and pct_start as a map, with the trials.

    What is expected to be worse than every whole score has the colour of the worst.
    """
    import plotly.graph_objects as go

    plane = landscape.plane()
    scored = _scored(landscape, trials, searched)
    heights = Heights.over([t for t, _ in scored], searched.metric)
    factor, metric = searched.metric.factor, searched.metric
    x, y = (_Axis(n, landscape.domains[n], searched) for n in MAPPED)
    unit = searched.rate(landscape.through) / landscape.through.max_lr
    places = [unit * rate for rate in plane.x]
    whole = [factor * t.score for t, _ in scored if not t.broken and t.score is not None]
    low, high = min(whole, default=heights.low), max(whole, default=heights.high)
    means = [[min(high, max(low, factor * mean)) for mean in row] for row in plane.mean]
    texts = [
        [
            f"{metric.value(mean)}{metric.unit} ± {metric.difference(half)}"
            for mean, half in zip(row, halves, strict=True)
        ]
        for row, halves in zip(plane.mean, plane.half_width, strict=True)
    ]
    wide = high - low if high > low else 0.001 * factor
    figure = go.Figure(
        go.Contour(
            x=places,
            y=list(plane.y),
            z=[[float(f"{mean:.5g}") for mean in row] for row in means],
            text=texts,
            colorscale=SCALE,
            zmin=low,
            zmax=low + wide,
            # Good is light, whichever way is better.
            reversescale=landscape.belief.direction == "minimize",
            ncontours=12,
            line={"width": 0.5, "color": "rgba(255,255,255,0.5)"},
            colorbar={
                "title": {"text": f"expected {plain(metric.title)}", "side": "right"},
                "thickness": 10,
                "outlinewidth": 0,
            },
            hovertemplate="expected %{text}<br>"
            f"{x.searched.title} %{{x:.3g}}, pct_start %{{y:.2f}}<extra></extra>",
        )
    )
    figure.add_traces(_little_known(places, plane, factor=factor, wide=wide))
    marks = [(t, x.of(p), y.of(p)) for t, p in scored]
    figure.add_traces(_marks(marks, searched, n=len(trials), color="#ffffff"))
    figure.add_traces(
        [ring(t, searched, x=a, y=b) for t, a, b in marks if t.slot in searched.marked]
    )
    finish(
        figure,
        x=x.layout([*places, *(a for _, a, _ in marks)]),
        y=y.layout([*plane.y, *(b for _, _, b in marks)]),
    )
    figure.update_layout(height=_MAP_PX)
    return figure


def _little_known(
    places: Sequence[float], plane: Plane, *, factor: float, wide: float
) -> list[Any]:
    """Return dots over the map where too little is known: the band is as wide as the scores of
    all trials lie apart."""
    import plotly.graph_objects as go

    dots = [
        (x, y)
        for y, halves in zip(plane.y, plane.half_width, strict=True)
        for x, half in zip(places, halves, strict=True)
        if 2 * factor * half > wide
    ]
    outline = {"color": "rgba(255,255,255,0.6)", "width": 0.5}
    look = {"color": "#222222", "size": 3.5, "opacity": 0.8, "line": outline}
    name = "little is known: band wider than all scores"
    return [
        go.Scatter(
            x=[x for x, _ in dots],
            y=[y for _, y in dots],
            mode="markers",
            marker=look,
            name=name,
            hoverinfo="skip",
        )
    ][: len(dots)]


def _scored(
    landscape: Landscape, trials: Sequence[Trial], searched: Searched
) -> list[tuple[Trial, Params]]:
    """Return the trials to be drawn, with their configurations."""
    scored = [t for t in trials if t.score is not None and t.params is not None]
    chosen = best_of(scored, searched, sign=sign_of(landscape.belief.direction))
    return [(trial, trial.params) for trial in chosen if trial.params is not None]


def _curve(cut: Slice, places: Sequence[float], heights: Heights) -> list[Any]:
    """Return the expected score as a line, and its band around it."""
    import plotly.graph_objects as go

    edge = {"x": list(places), "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    low, high, mean = ([heights.near(v) for v in each] for each in (cut.low, cut.high, cut.mean))
    factor = heights.factor
    ends = zip(cut.mean, cut.low, cut.high, strict=True)
    return [
        go.Scatter(**edge, y=low, showlegend=False),
        go.Scatter(**edge, y=high, fill="tonexty", fillcolor=_BAND, name="its 95 % band"),
        go.Scatter(
            x=list(places),
            y=mean,
            mode="lines",
            line={"color": BLUE, "width": 2.5},
            name="expected",
            customdata=[[factor * value for value in each] for each in ends],
            hovertemplate="expected %{customdata[0]:.4g}, 95 % band %{customdata[1]:.4g} to "
            "%{customdata[2]:.4g}<extra></extra>",
        ),
    ]


def _intervals(cut: Slice, places: Sequence[float], heights: Heights) -> list[Any]:
    """Return the expected score of each choice with its band as a bar."""
    import plotly.graph_objects as go

    low, high, mean = ([heights.near(v) for v in each] for each in (cut.low, cut.high, cut.mean))
    return [
        go.Scatter(
            x=[place + _BESIDE for place in places],
            y=mean,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [end - at for end, at in zip(high, mean, strict=True)],
                "arrayminus": [at - end for end, at in zip(low, mean, strict=True)],
                "thickness": 2,
                "width": 6,
            },
            mode="markers",
            marker={"color": BLUE, "size": 11, "symbol": "diamond"},
            name="expected, 95 % band",
            hovertemplate="expected %{y:.4g}<extra></extra>",
        )
    ]


def _marks(
    placed: Sequence[tuple[Trial, float, float]],
    searched: Searched,
    *,
    n: int,
    color: str = GREY,
) -> list[Any]:
    """Return the trials as marks, those that broke apart; `n`: how many there are in all."""
    import plotly.graph_objects as go

    whole = [each for each in placed if not each[0].broken]
    broken = [each for each in placed if each[0].broken]
    of_all = f", the best {len(placed)} of {n:,}" if n > len(placed) > 0 else ""
    looks = (
        (whole, f"trial, n = 1 seed{of_all}", {"color": color, "size": 8}),
        (broken, broken_text([t for t, _, _ in broken]), {"color": VERMILION, "symbol": "x"}),
    )
    return [
        go.Scatter(
            x=[x for _, x, _ in marks],
            y=[y for _, _, y in marks],
            mode="markers",
            marker={"size": 9, "line": {"color": "#444444", "width": 1}, **look},
            name=name,
            customdata=[[t.slot, _said(t, searched)] for t, _, _ in marks],
            hovertemplate="slot %{customdata[0]}: %{customdata[1]}<extra></extra>",
        )
        for marks, name, look in looks
        if marks
    ]


def _said(trial: Trial, searched: Searched) -> str:
    """Return what came of a trial."""
    if trial.broken or trial.score is None:
        return how(trial)
    return f"{searched.metric.value(trial.score)}{searched.metric.unit}"
