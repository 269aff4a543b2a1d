"""Figures of the trials of a search: score against max_lr, and against the cycle's length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from search.results.metric import Metric
from search.results.result import StudyResult
from search.stages.screening import BASELINE_SLOT
from search.views.figures.look import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    bracket,
    finish,
    log_axis,
)
from search.views.wording import SEARCHED_TOO, candidate_name
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import count

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Trial = Mapping[str, Any]
"""A row of search.starting.catalog.trials()."""

# Viridis without its darkest quarter, which is lost on a dark page.
_PCT_START_SCALE = [[0, "#3b528b"], [0.33, "#21918c"], [0.67, "#5ec962"], [1, "#fde725"]]


@dataclass(frozen=True, slots=True)
class _Heights:
    """The axis of scores: measured ones as they are shown, diverged ones at the lower edge.

    What a diverged one scored is chance by convention, not measured.
    """

    factor: float
    low: float
    high: float
    edge: float

    @classmethod
    def over(cls, trials: Sequence[Trial], metric: Metric) -> "_Heights":
        factor = metric.factor
        whole = [factor * t["score"] for t in trials if t["outcome"] != "diverged"]
        values = whole or [0.0, factor]
        room = 0.12 * (max(values) - min(values)) or 0.001 * factor
        low = min(values) - (2 * room if len(whole) < len(trials) else room)
        return cls(factor, low, max(values) + room, low + room / 2)

    def of(self, trial: Trial) -> float:
        """Return where a trial stands."""
        if trial["outcome"] == "diverged":
            return self.edge
        return self.factor * float(trial["score"])


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search is drawn with, also before it has ended.

    `proposals` by batch size, None where that is not searched; `marked`: names of trials by slot.
    """

    metric: Metric
    proposals: Mapping[int | None, Proposal]
    marked: Mapping[int, str]

    @classmethod
    def of(cls, result: StudyResult) -> "Searched":
        """Return what a finished search is drawn with: baseline and winner are marked."""
        marked = dict.fromkeys((result.baseline, result.winner))
        by_size: Mapping[int | None, Proposal] = {None: result.range_test}
        if result.range_tests:
            by_size = {size: said for size, said in result.range_tests.items()}
        return cls(result.metric, by_size, {c.slot: candidate_name(c, result) for c in marked})

    @property
    def title(self) -> str:
        """What stands on the axis of rates."""
        if None in self.proposals:
            return "max_lr"
        return "max_lr as a multiple of the proposal at its batch size"

    @property
    def bracket(self) -> tuple[float, float]:
        """The range of rates; as multiples it is the same at each batch size."""
        said = next(iter(self.proposals.values()))
        unit = 1.0 if None in self.proposals else said.max_lr
        return said.low / unit, said.high / unit

    def place(self, trial: Trial) -> float:
        """Return where a trial stands on the axis of rates."""
        if None in self.proposals:
            return float(trial["max_lr"])
        return float(trial["max_lr"] / self.proposals[trial["batch_size"]].max_lr)


def _said(trial: Trial) -> str:
    names = ("max_lr", "pct_start", "div_factor", *SEARCHED_TOO)
    return ", ".join(f"{name} {trial[name]:.3g}" for name in names if trial[name] is not None)


def search_figure(trials: Sequence[Trial], searched: Searched) -> "Figure":
    """Draw the validation score against max_lr, one mark per configuration (n = 1 seed each)."""
    import plotly.graph_objects as go

    scored = [t for t in trials if t["score"] is not None and t["max_lr"] is not None]
    whole = [t for t in scored if t["outcome"] != "diverged"]
    broken = [t for t in scored if t["outcome"] == "diverged"]
    heights = _Heights.over(scored, searched.metric)
    figure = go.Figure(
        [
            go.Scatter(
                x=[searched.place(t) for t in whole],
                y=[heights.of(t) for t in whole],
                mode="markers",
                marker=_coloured_by_pct_start(whole),
                name=f"configuration ({len(whole)}, n = 1 seed each)",
                customdata=[[t["slot"], _said(t)] for t in whole],
                hovertemplate="slot %{customdata[0]}: %{y:.4g}<br>%{customdata[1]}<extra></extra>",
            ),
            go.Scatter(
                x=[searched.place(t) for t in broken],
                y=[heights.of(t) for t in broken],
                mode="markers",
                marker={"color": VERMILION, "size": 10, "symbol": "x"},
                name=f"diverged ({len(broken)}), drawn at the lower edge",
                customdata=[[t["slot"], t["diverged_step"], _said(t)] for t in broken],
                hovertemplate="slot %{customdata[0]} diverged at step %{customdata[1]}<br>"
                "%{customdata[2]}<extra></extra>",
            ),
            *(_ring(t, searched, heights) for t in scored if t["slot"] in searched.marked),
        ]
    )
    bracket(figure, searched.bracket)
    finish(
        figure,
        x=log_axis([*map(searched.place, scored), *searched.bracket], searched.title),
        y={
            "title": {"text": f"validation {searched.metric.title}"},
            "range": [heights.low, heights.high],
        },
    )
    return figure


