"""What Optuna Dashboard shows of a study of ours: plotly cards and a note, made when asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import Engine

from search.errors import NoResultError
from search.queue.rows import count_ended
from search.results.curves import RunCurve, curves_of
from search.results.landscape import Landscape, landscape_later
from search.results.metric import Metric
from search.results.result import StudyResult
from search.results.trials import Trial, trials_of
from search.stages import range_test
from search.stages.search import BASELINE_SLOT
from search.text import printable
from search.views.dashboard.note import note
from search.views.figures import (
    answer_figures,
    belief_figures,
    curve_figures,
    curve_lines,
    parallel_figure,
    rate_figures,
    tile_figure,
    trial_figures,
)
from search.views.findings import findings
from search.views.tiles import Tile, so_far, tiles
from search.views.wording import candidate_name
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
    trials: Sequence[Trial]
    curves: Sequence[RunCurve]
    landscape: Landscape | None
    tiles: Sequence[Tile]
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


Drawn: TypeAlias = 'Iterator[tuple[str, str, "Figure"]]'
"""Cards: each an id, a title and a figure."""


def _answer_card(seen: Seen) -> Drawn:
    title = "The answer" if seen.result is not None else "No answer yet"
    yield "answer", title, tile_figure.tile_figure(seen.tiles, seen.result)


def _range_test(seen: Seen) -> Drawn:
    if seen.measured.points:
        yield "range-test", "Range test", rate_figures.range_test_figure(seen.measured)


def _search(seen: Seen) -> Drawn:
    scored = [t for t in seen.trials if t.score is not None]
    if seen.searched is None or not scored:
        return
    title = f"Search: cycles of {seen.row.epochs} epochs{_so_far(seen)}"
    yield "search", title, trial_figures.search_figure(scored, seen.searched)


def _so_far(seen: Seen) -> str:
    return " so far" if seen.row.stage == Stage.SEARCH else ""


def _expected(seen: Seen) -> Drawn:
    land, searched = seen.landscape, seen.searched
    if land is None or searched is None:
        return
    held = _through(seen, land)
    for name in land.domains:
        title = f"{name}, all else as in {held}"
        figure = belief_figures.slice_figure(land, name, seen.trials, searched)
        yield f"slice-{name}", title, figure
    if land.has_map:
        title = f"max_lr and pct_start, all else as in {held}"
        yield "map", title, belief_figures.map_figure(land, seen.trials, searched)
    title = f"All parameters side by side{_so_far(seen)}"
    yield "parallel", title, parallel_figure.parallel_figure(land, seen.trials, searched)


MOST_PICKED = 30
"""Of the trials whose curves can be looked at: the page asks for all cards every few seconds."""


def _curves(seen: Seen) -> Drawn:
    """Give rate, losses and score; the title says what the loop does not report."""
    metric = Metric.of_study(seen.row, [trial.score for trial in seen.trials])
    maximize = seen.row.direction == "maximize"
    learned = (
        curve_lines.Learned.so_far(seen.curves, metric, maximize=maximize)
        if seen.result is None
        else curve_lines.Learned.of(seen.result)
    )
    if not learned.runs:
        return
    missing = "; ".join(curve_lines.missing_lines(learned))
    title = "Learning curves" + (missing and f'<br><span style="font-size:11px">{missing}</span>')
    yield "curves", title, curve_figures.curves_figure(learned, choose=MOST_PICKED)


def _through(seen: Seen, landscape: Landscape) -> str:
    """Return what the configuration is called that the landscape is cut through."""
    if seen.result is not None:
        return candidate_name(seen.result.recommended, seen.result)
    slots = (t.slot for t in seen.trials if t.params == landscape.through)
    return f"slot {next(slots)} (expected best{_so_far(seen)})"


def _importance(seen: Seen) -> Drawn:
    if seen.result is not None and seen.result.shares:
        ends = None if seen.landscape is None else seen.landscape.importance_ends()
        yield "importance", "Importance", answer_figures.importance_figure(seen.result, ends)


def _confirmation(seen: Seen) -> Drawn:
    if seen.result is not None:
        figure = answer_figures.confirmation_figure(seen.result)
        yield "confirmation", "Confirmation with fresh seeds", figure


def _schedules(seen: Seen) -> Drawn:
    if seen.result is not None:
        yield "schedules", "Schedules", answer_figures.schedule_figure(seen.result)


CARDS: Sequence[Callable[[Seen], Drawn]] = (
    _answer_card,
    _confirmation,
    _search,
    _curves,
    _expected,
    _importance,
    _range_test,
    _schedules,
)
"""What draws the cards, in the order of the page; none where the study has not come so far."""


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
        drawn = [card for draw in CARDS for card in draw(seen)]
        return Shown(
            {f"onecycle-{name}": _fitted(title, figure) for name, title, figure in drawn},
            note(self.engine, row, seen.measured, seen.result),
            printable(row.metric),
            _answer(seen),
        )

    def _seen(self, row: StudyRow) -> Seen:
        try:
            found = findings(self.engine, row)
        except NoResultError:
            return self._unfinished(row)
        result = found.result
        return Seen(
            row=row,
            measured=found.range_test,
            searched=trial_figures.Searched.of(result),
            trials=found.trials,
            curves=result.learned,
            landscape=found.landscape,
            tiles=tiles(result, list(found.provenance.devices)),
            result=result,
        )

    def _unfinished(self, row: StudyRow) -> Seen:
        with reading(self.engine) as session:
            measured = range_test.measured_at_all(session, row)
            landscape = landscape_later(session, row)()
            rows = trials_of(session, row)
            curves = curves_of(session, row, n_best=MOST_PICKED)
        if row.proposed_max_lr is None:  # what it will be depends on more than the sweeps
            measured = replace(measured, proposal=None)
        return Seen(
            row=row,
            measured=measured,
            searched=_searched(row, measured, rows),
            trials=rows,
            curves=curves,
            landscape=landscape,
            tiles=so_far(row, rows),
            result=None,
        )


def _answer(seen: Seen) -> Answer | None:
    """Return the answer; None before there is one, and where the page's cycles have none of it."""
    if seen.result is None:
        return None
    candidate = seen.result.recommended
    for trial in seen.trials:
        if trial.slot == candidate.slot and trial.trial_number is not None:
            importances = seen.result.shares
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


