"""What figures of learning curves are drawn of: lines over steps, of configurations and trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from search.results.curves import RunCurve
from search.results.metric import Metric
from search.results.result import StudyResult
from search.stages.search import BASELINE_SLOT
from search.views.wording import candidate_name
from studies.states import ENDED_RUNS, RunState, Stage

Unit = Literal["epoch", "step"]
Line = Sequence[tuple[int, float]]
"""Steps done, and a value there."""
TRIAL_POINTS = 50
"""Of each line of a trial that may be chosen: every k-th point, and the last."""
MOST_GROUPS = 5
"""As many as there are colours for."""


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
    return tuple(group for group in kept if group.runs)[:MOST_GROUPS]


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


def trial_name(run: RunCurve, metric: Metric) -> str:
    """Return how a trial is called in a list to pick from."""
    mark = " baseline" if run.slot == BASELINE_SLOT else ""
    said = run.outcome if run.score is None or run.diverged_step is not None else None
    score = said or f"{metric.value(run.score or 0.0)}{metric.unit}"
    return f"slot {run.slot}{mark}: {score}"


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
