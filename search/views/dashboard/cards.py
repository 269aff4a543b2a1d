"""What Optuna Dashboard shows of a study of ours: plotly cards and a note, made when asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from search.errors import NoResultError
from search.history.optuna_study import names
from search.queue.rows import count_ended
from search.results.metric import Metric
from search.results.result import StudyResult, load_result
from search.stages import range_test
from search.stages.screening import BASELINE_SLOT
from search.starting import catalog
from search.views.dashboard.note import note
from search.views.figures import answer_figures, rate_figures, trial_figures
from studies.database import reading
from studies.tables import StudyRow
from trainers.sweeps.result import RangeTestResult

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from search.views.figures.trial_figures import Searched


@dataclass(frozen=True, slots=True)
class Seen:
    """A study as it is stored; `length`: epochs of the cycles that the page is of."""

    row: StudyRow
    length: int
    measured: RangeTestResult
    searched: "Searched | None"
    trials: list[dict[str, Any]]
    result: StudyResult | None


@dataclass(frozen=True, slots=True)
class Shown:
    """Figures as plotly's JSON by the id of their card, in the order of the page; a note; what
    the values of the trials are."""

    figures: Mapping[str, str]
    note: str
    metric: str


def _range_test(seen: Seen) -> "tuple[str, Figure] | None":
    if not seen.measured.points:
        return None
    return "Range test", rate_figures.range_test_figure(seen.measured)


def _search(seen: Seen) -> "tuple[str, Figure] | None":
    trials = [t for t in seen.trials if t["length"] == seen.length and t["score"] is not None]
    if seen.searched is None or not trials:
        return None
    so_far = " so far" if seen.row.stage == "search" else ""
    title = f"Search: cycles of {seen.length} epochs{so_far}"
    return title, trial_figures.search_figure(trials, seen.searched)


def _screening(seen: Seen) -> "tuple[str, Figure] | None":
    if seen.result is None or len(seen.result.screens) == 1:
        return None
    return "Promotions", trial_figures.screening_figure(seen.trials, seen.result)


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
    "screening": _screening,
    "confirmation": _confirmation,
    "schedules": _schedules,
}
"""Cards by their id, in the order of the page; each gives a title and a figure, or None where the
study has not come so far."""


class Cards:
    """The cards of the studies of a database, drawn again only where a study has moved on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._shown: dict[tuple[str, int], tuple[object, Shown]] = {}

    def of(self, study_id: str, name: str) -> Shown | None:
        """Return what belongs to an Optuna study of that name; None where ours is not stored."""
        with reading(self.engine) as session:
            row = session.get(StudyRow, study_id)
        if row is None:
            return None
        length = names(row.name, row.lengths).get(name, row.lengths[-1])
        stamp = row.stage, row.n_trials, list(row.result or {}), count_ended(self.engine, row.id)
        kept = self._shown.get((row.id, length))
        if kept is None or kept[0] != stamp:
            kept = stamp, self._drawn(row, length)
            self._shown[row.id, length] = kept
        return kept[1]

    def _drawn(self, row: StudyRow, length: int) -> Shown:
        seen = self._seen(row, length)
        drawn = {name: card for name, draw in CARDS.items() if (card := draw(seen)) is not None}
        return Shown(
            {f"onecycle-{name}": _fitted(*card) for name, card in drawn.items()},
            note(self.engine, row, seen.measured, seen.result),
            row.metric,
        )

    def _seen(self, row: StudyRow, length: int) -> Seen:
        with reading(self.engine) as session:
            measured = range_test.measured_at_all(session, row)
        if row.proposal is None:  # what it will be depends on more than the sweeps
            measured = replace(measured, proposal=None)
        try:
            result = load_result(self.engine, row.name)
        except NoResultError:
            result = None
        searched = (
            _searched(row, measured) if result is None else trial_figures.Searched.of(result)
        )
        trials = catalog.trials(self.engine, row.name)
        return Seen(row, length, measured, searched, trials, result)


def _searched(row: StudyRow, measured: RangeTestResult) -> "Searched | None":
    """Return what a search without a result is drawn with; None before there is a bracket."""
    if row.proposal is None:
        return None
    found: dict[int | None, RangeTestResult] = {
        row.batch_size if row.batch_sizes else None: measured
    }
    found.update(measured.others.items())
    proposals = {n: each.proposal for n, each in found.items() if each.proposal is not None}
    return trial_figures.Searched(Metric(row.metric), proposals, {BASELINE_SLOT: "baseline"})


def _fitted(title: str, figure: "Figure") -> str:
    """Return a figure as JSON that fills its card, which has no heading of its own."""
    figure.update_layout(
        title={"text": title, "font": {"size": 18, "weight": 700}, "x": 0, "pad": {"l": 8}},
        legend={"yref": "container", "y": 0, "yanchor": "bottom", "font": {"size": 12}},
        margin={"t": 56},
        height=None,
        uirevision=title,  # the page draws anew every few seconds: zoom and legend stay
    )
    return str(figure.to_json())
