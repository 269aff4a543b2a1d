"""Figures of a study's answer: confirmation, schedules and importances."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.results.result import StudyResult
from search.stages.space import RELATIVE_MAX_LR
from search.stages.statistics import estimate
from search.views.figures.look import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    band,
    finish,
    plain,
    vertical,
)
from search.views.wording import candidate_name, seeds_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_N_OTHERS = 3  # finalists in the figure of schedules, beside answer and alternative


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
                # A row is 1 high: seeds, validation and test lie above each other, apart.
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
    vertical(figure, mean, "baseline's validation mean", color=GREY, dash="dash")
    y = {
        "tickvals": [row for row, _ in rows],
        "ticktext": [candidate_name(c, result) for c in ordered],
        "range": [-0.5, len(rows) - 0.5],
        "showgrid": False,
    }
    finish(figure, x={"title": {"text": plain(result.metric.title)}}, y=y)
    # Pixels: legend and axis take 150, a row with its two intervals 55.
    figure.update_layout(height=150 + 55 * len(rows))
    return figure


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

    estimates = [estimate(values) for values in scores]
    widths = [factor * e.half_width if math.isfinite(e.half_width) else None for e in estimates]
    return go.Scatter(
        x=[factor * e.mean for e in estimates],
        y=list(rows),
        error_x={"type": "data", "array": widths, "thickness": 2, "width": 6},
        mode="markers",
        marker=marker,
        name=name,
        hovertemplate="%{x:.4g} ± %{error_x.array:.2g}<extra></extra>",
    )


def schedule_figure(result: StudyResult) -> "Figure":
    """Draw the rates of answer, alternative and the next best finalists over the steps of a cycle.

    Over epochs where batch sizes are searched, for their cycles have different steps.
    """
    import plotly.graph_objects as go

    last, unit = result.plan.total_steps - 1, "step"
    title = f"optimizer step (of {last + 1:,})"
    if result.proposals:
        last, unit, title = result.epochs, "epoch", f"epoch (of {result.epochs})"
    known = [c for c in result.ranked() if c.slot in result.schedules]
    chosen = [c for c in known if c.slot == result.recommended.slot]
    chosen += [c for c in known if c == result.alternative]
    others = [c for c in known if c not in chosen][:_N_OTHERS]
    looks = [(BLUE, "solid", 3.0), (ORANGE, "dash", 2.5)][: len(chosen)]
    looks += [(SKY, "dot", 1.5), (PURPLE, "dashdot", 1.5), (GREY, "longdash", 1.5)]
    figure = go.Figure()
    for candidate, (color, dash, width) in zip([*chosen, *others], looks, strict=False):
        name = candidate_name(candidate, result)
        points = result.schedules[candidate.slot]
        scale = result.epochs / (points[-1][0] + 1) if result.proposals else 1
        figure.add_scatter(
            x=[scale * step for step, _ in points],
            y=[lr for _, lr in points],
            mode="lines",
            line={"color": color, "width": width, "dash": dash},
            name=name,
            hovertemplate=f"{name}: lr %{{y:.3g}} at {unit} %{{x:.4~g}}<extra></extra>",
        )
    x = {"title": {"text": title}, "range": [0, last]}
    finish(figure, x=x, y={"title": {"text": "learning rate"}, "rangemode": "tozero"})
    figure.update_layout(height=340, showlegend=True)
    return figure


def importance_figure(
    result: StudyResult, ends: Mapping[str, tuple[float, float]] | None = None
) -> "Figure":
    """Draw each parameter's share of the variance, the greatest on top, and how sure that is.

    `ends`: between which shares of the expected score's variance each lies with 95 %. Without
    them, of a study from before, the shares are those of the single scores. These are grey where
    they are within what a seed's noise has of the variance.
    """
    if result.expected is None or ends is None:
        return _of_scores(result)
    import plotly.graph_objects as go

    shares = sorted(result.shares.items(), key=lambda item: item[1])
    known = {
        name: (min(share, ends[name][0]), max(share, ends[name][1])) for name, share in shares
    }
    figure = go.Figure(
        go.Bar(
            x=[100 * share for _, share in shares],
            y=[name for name, _ in shares],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [100 * (known[name][1] - share) for name, share in shares],
                "arrayminus": [100 * (share - known[name][0]) for name, share in shares],
                "color": GREY,
                "thickness": 2,
                "width": 6,
            },
            orientation="h",
            width=0.6,
            marker={"color": BLUE},
            name=f"expected score, 95 % interval (n = {result.n_trials})",
            hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
        )
    )
    singles = {_own_name(name): share for name, share in (result.importances or {}).items()}
    if singles:
        figure.add_scatter(
            x=[100 * share for share in singles.values()],
            y=list(singles),
            mode="markers",
            marker={"color": ORANGE, "size": 11, "symbol": "diamond-open", "line": {"width": 2}},
            name=f"single scores ({result.explained_by})",
            hovertemplate="%{y}: %{x:.0f} % of the single scores<extra></extra>",
        )
    _noise_mark(figure, result)
    _finish_shares(figure, [name for name, _ in shares])
    return figure


def _own_name(name: str) -> str:
    """Return a parameter's name where Optuna has another one for it."""
    return "max_lr" if name == RELATIVE_MAX_LR else name


def _of_scores(result: StudyResult) -> "Figure":
    """Draw the shares of the variance of single scores."""
    import plotly.graph_objects as go

    floor = result.noise_floor or 0.0
    shares = sorted(result.shares.items(), key=lambda item: item[1])
    above = [(name, share) for name, share in shares if share > floor]
    within = [(name, share) for name, share in shares if share <= floor]
    n = f"{result.n_trials} configurations"
    figure = go.Figure()
    for bars, name, color in (
        (above, f"above the noise (n = {n})", BLUE),
        (within, f"within the noise (n = {n})", GREY),
    ):
        # An empty bar trace would still have an entry in the legend.
        if bars:
            figure.add_bar(
                x=[100 * share for _, share in bars],
                y=[parameter for parameter, _ in bars],
                orientation="h",
                width=0.6,
                marker={"color": color},
                name=name,
                hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
            )
    _noise_mark(figure, result)
    _finish_shares(figure, [name for name, _ in shares])
    return figure


def _noise_mark(figure: "Figure", result: StudyResult) -> None:
    """Shade what a seed's noise has of the variance of single scores."""
    floor = result.noise_floor
    if floor is not None:
        name = f"a seed's noise, of single scores: {100 * floor:.0f} % at most"
        band(figure, (0.0, 100 * floor), "", color=ORANGE)
        vertical(figure, 100 * floor, name, color=ORANGE, dash="dash")


def _finish_shares(figure: "Figure", names: Sequence[str]) -> None:
    y = {"categoryorder": "array", "categoryarray": list(names), "showgrid": False}
    x = {"title": {"text": "share of the variance in %"}, "range": [0, 100]}
    finish(figure, x=x, y=y)
    figure.update_layout(height=140 + 40 * len(names), barmode="overlay")