def _coloured_by_pct_start(trials: Sequence[Trial]) -> dict[str, Any]:
    bar = {"title": {"text": "pct_start"}, "thickness": 10, "outlinewidth": 0, "len": 0.9}
    return {
        "color": [t["pct_start"] for t in trials],
        "colorscale": _PCT_START_SCALE,
        "colorbar": bar,
        "size": 11,
        "line": {"color": GREY, "width": 1},
    }


def _ring(trial: Trial, searched: Searched, heights: _Heights) -> Any:
    """Return a ring around a trial that is marked."""
    import plotly.graph_objects as go

    is_baseline = trial["slot"] == BASELINE_SLOT
    return go.Scatter(
        x=[searched.place(trial)],
        y=[heights.of(trial)],
        mode="markers",
        marker={
            "color": ORANGE if is_baseline else PURPLE,
            "size": 19,
            "symbol": "square-open" if is_baseline else "circle-open",
            "line": {"width": 3},
        },
        name=searched.marked[trial["slot"]],
        hoverinfo="skip",
    )


def screening_figure(trials: Sequence[Trial], result: StudyResult) -> "Figure":
    """Draw the score of each configuration at each cycle length that it was trained for.

    A line joins the lengths of one that was promoted; every mark is n = 1 seed. It says
    something of studies with more than one length.
    """
    import plotly.graph_objects as go

    scored = [t for t in trials if t["score"] is not None]
    heights = _Heights.over(scored, result.metric)
    tracks: dict[int, list[Trial]] = {}
    for trial in sorted(scored, key=lambda t: t["length"]):
        tracks.setdefault(trial["slot"], []).append(trial)
    marked = {c.slot: c for c in (result.baseline, result.winner)}
    lengths = [screen.epochs for screen in result.screens]
    figure = go.Figure()
    for index, color in zip(range(len(lengths)), cycle((GREY, SKY, BLUE, GREEN)), strict=False):
        found = [
            track
            for slot, track in tracks.items()
            if slot not in marked and track[-1]["length"] == lengths[index]
        ]
        name = f"promoted to {count(lengths[index], 'epoch')}" if index else "not promoted"
        lines = _joined(found, lengths, heights)
        figure.add_scatter(**lines, name=f"{name} ({len(found)})", line={"color": color})
    for slot, candidate in marked.items():
        color = ORANGE if candidate.is_baseline else PURPLE
        lines = _joined([tracks.get(slot, [])], lengths, heights)
        name = candidate_name(candidate, result)
        figure.add_scatter(**lines, name=name, line={"color": color, "width": 3.5})
    x = {
        "title": {"text": "length of the complete cycle (n = 1 seed each)"},
        "tickvals": list(range(len(lengths))),
        "ticktext": [
            f"{count(s.epochs, 'epoch')}<br>{count(s.n_cycles, 'cycle')}" for s in result.screens
        ],
        "range": [-0.3, len(lengths) - 0.7],
        "showgrid": False,
    }
    title = f"validation {result.metric.title}"
    y = {"title": {"text": title}, "range": [heights.low, heights.high]}
    finish(figure, x=x, y=y)
    return figure


def _joined(
    tracks: Sequence[Sequence[Trial]], lengths: Sequence[int], heights: _Heights
) -> dict[str, Any]:
    """Return lines through the trials of each configuration as what plotly's scatter takes."""
    points: list[Trial | None] = []
    for track in tracks:
        points += [*track, None]  # which ends a line
    return {
        "mode": "lines+markers",
        "x": [None if t is None else lengths.index(t["length"]) for t in points],
        "y": [None if t is None else heights.of(t) for t in points],
        "marker": {
            "size": 7,
            "symbol": ["x" if t and t["outcome"] == "diverged" else "circle" for t in points],
        },
        "customdata": [None if t is None else [t["slot"], t["max_lr"]] for t in points],
        "hovertemplate": "slot %{customdata[0]}: %{y:.4g}<br>max_lr %{customdata[1]:.3g}"
        "<extra></extra>",
    }
