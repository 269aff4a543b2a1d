"""Plotly figures of a study, for the report: plain values in, one figure out."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from search.confirmation import estimate
from search.result import Candidate, StudyResult
from search.terminal import candidate_name
from trainers.judgement import SmoothedCurve, smoothed_curve
from trainers.range_test_result import RangeTestResult
from trainers.schedule import Preview

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe and Ito (2008): told apart under every common form of colour blindness.
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILION, PURPLE = "#D55E00", "#CC79A7"
GREY = "#808080"
"""Of text and axes: contrast 3.9 on white, 4.7 on the dark page."""
GRID = "rgba(128,128,128,0.25)"
HEIGHT_PX = 400


def confirmation_figure(result: StudyResult) -> "Figure":
    """Draw each candidate's score: every seed, and the mean with its 95 % interval."""
    import plotly.graph_objects as go

    ordered = result.ranked()[::-1]
    seeds = seeds_text([c.scores for c in ordered])
    rows = list(enumerate(ordered))
    tested = [(row, c.test) for row, c in rows if c.test is not None]
    figure = go.Figure(
        [
            go.Scatter(
                x=[result.metric.factor * score for c in ordered for score in c.scores],
                y=[row + 0.28 for row, c in rows for _ in c.scores],
                mode="markers",
                marker={"color": SKY, "size": 7, "opacity": 0.7},
                name="validation, one seed",
                hovertemplate="%{x:.4g}<extra></extra>",
            ),
            _intervals(
                [row + 0.12 for row, _ in rows],
                [c.scores for c in ordered],
                factor=result.metric.factor,
                name=f"validation, mean of {seeds}",
                marker={"color": BLUE, "size": 10},
            ),
            _intervals(
                [row - 0.18 for row, _ in tested],
                [scores for _, scores in tested],
                factor=result.metric.factor,
                name=f"test, mean of {seeds}",
                marker={"color": ORANGE, "size": 10, "symbol": "square"},
            ),
        ]
    )
    mean = result.metric.factor * result.baseline.validation.mean
    _vertical(figure, mean, "baseline's validation mean", GREY, "dash")
    y = {
        "tickvals": [row for row, _ in rows],
        "ticktext": [candidate_name(c, result) for c in ordered],
        "range": [-0.5, len(rows) - 0.5],
        "showgrid": False,
    }
    _finish(figure, x={"title": {"text": result.metric.title}}, y=y)
    figure.update_layout(height=150 + 55 * len(rows))
    return figure


def seeds_text(scores: Sequence[Sequence[float]]) -> str:
    """Return over how many seeds each of the means is taken: '5 seeds' or '4 to 5 seeds'."""
    counts = sorted({len(values) for values in scores})
    return " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) + " seeds"


def range_test_figure(result: RangeTestResult) -> "Figure":
    """Draw every sweep, raw and under the smoothing that was judged, and what they propose.

    The loss axis ends a little above the first level, so that an explosion flattens nothing.
    """
    import plotly.graph_objects as go

    figure, n = go.Figure(), len(result.points)
    drawn = [smoothed_curve(curve) for curve in result.curves]
    for number, curve in enumerate(drawn):
        _sweep(figure, number, curve, n=n)
    if result.slow_curve is not None:
        _slow_sweep(figure, smoothed_curve(result.slow_curve), n_steps=len(result.slow_curve.lrs))
    _rebounds(figure, drawn, result)
    shown: list[float] = [lr for curve in result.curves for lr in curve.lrs]
    if result.proposal is not None:
        said = result.proposal
        shown += [said.low, said.high]
        _bracket(figure, (said.low, said.high))
        _vertical(figure, said.edge, f"edge {said.edge:.3g}", VERMILION, "dot")
        _vertical(figure, said.max_lr, f"proposed max_lr {said.max_lr:.3g}", GREEN, "dash")
    judged = [curve for curve in drawn if not math.isnan(curve.first)]
    low = min((float(curve.smoothed.min()) for curve in judged), default=0.0)
    high = max((curve.first for curve in judged), default=1.0)
    _finish(
        figure,
        x=_log_axis(shown, "learning rate"),
        y={
            "title": {"text": "training loss"},
            "range": [low - 0.2 * (high - low), high + 0.25 * (high - low)],
        },
    )
    return figure


def _sweep(figure: "Figure", number: int, curve: SmoothedCurve, *, n: int) -> None:
    """Add one sweep: its points and what was judged."""
    legend = {"showlegend": number == 0}
    figure.add_scatter(
        x=curve.lrs.tolist(),
        y=curve.losses.tolist(),
        mode="markers",
        marker={"color": SKY, "size": 3, "opacity": 0.5},
        name=f"loss of a step (n = {n} sweeps)",
        legendgroup="raw",
        hoverinfo="skip",
        **legend,
    )
    figure.add_scatter(
        x=curve.lrs.tolist(),
        y=curve.smoothed.tolist(),
        mode="lines",
        line={"color": BLUE, "width": 1.5},
        name="smoothed without lag",
        legendgroup="smoothed",
        hovertemplate=f"sweep {number}: loss %{{y:.3f}} at lr %{{x:.3g}}<extra></extra>",
        **legend,
    )


