"""The figure of a search: the score of each trial against its max_lr."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        whole = [factor * t.score for t in trials if not t.broken and t.score is not None]
        values = whole or [0.0, factor]
        # All scores may be equal: an axis needs some height.
        room = 0.12 * (max(values) - min(values)) or 0.001 * factor
        # Below the scores there is a lane for what diverged.
        low = min(values) - (2 * room if len(whole) < len(trials) else room)
        return cls(factor, low, max(values) + room, low + room / 2)

    def of(self, trial: Trial) -> float:
        """Return where a trial stands."""
        if trial.broken or trial.score is None:
            return self.edge
        return self.factor * trial.score


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search is drawn with, also before it has ended.

    `proposals` by setting, None where there is but one; `marked`: names of trials by slot;
    `moving`: the parameters that settings differ in.
    """

    metric: Metric
    proposals: Mapping[str | None, Proposal]
    marked: Mapping[int, str]
    moving: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: StudyResult) -> "Searched":
        """Return what a finished search is drawn with: baseline and pick are marked."""
        marked = [c for c in (result.baseline, result.challenger) if c is not None]
        every: Mapping[str | None, Proposal] = {None: result.proposal}
        if len({proposal.max_lr for proposal in result.proposals.values()}) > 1:
            every = {key: proposal for key, proposal in result.proposals.items()}
        names = {c.slot: candidate_name(c, result) for c in marked}
        return cls(result.metric, every, names, result.moving)

    @property
    def title(self) -> str:
        """What stands on the axis of rates."""
        if None in self.proposals:
            return "max_lr"
        names = " and ".join(name.replace("_", " ") for name in self.moving)
        return f"max_lr as a multiple of the proposal at its {names}"

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
        if None in self.proposals:
            return trial.params.max_lr
        key = setting_key({name: trial.params[name] for name in self.moving})
        return trial.params.max_lr / self.proposals[key].max_lr


def _how(trial: Trial) -> str:
    at = "" if trial.diverged_step is None else f" at step {trial.diverged_step}"
    return f"{trial.outcome}{at}"


def _broken_text(broken: Sequence[Trial]) -> str:
    """Return what went wrong in how many: 'diverged (2), did not learn (1)'."""
    counts = Counter(t.outcome for t in broken)
    return ", ".join(f"{outcome} ({n})" for outcome, n in counts.items()) or "diverged (0)"


def search_figure(trials: Sequence[Trial], searched: Searched) -> "Figure":
    """Draw the validation score against max_lr, one mark per configuration (n = 1 seed each)."""
    import plotly.graph_objects as go

    scored = [t for t in trials if t.score is not None and t.params is not None]
    whole = [t for t in scored if not t.broken]
    broken = [t for t in scored if t.broken]
    heights = _Heights.over(scored, searched.metric)
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
                name=f"{_broken_text(broken)}, drawn at the lower edge",
                customdata=[[t.slot, _how(t), str(t.params)] for t in broken],
                hovertemplate="slot %{customdata[0]} %{customdata[1]}<br>"
                "%{customdata[2]}<extra></extra>",
            ),
            *(_ring(t, searched, heights) for t in scored if t.slot in searched.marked),
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
        "colorscale": _PCT_START_SCALE,
        "colorbar": bar,
        "size": 11,
        "line": {"color": GREY, "width": 1},
    }


def _ring(trial: Trial, searched: Searched, heights: _Heights) -> Any:
    """Return a ring around a trial that is marked."""
    import plotly.graph_objects as go

    is_baseline = trial.slot == BASELINE_SLOT
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
        name=searched.marked[trial.slot],
        hoverinfo="skip",
    )
