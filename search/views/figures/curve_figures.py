"""The figure of learning curves: losses and score under the rate, over the same epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from search.results.curves import RunCurve
from search.results.metric import Metric
from search.results.result import StudyResult
from search.stages.search import BASELINE_SLOT
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
from search.views.wording import candidate_name
from studies.states import ENDED_RUNS, RunState, Stage
from trainers.sweeps.result import count

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Unit = Literal["epoch", "step"]
Line = Sequence[tuple[int, float]]
"""Steps done, and a value there."""

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
TRIAL_POINTS = 50
"""Of each line of a trial that may be chosen: every k-th point, and the last."""


@dataclass(frozen=True, slots=True)
class Group:
    """A configuration and its runs, which differ in their seed alone."""

    name: str
    runs: tuple[RunCurve, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What the figure is drawn of: configurations with several seeds, and single trials.

    `trials` are the ended cycles of the search, best score first.
    """

    metric: Metric
    epochs: int
    groups: tuple[Group, ...]
    trials: tuple[RunCurve, ...]

    @classmethod
    def of(cls, result: StudyResult) -> "Learned":
        """Return what a finished study is drawn with: answer and alternative, then the others."""
        first = [result.recommended, result.alternative]
        ranked = [*(c for c in first if c is not None), *result.ranked()]
        names = {c.slot: candidate_name(c, result) for c in ranked}
        confirmed = [
            run
            for run in result.learned
            if run.stage == Stage.CONFIRMATION and run.state == RunState.DONE
        ]
        last = max((run.round for run in confirmed), default=0)
        groups = [
            Group(name, tuple(r for r in confirmed if (r.slot, r.round) == (slot, last)))
            for slot, name in names.items()
        ]
        trials = trials_of(result.learned, result.direction == "maximize")
        return cls(result.metric, result.epochs, _drawable(groups), trials)

    @classmethod
    def so_far(cls, curves: Sequence[RunCurve], metric: Metric, *, maximize: bool) -> "Learned":
        """Return what a search is drawn with before its end: the baseline, and the best trial."""
        trials = trials_of(curves, maximize)
        baseline = [t for t in trials if t.slot == BASELINE_SLOT]
        best = [t for t in trials[:1] if t.slot != BASELINE_SLOT]
        groups = [Group(f"best so far, slot {t.slot}", (t,)) for t in best]
        groups += [Group("baseline", (t,)) for t in baseline]
        epochs = max((t.total_steps // t.steps_per_epoch for t in trials), default=1)
        return cls(metric, epochs, _drawable(groups), trials)

    @property
    def runs(self) -> list[RunCurve]:
        """Every run that may be drawn."""
        return [*(run for group in self.groups for run in group.runs), *self.trials]

    @property
    def unit(self) -> Unit:
        """What the axis counts where nobody asks: steps, where no loop reports an epoch."""
        return "epoch" if any(run.epochs for run in self.runs) else "step"


def trials_of(curves: Sequence[RunCurve], maximize: bool) -> tuple[RunCurve, ...]:
    """Return the ended cycles of a search that have a curve, best score first."""
    sign = -1.0 if maximize else 1.0
    ended = [
        run
        for run in curves
        if run.stage == Stage.SEARCH and run.state in ENDED_RUNS and not run.is_empty
    ]

    def place(run: RunCurve) -> tuple[bool, float, int]:
        return run.score is None, sign * (run.score or 0.0), run.slot

    return tuple(sorted(ended, key=place))


def _drawable(groups: Sequence[Group]) -> tuple[Group, ...]:
    kept = [Group(g.name, tuple(r for r in g.runs if not r.is_empty)) for g in groups]
    return tuple(group for group in kept if group.runs)[: len(_COLOURS)]


def missing_lines(learned: Learned) -> list[str]:
    """Return in sentences what the loops of a study do not report, so that nothing is drawn."""
    runs = learned.runs
    if not runs:
        return ["no learning curves are stored: an earlier version trained this study"]
    points = [point for run in runs for point in run.epochs]
    if not points:
        return [
            "this loop reports no epochs and no validation loss: the training loss is by step, "
            "the score that of the end"
        ]
    lines = []
    if all(point.validation_loss is None for point in points):
        lines.append("this loop reports no validation loss")
    if all(point.score is None for point in points):
        lines.append("this loop reports no score by epoch: the mark is the score of the end")
    return lines


def rate_line(run: RunCurve) -> Line:
    """Return the rate over the steps of a run: by window, else as it was at the ends of epochs."""
    if run.steps:
        return [(window.step, window.lr) for window in run.steps]
    return [(epoch.step, epoch.lr) for epoch in run.epochs if epoch.lr is not None]


def train_line(run: RunCurve) -> Line:
    """Return the training loss over the steps of a run, in the same way."""
    points = run.steps or run.epochs
    return [(each.step, each.train_loss) for each in points if each.train_loss is not None]


def validation_line(run: RunCurve) -> Line:
    """Return the validation loss at the ends of epochs; nothing where there is none."""
    return [(e.step, e.validation_loss) for e in run.epochs if e.validation_loss is not None]


def score_line(run: RunCurve, metric: Metric) -> Line:
    """Return the score as it is shown at the ends of epochs, or of the run alone."""
    line = [(e.step, metric.factor * e.score) for e in run.epochs if e.score is not None]
    if not line and run.outcome == "completed" and run.score is not None:
        return [(run.total_steps, metric.factor * run.score)]
    return line


def broken_line(run: RunCurve) -> Line:
    """Return where a run broke, at the last loss before; nothing where it did not."""
    if run.diverged_step is None:
        return []
    before = [loss for step, loss in train_line(run) if step <= run.diverged_step + 1]
    return [(run.diverged_step + 1, before[-1])] if before else []


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


def trial_lines(run: RunCurve, metric: Metric) -> dict[str, Line]:
    """Return what is drawn of a picked trial, thinned: rate, losses, score, where it broke."""
    lines = {
        "rate": rate_line(run),
        "train": train_line(run),
        "validation": validation_line(run),
        "score": score_line(run, metric),
        "broke": broken_line(run),
    }
    # Scores lie close to each other; of the others four digits are finer than the figure.
    digits = {name: 6 if name == "score" else 4 for name in lines}
    return {
        name: [(step, float(f"{value:.{digits[name]}g}")) for step, value in _thin(line)]
        for name, line in lines.items()
    }


def _thin(line: Line) -> Line:
    """Return every k-th point and the last, TRIAL_POINTS at most."""
    every = -(-len(line) // TRIAL_POINTS)
    return line[::-1][:: max(1, every)][::-1]


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


def trial_name(run: RunCurve, metric: Metric) -> str:
    """Return how a trial is called in a list to pick from."""
    mark = " baseline" if run.slot == BASELINE_SLOT else ""
    said = run.outcome if run.score is None or run.diverged_step is not None else None
    score = said or f"{metric.value(run.score or 0.0)}{metric.unit}"
    return f"slot {run.slot}{mark}: {score}"


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


def picked(learned: Learned, n_best: int) -> dict[str, Any]:
    """Return the trials that a page lets pick, as plain values.

    A line is the place of its steps in `steps`, which most trials share, and its values.
    """
    places: dict[tuple[int, ...], int] = {}
    trials = []
    for run in learned.trials[:n_best]:
        lines = {
            name: [
                places.setdefault(tuple(step for step, _ in line), len(places)),
                [value for _, value in line],
            ]
            for name, line in trial_lines(run, learned.metric).items()
        }
        name = trial_name(run, learned.metric)
        trials.append(
            {"slot": run.slot, "name": name, "per_epoch": run.steps_per_epoch, "lines": lines}
        )
    return {"steps": list(places), "trials": trials}
