"""The figure of a search: the score of each trial against its max_lr."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from search.params import Params
from search.results.metric import Metric
from search.results.result import StudyResult
from search.results.trials import Trial
from search.stages.search import BASELINE_SLOT
from search.views.figures.look import (
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    bracket,
    finish,
    log_axis,
    plain,
)
from search.views.wording import candidate_name
from studies.params import setting_key
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import range_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_SHOWN = 300
"""Trials in each of the figures beside the first: a browser draws every mark on its own."""
# Viridis without its darkest quarter, which is lost on a dark page.
SCALE = [[0, "#3b528b"], [0.33, "#21918c"], [0.67, "#5ec962"], [1, "#fde725"]]


@dataclass(frozen=True, slots=True)
class Heights:
    """The axis of scores: measured ones as they are shown, diverged ones at the lower edge.

    What a diverged one scored is chance by convention, not measured.
    """

    factor: float
    low: float
    high: float
    edge: float
    highest: float

    @classmethod
    def over(cls, trials: Sequence[Trial], metric: Metric) -> "Heights":
        factor = metric.factor
        whole = [factor * t.score for t in trials if not t.broken and t.score is not None]
        values = whole or [0.0, factor]
        # All scores may be equal: an axis needs some height.
        room = 0.12 * (max(values) - min(values)) or 0.001 * factor
        # Below the scores there is a lane for what diverged.
        low = min(values) - (2 * room if len(whole) < len(trials) else room)
        high = max(values) + room
        return cls(factor, low, high, low + room / 2, max(metric.highest, max(values)))

    def reaching(self, values: Sequence[float]) -> "Heights":
        """Return the same axis, longer where shown `values` need it: by its own length at most."""
        length = self.high - self.low
        low = min(self.low, max(min(values), self.low - length))
        high = max(self.high, min(max(values), self.high + length, self.highest))
        return replace(self, low=low, high=high, edge=low + self.edge - self.low)

    def near(self, score: float) -> float:
        """Return an expected score as it is drawn: what lies far outside the axis, a little
        outside it; nothing is above the highest score that there can be."""
        length = self.high - self.low
        most = min(self.high + length, self.highest)
        return min(most, max(self.low - length, self.factor * score))

    def of(self, trial: Trial) -> float:
        """Return where a trial stands."""
        if trial.broken or trial.score is None:
            return self.edge
        return self.factor * trial.score


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search is drawn with, also before it has ended.

    `proposals` by setting, None where there is but one; `marked`: names of trials by slot;
    `moving`: the parameters that settings differ in; `tied`: the slots within noise of the best,
    known at the end.
    """

    metric: Metric
    proposals: Mapping[str | None, Proposal]
    marked: Mapping[int, str]
    moving: tuple[str, ...] = ()
    tied: tuple[int, ...] = ()

    @classmethod
    def of(cls, result: StudyResult) -> "Searched":
        """Return what a finished search is drawn with: baseline and pick are marked."""
        marked = [c for c in (result.baseline, result.challenger) if c is not None]
        every: Mapping[str | None, Proposal] = {None: result.proposal}
        if len({proposal.max_lr for proposal in result.proposals.values()}) > 1:
            every = {key: proposal for key, proposal in result.proposals.items()}
        names = {c.slot: candidate_name(c, result) for c in marked}
        return cls(result.metric, every, names, result.moving, result.region.slots)

    @property
    def title(self) -> str:
        """What stands on the axis of rates."""
        if None in self.proposals:
            return "max_lr"
        names = " and ".join(name.replace("_", " ") for name in self.moving)
        return f"max_lr / proposal at its {names}"

    @property
    def range_name(self) -> str:
        """What the range of rates is called."""
        return range_name(next(iter(self.proposals.values())))

    @property
    def bracket(self) -> tuple[float, float]:
        """The range of rates; as multiples it is the same at each setting."""
        proposal = next(iter(self.proposals.values()))
        unit = 1.0 if None in self.proposals else proposal.max_lr
        return proposal.low / unit, proposal.high / unit

    def place(self, trial: Trial) -> float:
        """Return where a trial stands on the axis of rates."""
        assert trial.params is not None
        return self.rate(trial.params)

    def rate(self, params: Params) -> float:
        """Return the max_lr of a configuration as it is drawn."""
        if None in self.proposals:
            return params.max_lr
        key = setting_key({name: params[name] for name in self.moving})
        return params.max_lr / self.proposals[key].max_lr


