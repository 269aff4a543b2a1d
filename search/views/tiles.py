"""The answer as tiles: what a reader sees first, on the page and on the dashboard's first card."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from search.results.metric import Metric
from search.results.result import StudyResult
from search.results.trials import Trial
from search.stages.verdict import Verdict
from search.starting.cost import duration_text
from search.views.wording import params_cells
from studies.states import sign_of
from studies.tables import StudyRow


@dataclass(frozen=True, slots=True)
class Tile:
    """A label, a value in large letters and a note below; `look`: a class of the style sheet."""

    label: str
    value: str
    note: str
    look: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """How a verdict looks: a class of the style sheet, an icon, and a word that says the same."""

    name: str
    icon: str
    word: str


LOOKS = {
    Verdict.BETTER: Look("better", "\N{BLACK UP-POINTING TRIANGLE}", "better"),
    Verdict.NO_DIFFERENCE: Look("alike", "\N{ALMOST EQUAL TO}", "no difference shown"),
    Verdict.WORSE: Look("worse", "\N{BLACK DOWN-POINTING TRIANGLE}", "worse"),
    Verdict.BASELINE_PICKED: Look("default", "\N{BLACK CIRCLE}", "the default won"),
}
"""Told apart without colour: on paper, and by whoever sees none."""


def tiles(result: StudyResult, devices: Sequence[str]) -> list[Tile]:
    """Return the answer, its values, the gain where one was measured, and what it cost."""
    return [_answer(result), *_values(result), *_gain(result), _cost(result, devices)]


def so_far(row: StudyRow, trials: Sequence[Trial]) -> list[Tile]:
    """Return how a study stands that has no answer (yet): nothing in it is one."""
    told = row.reason or "the answer comes with the confirmation, over fresh seeds"
    standing = Tile("the study is in its", row.stage.words, told)
    if row.reason is not None:
        standing = Tile("the study ended", "without a result", told)
    sign = sign_of(row.direction)
    metric = Metric.of_study(row, [t.score for t in trials])
    whole = [(sign * t.score, t) for t in trials if t.score is not None and not t.broken]
    if not whole:
        return [standing]
    _, best = max(whole, key=lambda each: each[0])
    assert best.score is not None
    note = f"slot {best.slot}, n = 1 seed: no answer, for the best of many is partly the luckiest"
    value = f"{metric.value(best.score)}{metric.unit}"
    return [standing, Tile(f"best {metric.name} so far", value, note)]


def _answer(result: StudyResult) -> Tile:
    look, other = LOOKS[result.outcome], result.challenger
    name = "" if other is None else other.name
    notes = {
        Verdict.BETTER: "than torch's defaults at the proposal",
        Verdict.NO_DIFFERENCE: f"between {name} and this",
        Verdict.WORSE: f"is {name}, which led on validation",
        Verdict.BASELINE_PICKED: "no finalist is expected to score better",
    }
    value = "torch's defaults" if result.recommended.is_baseline else result.recommended.name
    colon = ":" if result.outcome is Verdict.BASELINE_PICKED else ""
    note = f"{look.icon} {look.word}{colon} {notes[result.outcome]}"
    return Tile("the answer", value, note, f"answer {look.name}")


def _values(result: StudyResult) -> Iterator[Tile]:
    """Yield each parameter of the answer, with the value that it has in the alternative."""
    other = result.alternative
    values = params_cells(result.recommended.params)
    beside = params_cells((other or result.recommended).params)
    for name, value, there in zip(result.parameters, values, beside, strict=True):
        note = "this is the baseline" if other is None else f"{other.name}: {there}"
        yield Tile(name, value, "held fixed" if name in result.fixed else note)


def _gain(result: StudyResult) -> Iterator[Tile]:
    shown, other = result.shown, result.challenger
    if shown is None or other is None:
        return
    gain, metric, look = shown.difference, result.metric, LOOKS[result.outcome]
    split = "test" if result.comparison else "validation"
    ends = f"{metric.signed(gain.low)} to {metric.signed(gain.high)}"
    yield Tile(
        f"{other.name} minus baseline, {split}",
        metric.difference(gain.mean, sign="+"),
        f"{look.icon} 95\xa0% interval {ends}, n\xa0=\xa0{gain.n} seeds",
        look.name,
    )


def _cost(result: StudyResult, devices: Sequence[str]) -> Tile:
    n_runs = sum(stage.n_runs for stage in result.spent)
    n_images = sum(stage.n_images for stage in result.spent)
    return Tile(
        "what it cost",
        duration_text(sum(stage.seconds for stage in result.spent)),
        f"{n_runs} runs, {n_images:,} training {result.trained_on}, on {', '.join(devices)}",
    )