def _slow_sweep(figure: "Figure", curve: SmoothedCurve, *, n_steps: int) -> None:
    """Add the sweep that the drift is read of."""
    figure.add_scatter(
        x=curve.lrs.tolist(),
        y=curve.smoothed.tolist(),
        mode="lines",
        line={"color": PURPLE, "width": 1.5, "dash": "dash"},
        name=f"slow sweep, {n_steps} steps (n = 1)",
        hovertemplate="slow sweep: loss %{y:.3f} at lr %{x:.3g}<extra></extra>",
    )


def _rebounds(figure: "Figure", drawn: Sequence[SmoothedCurve], result: RangeTestResult) -> None:
    """Mark where each sweep's loss turns."""
    found = [(n, said.rebound) for n, said in enumerate(result.judgements) if said.rebound]
    figure.add_scatter(
        x=[lr for _, lr in found],
        y=[float(np.interp(lr, drawn[n].lrs, drawn[n].smoothed)) for n, lr in found],
        mode="markers",
        marker={"color": ORANGE, "size": 9, "symbol": "diamond"},
        name=f"rebound (n = {len(found)} of {len(drawn)} sweeps)",
        customdata=[n for n, _ in found],
        hovertemplate="sweep %{customdata}: rebound at lr %{x:.3g}<extra></extra>",
    )


def search_figure(trials: Sequence[Mapping[str, Any]], result: StudyResult) -> "Figure":
    """Draw the validation score against max_lr, one mark per configuration (n = 1 seed each).

    A diverged one stands at the lower edge: its score is chance by convention, not measured.
    `trials` are rows of `search.catalog.trials`.
    """
    import plotly.graph_objects as go

    scored = [t for t in trials if t["score"] is not None and t["max_lr"] is not None]
    whole = [t for t in scored if t["outcome"] != "diverged"]
    broken = [t for t in scored if t["outcome"] == "diverged"]
    factor = result.metric.factor
    values = [factor * t["score"] for t in whole] or [0.0, factor]
    room = 0.12 * (max(values) - min(values)) or 0.001 * factor
    bottom = min(values) - (2 * room if broken else room)
    figure = go.Figure(
        [
            go.Scatter(
                x=[t["max_lr"] for t in whole],
                y=values if whole else [],
                mode="markers",
                marker=_coloured_by_pct_start(whole),
                name=f"configuration ({len(whole)}, n = 1 seed each)",
                customdata=[[t["slot"], t["pct_start"], t["div_factor"]] for t in whole],
                hovertemplate=_TRIAL_HOVER,
            ),
            go.Scatter(
                x=[t["max_lr"] for t in broken],
                y=[bottom + room / 2] * len(broken),
                mode="markers",
                marker={"color": VERMILION, "size": 10, "symbol": "x"},
                name=f"diverged ({len(broken)}), drawn at the lower edge",
                customdata=[[t["slot"], t["diverged_step"]] for t in broken],
                hovertemplate="slot %{customdata[0]} diverged at step %{customdata[1]}, "
                "max_lr %{x:.3g}<extra></extra>",
            ),
            *(
                _ring(c, scored, result, bottom=bottom + room / 2)
                for c in dict.fromkeys((result.baseline, result.winner))
            ),
        ]
    )
    _bracket(figure, result.bracket)
    _finish(
        figure,
        x=_log_axis([*(t["max_lr"] for t in scored), *result.bracket], "max_lr"),
        y={
            "title": {"text": f"validation {result.metric.title}"},
            "range": [bottom, max(values) + room],
        },
    )
    return figure


def schedule_figure(result: StudyResult) -> "Figure":
    """Draw the winner's rate over the steps of its cycle beside the baseline's."""
    import plotly.graph_objects as go

    total_steps = result.plan.total_steps
    same = result.winner.is_baseline
    lines = [("winner = baseline" if same else "winner", result.winner.slot, BLUE, "solid")]
    if not same:
        lines.append(("baseline", result.baseline.slot, ORANGE, "dash"))
    figure = go.Figure()
    for name, slot, color, dash in lines:
        figure.add_scatter(
            x=[step for step, _ in result.schedules[slot]],
            y=[lr for _, lr in result.schedules[slot]],
            mode="lines",
            line={"color": color, "width": 2, "dash": dash},
            name=name,
            hovertemplate=f"{name}: lr %{{y:.3g}} at step %{{x}}<extra></extra>",
        )
    x = {"title": {"text": f"optimizer step (of {total_steps:,})"}, "range": [0, total_steps - 1]}
    _finish(figure, x=x, y={"title": {"text": "learning rate"}, "rangemode": "tozero"})
    figure.update_layout(height=320)
    return figure