def best_of(trials: Sequence[Trial], searched: Searched, *, sign: float) -> list[Trial]:
    """Return the trials that a figure of many curves shows: all, or what is marked and the best.

    `sign`: -1 where a low score is good.
    """
    if len(trials) <= MOST_SHOWN:
        return list(trials)
    kept = {*searched.marked, *searched.tied[:MOST_SHOWN]}

    def place(trial: Trial) -> tuple[bool, float]:
        return trial.slot not in kept, math.inf if trial.score is None else -sign * trial.score

    return sorted(trials, key=place)[:MOST_SHOWN]


def how(trial: Trial) -> str:
    at = "" if trial.diverged_step is None else f" at step {trial.diverged_step}"
    return f"{trial.outcome}{at}"


def broken_text(broken: Sequence[Trial]) -> str:
    """Return what went wrong in how many: 'diverged (2), did not learn (1)'."""
    counts = Counter(t.outcome for t in broken)
    return ", ".join(f"{outcome} ({n})" for outcome, n in counts.items()) or "diverged (0)"


def search_figure(trials: Sequence[Trial], searched: Searched) -> "Figure":
    """Draw the validation score against max_lr, one mark per configuration (n = 1 seed each)."""
    import plotly.graph_objects as go

    scored = [t for t in trials if t.score is not None and t.params is not None]
    whole = [t for t in scored if not t.broken]
    broken = [t for t in scored if t.broken]
    heights = Heights.over(scored, searched.metric)
    figure = go.Figure(
        [
            go.Scatter(
                x=[searched.place(t) for t in whole],
                y=[heights.of(t) for t in whole],
                mode="markers",
                marker=_coloured_by_pct_start(whole),
                name=f"configuration ({len(whole)}, n = 1 seed each)",
                customdata=[[t.slot, str(t.params)] for t in whole],
                hovertemplate="slot %{customdata[0]}: %{y:.4g}<br>%{customdata[1]}<extra></extra>",
            ),
            go.Scatter(
                x=[searched.place(t) for t in broken],
                y=[heights.of(t) for t in broken],
                mode="markers",
                marker={"color": VERMILION, "size": 10, "symbol": "x"},
                name=f"{broken_text(broken)}, drawn at the lower edge",
                customdata=[[t.slot, how(t), str(t.params)] for t in broken],
                hovertemplate="slot %{customdata[0]} %{customdata[1]}<br>"
                "%{customdata[2]}<extra></extra>",
            ),
            *(
                ring(t, searched, x=searched.place(t), y=heights.of(t))
                for t in scored
                if t.slot in searched.marked
            ),
        ]
    )
    bracket(figure, searched.bracket, name=searched.range_name)
    finish(
        figure,
        x=log_axis([*map(searched.place, scored), *searched.bracket], searched.title),
        y={
            "title": {"text": f"validation {plain(searched.metric.title)}"},
            "range": [heights.low, heights.high],
        },
    )
    return figure


def _coloured_by_pct_start(trials: Sequence[Trial]) -> dict[str, Any]:
    bar = {"title": {"text": "pct_start"}, "thickness": 10, "outlinewidth": 0, "len": 0.9}
    return {
        "color": [None if t.params is None else t.params["pct_start"] for t in trials],
        "colorscale": SCALE,
        "colorbar": bar,
        "size": 11,
        "line": {"color": GREY, "width": 1},
    }


def ring(trial: Trial, searched: Searched, *, x: Any, y: Any) -> Any:
    """Return a ring around a trial that is marked."""
    import plotly.graph_objects as go

    is_baseline = trial.slot == BASELINE_SLOT
    return go.Scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker={
            "color": ORANGE if is_baseline else PURPLE,
            "size": 19,
            "symbol": "square-open" if is_baseline else "circle-open",
            "line": {"width": 3},
        },
        name=searched.marked[trial.slot],
        hoverinfo="skip",
    )