def _searched(
    row: StudyRow, measured: RangeTestResult, trials: Sequence[Trial]
) -> "Searched | None":
    """Return what a search without a result is drawn with; None before there is a bracket."""
    if row.proposed_max_lr is None:
        return None
    every: dict[str | None, RangeTestResult] = {next(iter(row.settings), None): measured}
    every.update(measured.others.items())
    proposals = {n: each.proposal for n, each in every.items() if each.proposal is not None}
    if len({proposal.max_lr for proposal in proposals.values()}) == 1:
        proposals = {None: next(iter(proposals.values()))}
    marked = {BASELINE_SLOT: "baseline"}
    metric = Metric.of_study(row, [trial.score for trial in trials])
    return trial_figures.Searched(metric, proposals, marked, row.moving)


def _fitted(title: str, figure: "Figure") -> str:
    """Return a figure as JSON that fills its card, which has no heading of its own."""
    # What comes after a comma stands in a line of its own: at 400 pixels one line is too long.
    head, _, rest = title.partition(", ")
    text = f'{head}<br><span style="font-size:12px">{rest}</span>' if rest else title
    figure.update_layout(
        title={"text": text, "font": {"size": 15, "weight": 700}, "x": 0, "pad": {"l": 8}},
        legend={"yref": "container", "y": 0, "yanchor": "bottom", "font": {"size": 12}},
        margin={"t": 56},
        height=None,
        uirevision=title,  # the page redraws every few seconds: zoom and legend stay
    )
    return str(figure.to_json())