def call_figure(seen: Preview) -> "Figure":
    """Draw rate and momentum over the steps of a call, as torch applies them."""
    import plotly.graph_objects as go

    n = len(seen.lrs)
    steps = sorted({*range(0, n, max(1, n // 2_000)), seen.peak, n - 1})
    figure = go.Figure()
    drawn = {"learning rate": (seen.lrs, BLUE, "y")}
    if seen.momenta:
        drawn["momentum (Adam: beta1)"] = (seen.momenta, ORANGE, "y2")
    for name, (values, color, axis) in drawn.items():
        figure.add_scatter(
            x=[step + 1 for step in steps],
            y=[values[step] for step in steps],
            mode="lines",
            line={"color": color, "width": 2},
            yaxis=axis,
            name=name,
            hovertemplate=f"{name} %{{y:.4g}} at step %{{x:,}}<extra></extra>",
        )
    x = {"title": {"text": f"optimizer step (of {n:,})"}}
    _finish(figure, x=x, y={"title": {"text": "learning rate"}, "rangemode": "tozero"})
    figure.update_layout(
        yaxis2={"title": {"text": "momentum"}, "overlaying": "y", "side": "right"},
        height=480,
    )
    return figure


# Viridis without its darkest quarter, which is lost on a dark page.
_PCT_START_SCALE = [[0, "#3b528b"], [0.33, "#21918c"], [0.67, "#5ec962"], [1, "#fde725"]]

_TRIAL_HOVER = (
    "slot %{customdata[0]}: %{y:.4g}<br>max_lr %{x:.3g}, pct_start %{customdata[1]:.2f}, "
    "div_factor %{customdata[2]:.3g}<extra></extra>"
)


def _intervals(
    rows: Sequence[float],
    scores: Sequence[Sequence[float]],
    *,
    factor: float,
    name: str,
    marker: dict[str, Any],
) -> Any:
    """Return means with their intervals as bars; a single seed has no interval to draw."""
    import plotly.graph_objects as go

    found = [estimate(values) for values in scores]
    widths = [factor * e.half_width if math.isfinite(e.half_width) else None for e in found]
    return go.Scatter(
        x=[factor * e.mean for e in found],
        y=list(rows),
        error_x={"type": "data", "array": widths, "thickness": 2, "width": 6},
        mode="markers",
        marker=marker,
        name=name,
        hovertemplate="%{x:.4g} ± %{error_x.array:.2g}<extra></extra>",
    )


def _coloured_by_pct_start(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    bar = {"title": {"text": "pct_start"}, "thickness": 10, "outlinewidth": 0, "len": 0.9}
    return {
        "color": [t["pct_start"] for t in trials],
        "colorscale": _PCT_START_SCALE,
        "colorbar": bar,
        "size": 11,
        "line": {"color": GREY, "width": 1},
    }


def _ring(
    candidate: Candidate,
    trials: Sequence[Mapping[str, Any]],
    result: StudyResult,
    *,
    bottom: float,
) -> Any:
    """Return a ring around the trial of a candidate; `bottom` is where diverged ones stand."""
    import plotly.graph_objects as go

    factor = result.metric.factor
    found = [t for t in trials if t["slot"] == candidate.slot]
    return go.Scatter(
        x=[t["max_lr"] for t in found],
        y=[bottom if t["outcome"] == "diverged" else factor * t["score"] for t in found],
        mode="markers",
        marker={
            "color": ORANGE if candidate.is_baseline else PURPLE,
            "size": 19,
            "symbol": "square-open" if candidate.is_baseline else "circle-open",
            "line": {"width": 3},
        },
        name=candidate_name(candidate, result),
        hoverinfo="skip",
    )


def _bracket(figure: "Figure", bracket: tuple[float, float]) -> None:
    low, high = bracket
    figure.add_vrect(
        x0=low,
        x1=high,
        fillcolor=GREEN,
        opacity=0.12,
        line_width=0,
        layer="below",
        showlegend=True,
        name=f"bracket {low:.3g} to {high:.3g}",
    )


def _vertical(figure: "Figure", x: float, name: str, color: str, dash: str) -> None:
    line = {"color": color, "dash": dash, "width": 2}
    figure.add_vline(x=x, line=line, showlegend=True, name=name)


def _log_axis(values: Sequence[float], title: str) -> dict[str, Any]:
    """Return a logarithmic axis over `values` whose ticks are plain numbers."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = 0.03 * (high - low)
    steps = (1,) if high - low > 2.5 else (1, 2, 5)
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {
        "title": {"text": title},
        "type": "log",
        "range": [low - room, high + room],
        "tickvals": ticks,
        "ticktext": [np.format_float_positional(tick, precision=12, trim="-") for tick in ticks],
    }


def _finish(figure: "Figure", *, x: dict[str, Any], y: dict[str, Any]) -> None:
    """Set axes and the look that holds on a light and on a dark page, at any width."""
    axis = {"gridcolor": GRID, "linecolor": GREY, "zeroline": False, "automargin": True}
    figure.update_layout(
        template=None,
        height=HEIGHT_PX,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 13, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "x": 0, "y": 1.03, "yanchor": "bottom"},
        xaxis={**axis, **x},
        yaxis={**axis, **y},
    )
