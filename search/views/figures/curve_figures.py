"""The figure of learning curves: losses and score under the rate, over the same epochs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.results.curves import RunCurve
from search.results.metric import Metric
from search.views.figures.curve_lines import (
    Group,
    Learned,
    Line,
    Unit,
    broken_line,
    rate_line,
    score_line,
    train_line,
    trial_lines,
    trial_name,
    validation_line,
)
from search.views.figures.look import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    finish,
    plain,
)
from trainers.sweeps.result import count

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


_COLOURS = (BLUE, ORANGE, SKY, PURPLE, GREY)
_N_OPEN = 2
"""Configurations drawn at once; the legend brings the others."""
_HEIGHT_PX = 640
_ROOM = 1.01
"""Of the axis, for the mark at the end of a cycle."""
_RATE, _LOSS, _SCORE = "y", "y2", "y3"
_DOMAINS = {_RATE: (0.83, 1.0), _LOSS: (0.39, 0.77), _SCORE: (0.0, 0.33)}
_CUT = 1.1
"""The loss axis ends so much above the first level, so that a run that broke flattens nothing."""


def curves_figure(learned: Learned, *, unit: Unit | None = None, choose: int = 0) -> "Figure":
    """Draw rate, losses and score of each configuration: the mean, and a band that holds all
    seeds.

    `choose`: so many of the best trials can be picked from a menu within the figure. The traces
    of a picked trial come last, empty, in the order of trial_lines().
    """
    import plotly.graph_objects as go

    unit = unit or learned.unit
    figure = go.Figure()
    for place, (group, colour) in enumerate(zip(learned.groups, _COLOURS, strict=False)):
        _draw_group(figure, group, learned.metric, colour=colour, unit=unit, place=place)
    _draw_trial(figure)
    title = f"epoch (of {learned.epochs})" if unit == "epoch" else "optimizer step"
    last = max((_scale(run, unit) * run.total_steps for run in learned.runs), default=1.0)
    finish(
        figure,
        x={"title": {"text": title}, "anchor": _SCORE, "range": [0, _ROOM * last]},
        y={"title": {"text": "rate"}, "domain": _DOMAINS[_RATE], "rangemode": "tozero"},
    )
    axis = {"gridcolor": GRID, "linecolor": GREY, "zeroline": False, "automargin": True}
    has_validation = any(validation_line(run) for run in learned.runs)
    titles = {
        _LOSS: "loss" if has_validation else "training loss",
        _SCORE: plain(learned.metric.title),
    }
    lower = {
        name: {**axis, "domain": _DOMAINS[name], "title": {"text": title}}
        for name, title in titles.items()
    }
    figure.update_layout(height=_HEIGHT_PX, yaxis2=lower[_LOSS], yaxis3=lower[_SCORE])
    figure.update_layout(yaxis2_range=_loss_range(learned))
    figure.update_yaxes(title_font_size=12)
    if has_validation:
        _say_what_is_dotted(figure)
    if choose:
        _add_menu(figure, learned, unit, learned.trials[:choose])
    return figure


def _loss_range(learned: Learned) -> list[float] | None:
    """Return the range of the losses, cut a little above the first level; None without one."""
    lines = [line for run in learned.runs for line in (train_line(run), validation_line(run))]
    whole = [line for line in lines if line]
    if not whole:
        return None
    first = sorted(line[0][1] for line in whole)
    # Not the highest: some runs are broken from their first steps on.
    usual = 2 * _CUT * abs(first[len(first) // 2])
    high = max(value for value in first if value <= max(usual, first[0]))
    low = min(value for line in whole for _, value in line)
    room = _CUT - 1
    return None if high <= low else [low - room * (high - low), high + room * (high - low)]


def _say_what_is_dotted(figure: "Figure") -> None:
    figure.add_annotation(
        text="dotted: training, solid: validation",
        showarrow=False,
        font={"size": 11},
        xref="paper",
        yref="paper",
        x=1,
        y=_DOMAINS[_LOSS][1],
        xanchor="right",
        yanchor="top",
    )


def _draw_group(
    figure: "Figure", group: Group, metric: Metric, *, colour: str, unit: Unit, place: int
) -> None:
    n = count(len(group.runs), "seed")
    shared = {
        "legendgroup": group.name,
        "visible": True if place < _N_OPEN else "legendonly",
        "meta": {"per_epoch": group.runs[0].steps_per_epoch},
    }
    lines = {
        (_RATE, "solid", "rate"): [rate_line(group.runs[0])],
        (_LOSS, "dot", "training loss"): [train_line(run) for run in group.runs],
        (_LOSS, "solid", "validation loss"): [validation_line(run) for run in group.runs],
        (_SCORE, "solid", metric.title): [score_line(run, metric) for run in group.runs],
    }
    for (axis, dash, name), of_runs in lines.items():
        _draw_line(
            figure,
            of_runs,
            axis=axis,
            dash=dash,
            colour=colour,
            scale=_scale(group.runs[0], unit),
            hover=f"{plain(group.name)}: {plain(name)} %{{y:.4g}} at {unit} %{{x:.4~g}}",
            shared={**shared, "name": f"{plain(group.name)} (n = {n})"},
            in_legend=axis == _RATE,
        )
    broken = [point for run in group.runs for point in broken_line(run)]
    if broken:
        _mark_broken(figure, broken, scale=_scale(group.runs[0], unit), shared=shared)


def _scale(run: RunCurve, unit: Unit) -> float:
    return 1 / run.steps_per_epoch if unit == "epoch" else 1.0


def _draw_line(
    figure: "Figure",
    of_runs: Sequence[Line],
    *,
    axis: str,
    dash: str,
    colour: str,
    scale: float,
    hover: str,
    shared: Mapping[str, Any],
    in_legend: bool,
) -> None:
    """Add the mean over runs of one quantity, and a band from the lowest to the highest."""
    values = _over_seeds(of_runs)
    steps = sorted(values)
    xs = [scale * step for step in steps]
    if len(of_runs) > 1 and len(steps) > 1:
        lows, highs = [min(values[s]) for s in steps], [max(values[s]) for s in steps]
        figure.add_scatter(
            x=[*xs, *xs[::-1]],
            y=[*highs, *lows[::-1]],
            yaxis=axis,
            fill="toself",
            fillcolor=colour,
            opacity=0.18,
            line={"width": 0},
            hoverinfo="skip",
            **{**shared, "showlegend": False},
        )
    if steps or in_legend:
        figure.add_scatter(
            x=xs,
            y=[sum(values[step]) / len(values[step]) for step in steps],
            yaxis=axis,
            mode="lines" if len(steps) > 1 else "markers",
            line={"color": colour, "width": 2, "dash": dash},
            hovertemplate=f"{hover}<extra></extra>",
            **{**shared, "showlegend": in_legend},
        )


def _over_seeds(of_runs: Sequence[Line]) -> dict[int, list[float]]:
    """Return the values of all runs by step; a run counts up to where it ended.

    A run that broke ends within a window, where the others have no value.
    """
    values: dict[int, list[float]] = {}
    for line in of_runs:
        for step, value in line:
            values.setdefault(step, []).append(value)
    ends = [line[-1][0] for line in of_runs if line]
    return {s: each for s, each in values.items() if len(each) == sum(end >= s for end in ends)}


def _mark_broken(
    figure: "Figure", points: Line, *, scale: float, shared: Mapping[str, Any]
) -> None:
    figure.add_scatter(
        x=[scale * step for step, _ in points],
        y=[loss for _, loss in points],
        yaxis=_LOSS,
        mode="markers",
        marker={"color": VERMILION, "size": 11, "symbol": "x"},
        hovertemplate="training broke here<extra></extra>",
        **{**shared, "showlegend": False},
    )


_TRIAL_MODES = {"broke": "markers", "score": "lines+markers"}  # one score is no line
_TRIAL_LOOKS = {"rate": (_RATE, "solid"), "train": (_LOSS, "dot"), "validation": (_LOSS, "solid")}


def _draw_trial(figure: "Figure") -> None:
    """Add the traces of a trial that is picked later, without points."""
    looks = {**_TRIAL_LOOKS, "score": (_SCORE, "solid"), "broke": (_LOSS, "solid")}
    for name, (axis, dash) in looks.items():
        broken = {"color": VERMILION, "size": 11, "symbol": "x"}
        marker = broken if name == "broke" else {"color": GREEN, "size": 5}
        figure.add_scatter(
            x=[],
            y=[],
            yaxis=axis,
            mode=_TRIAL_MODES.get(name, "lines"),
            line={"color": GREEN, "width": 2, "dash": dash},
            marker=marker,
            name="picked trial",
            legendgroup="picked",
            showlegend=False,
            meta={"trial": name},
            hovertemplate=f"{name} %{{y:.4g}} at %{{x:.4~g}}<extra></extra>",
        )


def _add_menu(figure: "Figure", learned: Learned, unit: Unit, trials: Sequence[RunCurve]) -> None:
    """Add a menu that draws one trial beside the configurations."""
    places = [n for n, trace in enumerate(figure.data) if (trace.meta or {}).get("trial")]
    nothing: dict[str, Any] = {"x": [[]] * len(places), "y": [[]] * len(places)}
    buttons = [{"label": "pick a trial (green)", "method": "restyle", "args": [nothing, places]}]
    for run in trials:
        lines, scale = trial_lines(run, learned.metric).values(), _scale(run, unit)
        drawn = {
            "x": [[float(f"{scale * step:.5g}") for step, _ in line] for line in lines],
            "y": [[value for _, value in line] for line in lines],
        }
        label = plain(trial_name(run, learned.metric))
        buttons.append({"label": label, "method": "restyle", "args": [drawn, places]})
    menu = {"x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom", "showactive": True}
    # Of its own: a menu without a ground lies over the lines and cannot be read.
    look = {"bgcolor": "#fff", "bordercolor": GREY, "font": {"color": "#333", "size": 11}}
    figure.update_layout(updatemenus=[{**menu, **look, "buttons": buttons}])
