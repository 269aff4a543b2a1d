"""What Optuna Dashboard shows of a study of ours: plotly cards and a note, made when asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from search.errors import NoResultError
from search.queue.rows import count_ended
from search.results.metric import Metric
from search.results.result import StudyResult, load_result
from search.results.trials import Trial, trials
from search.stages import range_test
from search.stages.search import BASELINE_SLOT
from search.text import printable
from search.views.dashboard.note import note
from search.views.figures import answer_figures, rate_figures, trial_figures
from studies.database import reading
from studies.states import Stage
from studies.tables import StudyRow
from trainers.sweeps.result import RangeTestResult

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from search.views.figures.trial_figures import Searched


@dataclass(frozen=True, slots=True)
class Seen:
    """A study as it is stored."""

    row: StudyRow
    measured: RangeTestResult
    searched: "Searched | None"
    trials: list[Trial]
    result: StudyResult | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a finished study answers with: the trial of that configuration in the page's search,
    its mean score over fresh seeds, and each parameter's share of the variance."""

    trial_number: int
    score: float
    importances: Mapping[str, float]
    choices: frozenset[str]


@dataclass(frozen=True, slots=True)
class Shown:
    """Figures as plotly's JSON by the id of their card, in the order of the page; a note; what
    the values of the trials are; the answer once there is one."""

    figures: Mapping[str, str]
    note: str
    metric: str
    answer: Answer | None


def _range_test(seen: Seen) -> "tuple[str, Figure] | None":
    if not seen.measured.points:
        return None
    return "Range test", rate_figures.range_test_figure(seen.measured)


def _search(seen: Seen) -> "tuple[str, Figure] | None":
    scored = [t for t in seen.trials if t.score is not None]
    if seen.searched is None or not scored:
        return None
    so_far = " so far" if seen.row.stage == Stage.SEARCH else ""
    title = f"Search: cycles of {seen.row.epochs} epochs{so_far}"
    return title, trial_figures.search_figure(scored, seen.searched)


def _confirmation(seen: Seen) -> "tuple[str, Figure] | None":
    if seen.result is None:
        return None
    return "Confirmation with fresh seeds", answer_figures.confirmation_figure(seen.result)


def _schedules(seen: Seen) -> "tuple[str, Figure] | None":
    if seen.result is None:
        return None
    return "Schedules", answer_figures.schedule_figure(seen.result)


CARDS: Mapping[str, Callable[[Seen], "tuple[str, Figure] | None"]] = {
    "range-test": _range_test,
    "search": _search,
    "confirmation": _confirmation,
    "schedules": _schedules,
}
"""Cards by their id, in the order of the page; each gives a title and a figure, or None where the
study has not come so far."""


class Cards:
    """The cards of the studies of a database, drawn again only where a study has moved on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._shown: dict[str, tuple[object, Shown]] = {}

    def of(self, study_id: str) -> Shown | None:
        """Return what belongs to the Optuna study of ours; None where ours is not stored."""
        with reading(self.engine) as session:
            row = session.get(StudyRow, study_id)
        if row is None:
            return None
        explained = row.answer is not None and row.answer.importances is not None
        stamp = row.stage, row.n_trials, explained, count_ended(self.engine, row.id)
        kept = self._shown.get(row.id)
        if kept is None or kept[0] != stamp:
            kept = stamp, self._drawn(row)
            self._shown[row.id] = kept
        return kept[1]

    def _drawn(self, row: StudyRow) -> Shown:
        seen = self._seen(row)
        drawn = {name: card for name, draw in CARDS.items() if (card := draw(seen)) is not None}
        return Shown(
            {f"onecycle-{name}": _fitted(*card) for name, card in drawn.items()},
            note(self.engine, row, seen.measured, seen.result),
            printable(row.metric),
            _answer(seen),
        )

    def _seen(self, row: StudyRow) -> Seen:
        with reading(self.engine) as session:
            measured = range_test.measured_at_all(session, row)
        if row.proposed_max_lr is None:  # what it will be depends on more than the sweeps
            measured = replace(measured, proposal=None)
        try:
            result = load_result(self.engine, row.name)
        except NoResultError:
            result = None
        searched = (
            _searched(row, measured) if result is None else trial_figures.Searched.of(result)
        )
        return Seen(row, measured, searched, trials(self.engine, row.name), result)


def _answer(seen: Seen) -> Answer | None:
    """Return the answer; None before there is one, and where the page's cycles have none of it."""
    if seen.result is None:
        return None
    candidate = seen.result.recommended
    for trial in seen.trials:
        if trial.slot == candidate.slot and trial.trial_number is not None:
            importances = seen.result.importances
            score, result = candidate.validation.mean, seen.result
            return Answer(trial.trial_number, score, importances, _choices_of(result))
    return None


def _choices_of(result: StudyResult) -> frozenset[str]:
    """Return the parameters that are no range; as far as values show it, of an old study."""
    if result.choices is not None:
        return frozenset(result.choices)
    values = result.recommended.params.items()
    texts = (name for name, value in values if isinstance(value, (str, bool)))
    return frozenset((*texts, "batch_size"))


def _searched(row: StudyRow, measured: RangeTestResult) -> "Searched | None":
    """Return what a search without a result is drawn with; None before there is a bracket."""
    if row.proposed_max_lr is None:
        return None
    every: dict[str | None, RangeTestResult] = {next(iter(row.settings), None): measured}
    every.update(measured.others.items())
    proposals = {n: each.proposal for n, each in every.items() if each.proposal is not None}
    if len({proposal.max_lr for proposal in proposals.values()}) == 1:
        proposals = {None: next(iter(proposals.values()))}
    marked = {BASELINE_SLOT: "baseline"}
    return trial_figures.Searched(
        Metric.of(row.metric, [row.diverged_value]), proposals, marked, row.moving
    )


def _fitted(title: str, figure: "Figure") -> str:
    """Return a figure as JSON that fills its card, which has no heading of its own."""
    figure.update_layout(
        title={"text": title, "font": {"size": 18, "weight": 700}, "x": 0, "pad": {"l": 8}},
        legend={"yref": "container", "y": 0, "yanchor": "bottom", "font": {"size": 12}},
        margin={"t": 56},
        height=None,
        uirevision=title,  # the page redraws every few seconds: zoom and legend stay
    )
    return str(figure.to_json())
