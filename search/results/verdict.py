"""A study's verdict in words: what to take in one sentence, then what that rests on."""

from typing import TYPE_CHECKING

from search.results.candidate import Candidate
from search.stages.verdict import Verdict
from studies.answer import Comparison

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
        return f"they are better than {result.challenger.name}, which led on validation"
    if result.outcome is Verdict.NO_DIFFERENCE:
        return f"no difference is shown on {split}"
    if result.challenger is None:
        return "nothing else was confirmed beside them"
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
    if not result.has_comparison and not result.winner.is_baseline:
        biased = f"; {BIASED}" if comparison.looks is None else ""
        text += f"{biased}, and nothing was scored on a test split"
    return f"{text}.{_looked_at(comparison)}{_could_show(result, comparison)}"


def _looked_at(comparison: Comparison) -> str:
    """Return why an interval holds though the pairs stopped when they had shown enough."""
    if comparison.looks is None:
        return ""
    return " The pairs are of fresh seeds, and the interval holds under stopping early."


def _could_show(result: "StudyResult", comparison: Comparison) -> str:
    """Return what a comparison could have shown, where it shows nothing."""
    if result.outcome is not Verdict.NO_DIFFERENCE:
        return ""
    looks, n = comparison.looks, comparison.difference.n
    if not comparison.detectable:
        return " All pairs scored the same, which says nothing of what n could have shown."
    at_most = n if looks is None else looks.planned[-1]
    smallest = result.metric.difference(comparison.detectable)
    text = (
        f" With {at_most} seeds a true difference of {smallest} would have shown 4 times out of 5"
    )
    if looks is not None and looks.futile:
        return f"{text}; after {n} there was hardly a chance left that the pick would show better."
    return f"{text}."
