"""A study's verdict in words: what to take in one sentence, then what that rests on."""

from typing import TYPE_CHECKING

from search.results.candidate import Candidate
from search.stages.verdict import Verdict
from studies.answer import Looks

if TYPE_CHECKING:
    from search.results.result import StudyResult

BIASED = "choosing the best makes that look greater than it is"
"""Said of a difference on the seeds that chose."""


def verdict_text(result: "StudyResult") -> str:
    """Return what to take, then what was compared with what, and how sure that is."""
    return f"{short_verdict(result)}{_difference(result)}"


def short_verdict(result: "StudyResult") -> str:
    """Return what to take and why, in one sentence."""
    return f"Take {_named(result.recommended)}: {_why(result)}."


def _named(candidate: Candidate) -> str:
    max_lr = f"max_lr {candidate.params.texts()['max_lr']}"
    if candidate.is_baseline:
        return f"torch's defaults at {max_lr} (the baseline)"
    return f"{candidate.name} ({max_lr})"


def _why(result: "StudyResult") -> str:
    split = "the test split" if result.has_comparison else "validation"
    if result.outcome is Verdict.BETTER:
        return f"it is better than {_named(result.baseline)}"
    if result.outcome is Verdict.WORSE:
        assert result.challenger is not None
        return f"they are better than {result.challenger.name}, which scored best on validation"
    if result.outcome is Verdict.NO_DIFFERENCE:
        return f"no difference is shown on {split}"
    n = result.winner.validation.n
    if result.n_raced is not None:
        return "no finalist is expected to score better, after a race with fresh seeds"
    return f"no finalist had a better mean validation score over {n} fresh seeds"


def _difference(result: "StudyResult") -> str:
    """Return challenger minus baseline, its interval and n; '' where nothing compares them."""
    comparison, other = result.shown, result.challenger
    if comparison is None or other is None:
        return ""
    split = "the test split" if result.has_comparison else "validation"
    name = f"{other.name[0].upper()}{other.name[1:]}"
    margin = result.metric.estimate(comparison.difference)
    text = f" {name} minus baseline on {split}: {margin}"
    if comparison.looks is not None:
        text += f"{_looks(comparison.looks)}."
        if not result.has_comparison:
            text += " Nothing was scored on a test split, and the validation split chose."
    elif result.has_comparison or result.winner.is_baseline:
        text += "."
    else:
        text += f"; {BIASED}, and nothing was scored on a test split."
    if result.outcome is not Verdict.NO_DIFFERENCE:
        return text
    return (
        f"{text} With {comparison.n_planned} seeds a true difference of "
        f"{result.metric.difference(comparison.detectable)} would have shown 4 times out of 5."
    )


def _looks(looks: Looks) -> str:
    """Return how often was looked, '' where the number of pairs was fixed."""
    if len(looks.planned) == 1:
        return ""
    text = f" (at look {looks.n} of at most {len(looks.planned)}, which the interval allows for"
    if looks.futile:
        text += "; further pairs would hardly have shown the baseline to be worse"
    return f"{text})"
