"""Figures of what rates do and what they are: the range test, and any OneCycleLR call."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.views.figures.look import (
    BLUE,
    GREEN,
    GREY,
    HEIGHT_PX,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    band,
    bracket,
    finish,
    log_axis,
    vertical,
)
from trainers.calls.schedule import Preview
from trainers.sweeps.result import RangeTestResult, count, max_lr_text, range_name
from trainers.sweeps.smoothing import SmoothedCurve, smoothed_curve

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def range_test_figure(result: RangeTestResult) -> "Figure":
    """Draw every sweep, raw and as it was judged, their median, and what they propose.

    The loss axis ends a little above the first level, so that an explosion flattens nothing.
    """
    import plotly.graph_objects as go

    figure, n = go.Figure(), len(result.points)
    drawn = [smoothed_curve(curve) for curve in result.curves]
    for number, curve in enumerate(drawn):
        _sweep(figure, number, curve, n=n)
    if result.slow_curve is not None:
        _slow_sweep(figure, smoothed_curve(result.slow_curve), n_steps=len(result.slow_curve.lrs))
    judged = [curve for curve in drawn if not math.isnan(curve.first)]
    if len(judged) > 1:
        _median(figure, judged)
    _rebounds(figure, drawn, result)
    shown: list[float] = [lr for curve in result.curves for lr in curve.lrs]
    if result.proposal is not None:
        proposal = result.proposal
        shown += [proposal.low, proposal.high]
        bracket(figure, (proposal.low, proposal.high), name=range_name(proposal))
        if proposal.interval is not None:
            low, high = proposal.interval
            name = f"95 % interval of the edge {low:.3g} to {high:.3g}"
            band(figure, proposal.interval, name, color=VERMILION)
        if proposal.edge is not None:
            edge = f"edge {proposal.edge:.3g}, median of n = {count(proposal.n_sweeps, 'sweep')}"
            vertical(figure, proposal.edge, edge, color=VERMILION, dash="dot")
        vertical(figure, proposal.max_lr, max_lr_text(proposal), color=GREEN, dash="dash")
    low = min((float(curve.smoothed.min()) for curve in judged), default=0.0)
    high = max((curve.first for curve in judged), default=1.0)
    finish(
        figure,
        x=log_axis(shown, "learning rate"),
        y={
            "title": {"text": "training loss"},
            "range": [low - 0.2 * (high - low), high + 0.25 * (high - low)],
        },
    )
    figure.update_layout(height=HEIGHT_PX + 60)
    return figure


def _sweep(figure: "Figure", number: int, curve: SmoothedCurve, *, n: int) -> None:
    """Add one sweep: its points and what was judged."""
    legend = {"showlegend": number == 0}
    figure.add_scatter(
        x=curve.lrs.tolist(),
        y=_within_svg(curve.losses),
        mode="markers",
        marker={"color": GREY, "size": 3, "opacity": 0.35},
        name=f"loss of a step (n = {count(n, 'sweep')})",
        legendgroup="raw",
        hoverinfo="skip",
        **legend,
    )
    figure.add_scatter(
        x=curve.lrs.tolist(),
        y=_within_svg(curve.smoothed),
        mode="lines",
        line={"color": SKY, "width": 1.2},
        name="a sweep, smoothed without lag",
        legendgroup="smoothed",
        hovertemplate=f"sweep {number}: loss %{{y:.3f}} at lr %{{x:.3g}}<extra></extra>",
        **legend,
    )


def _within_svg(losses: NDArray[np.float64]) -> list[float]:
    """Return losses of which none is written with an exponent: from 1e21 pixels on a browser
    refuses the place."""
    values: list[float] = np.clip(losses, -1e9, 1e9).tolist()
    return values


def _slow_sweep(figure: "Figure", curve: SmoothedCurve, *, n_steps: int) -> None:
    """Add the sweep that the drift is read of."""
    figure.add_scatter(
        x=curve.lrs.tolist(),
        y=_within_svg(curve.smoothed),
        mode="lines",
        line={"color": PURPLE, "width": 1.5, "dash": "dash"},
        name=f"slow sweep, {n_steps} steps (n = 1)",
        hovertemplate="slow sweep: loss %{y:.3f} at lr %{x:.3g}<extra></extra>",
    )


def _median(figure: "Figure", curves: Sequence[SmoothedCurve]) -> None:
    """Add the median over the sweeps."""
    lrs, losses = median_curve(curves)
    figure.add_scatter(
        x=lrs.tolist(),
        y=losses.tolist(),
        mode="lines",
        line={"color": BLUE, "width": 3},
        name=f"median of n = {count(len(curves), 'sweep')}",
        hovertemplate="median: loss %{y:.3f} at lr %{x:.3g}<extra></extra>",
    )


def median_curve(
    curves: Sequence[SmoothedCurve],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rates and median smoothed losses of sweeps over the same rates, shapes (N,), (N,).

    A sweep counts as infinite from its first loss that is not finite; the median ends where it
    is no number any more.
    """
    longest = max(curves, key=lambda curve: len(curve.lrs))
    # Infinite, not NaN: half of the sweeps may have broken, and the median of the others is shown.
    losses = np.full((len(curves), len(longest.lrs)), np.inf)
    for row, curve in zip(losses, curves, strict=True):
        row[: len(curve.smoothed)] = curve.smoothed
    ordered = np.sort(losses, axis=0)
    middle = (ordered[(len(curves) - 1) // 2] + ordered[len(curves) // 2]) / 2
    finite = np.isfinite(middle)
    return longest.lrs[finite], middle[finite]


def _rebounds(figure: "Figure", drawn: Sequence[SmoothedCurve], result: RangeTestResult) -> None:
    """Mark where each sweep's loss turns."""
    judgements = enumerate(result.judgements)
    rebounds = [(n, judgement.rebound) for n, judgement in judgements if judgement.rebound]
    figure.add_scatter(
        x=[lr for _, lr in rebounds],
        y=[float(np.interp(lr, drawn[n].lrs, drawn[n].smoothed)) for n, lr in rebounds],
        mode="markers",
        marker={"color": ORANGE, "size": 9, "symbol": "diamond"},
        name=f"rebound (n = {len(rebounds)} of {count(len(drawn), 'sweep')})",
        customdata=[n for n, _ in rebounds],
        hovertemplate="sweep %{customdata}: rebound at lr %{x:.3g}<extra></extra>",
    )


def call_figure(seen: Preview) -> "Figure":
    """Draw rate and momentum over the steps of a call, as torch applies them."""
    import plotly.graph_objects as go

    n = len(seen.lrs)
    # 2,000 points are more than a screen shows; the peak must not fall between two of them.
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
    finish(figure, x=x, y={"title": {"text": "learning rate"}, "rangemode": "tozero"})
    figure.update_layout(
        yaxis2={"title": {"text": "momentum"}, "overlaying": "y", "side": "right"},
        height=480,
    )
    return figure
