"""What to try next after a finished study: pure functions of what it measured."""

from dataclasses import dataclass
from typing import Literal

from search.results.provenance import Shell
from search.results.result import StudyResult
from search.starting.cost import duration_text
from search.views.wording import hour_text
from studies.params import setting_text
from studies.states import Stage
from trainers.sweeps.judgement import BRACKET_FACTOR
from trainers.sweeps.result import RangeTestResult, count, range_name

FLAT_SHARE = 0.5
"""From this share of the full cycles within noise of the best on, the optimum is called flat."""
FEW_TRIALS = 10
"""Fewer configurations that did not diverge say little of the parameters."""
NEAR_BOUND = 1.1
"""A max_lr closer to a bound of the bracket than this factor lies at it."""
_FEWEST_STEPS = 100  # of a sweep, see studies.definition.RangeTest


@dataclass(frozen=True, slots=True)
class Hint:
    """One thing to try: why, and the commands that do it, in their order.

    Without commands it is advice to stop, or something that only a study file says.
    """

    about: Literal["bound", "range test", "flat", "trials", "seeds"]
    text: str
    commands: tuple[str, ...] = ()


def hints(result: StudyResult, measured: RangeTestResult, shell: Shell) -> tuple[Hint, ...]:
    """Return what to try next, what matters most first; nothing where nothing is in doubt."""
    found = (
        _bound(result, shell),
        _range_test(measured, shell),
        _more(result, shell),
        _seeds(result, shell),
    )
    return tuple(hint for hint in found if hint is not None)


def _bound(result: StudyResult, shell: Shell) -> Hint | None:
    low, high = result.bracket_of(result.winner)
    name = range_name(result.proposal)
    value = result.winner.params.max_lr
    if low * NEAR_BOUND < value < high / NEAR_BOUND:
        return None
    side = "lower" if value <= low * NEAR_BOUND else "upper"
    searched = "study's own range" if name == "own range" else name
    text = (
        f"The max_lr {value:.3g} of {result.winner.name} lies at the {side} bound of the "
        f"{searched} {low:.3g} to {high:.3g}: a better one may lie beyond."
    )
    if len(result.proposals) > 1:  # one range for all would be the bracket of none
        return Hint(
            "bound",
            f"{text} A new study with another seed measures brackets of its own.",
            _only_known(shell, shell.run("--seed", "1", name=shell.new_name)),
        )
    around = f"space.max_lr=({value / BRACKET_FACTOR:.3g},{value * BRACKET_FACTOR:.3g})"
    return Hint(
        "bound",
        f"{text} A new study can search around it.",
        _only_known(shell, shell.run("--set", around, name=shell.new_name)),
    )


def _range_test(measured: RangeTestResult, shell: Shell) -> Hint | None:
    """Say what makes an edge unsure: sweeps that end below it, too few or too short ones."""
    reasons, flags = _unsure(measured)
    for key, other in measured.others.items():
        found, more = _unsure(other)
        reasons += [f"At {setting_text(key)}: {why[0].lower()}{why[1:]}" for why in found]
        flags |= more
    if not reasons:
        return None
    if not flags:
        return Hint("range test", " ".join(reasons))
    words = [word for flag in flags.items() for word in flag]
    commands = _only_known(shell, shell.new_range_test(*words), shell.run(name=shell.new_name))
    return Hint("range test", " ".join(reasons) + " A new study can start from there.", commands)


def _unsure(measured: RangeTestResult) -> tuple[list[str], dict[str, str]]:
    """Return why an edge is unsure, and the flags of a range test that would know better."""
    plan, said, n = measured.plan, measured.proposal, len(measured.points)
    reasons, flags = list[str](), dict[str, str]()
    if not n:  # skipped, as its author wanted
        return reasons, flags
    if said is not None and said.reason is not None:
        reasons.append(f"{said.reason[0].upper()}{said.reason[1:]}.")
    above = sum(judgement.ending == "reached end_lr" for judgement in measured.judgements)
    if above and not reasons:
        reasons.append(
            f"In {above} of {count(n, 'sweep')} training broke nowhere up to {plan.end_lr:g}: the "
            "edge lies above that, and has no interval."
        )
    elif said is not None and said.widened and said.drift is None:
        reasons.append(f"In the slow sweep (n = 1) the edge lies above {plan.end_lr:g}.")
    if above or (reasons and said is not None and said.reason is None):
        flags["--end-lr"] = f"{10 * plan.end_lr:g}"
    if said is not None and said.interval is not None:
        low, high = said.interval
        if high / low > BRACKET_FACTOR:
            reasons.append(
                f"The 95 % interval of the edge, {low:.3g} to {high:.3g} (n = "
                f"{count(said.n_sweeps, 'sweep')}), spans a factor of {high / low:.0f}, where the "
                f"bracket spans {said.high / said.low:.0f}: more sweeps narrow it."
            )
            flags["--sweeps"] = str(2 * n)
    elif said is not None and said.n_sweeps == 1:
        reasons.append("One sweep has no interval.")
        flags["--sweeps"] = "5"
    if plan.total_steps < _FEWEST_STEPS:
        reasons.append(f"Sweeps of {plan.total_steps} steps say little.")
        flags["--steps"] = "200"
    return reasons, flags


def _more(result: StudyResult, shell: Shell) -> Hint | None:
    """Say whether more configurations pay: by what the study knows of all of them, or by rule.

    A search that ended by itself knew that one more does not: no rule says otherwise.
    """
    hour = result.one_more_hour
    if hour is None:
        ended = result.search_end is not None
        return None if ended else _flat(result) or _trials(result, shell)
    said = hour_text(result)
    said = f"{said[0].upper()}{said[1:]}"
    if not result.is_worth_an_hour:
        return Hint("flat", f"{said}: stop the search here.")
    more = max(1, hour.n_cycles)
    return Hint(
        "trials",
        f"{said}. What is best then is confirmed with fresh seeds.",
        _only_known(shell, shell.run("--trials", f"+{more}")),
    )


def _flat(result: StudyResult) -> Hint | None:
    region = result.region
    if len(region.slots) < FLAT_SHARE * region.n_cycles or _n_whole(result) < FEW_TRIALS:
        return None
    low, high = region.max_lr
    return Hint(
        "flat",
        f"The optimum is flat as far as one seed each can tell: {len(region.slots)} of "
        f"{region.n_cycles} configurations at {count(result.epochs, 'epoch')} lie within a "
        f"seed's noise of the best, with max_lr from {low:.3g} to {high:.3g}. More "
        "configurations would only rank the noise: stop the search here.",
    )


def _trials(result: StudyResult, shell: Shell) -> Hint | None:
    region = result.region
    if _n_whole(result) < FEW_TRIALS:
        n = count(_n_whole(result), "configuration")
        reason = f"{n} that did not diverge say little of the parameters."
    elif result.comparison is None or not result.comparison.shown:
        reason = (
            f"Only {len(region.slots)} of {region.n_cycles} configurations lie within a seed's "
            "noise of the best: more of them may find a better one."
        )
    else:
        return None
    more = max(FEW_TRIALS, result.n_trials)
    seconds = {
        stage: sum(s.seconds for s in result.spent if s.stage == stage)
        for stage in (Stage.SEARCH, Stage.CONFIRMATION)
    }
    again = seconds[Stage.SEARCH] * more / result.n_trials + seconds[Stage.CONFIRMATION]
    return Hint(
        "trials",
        f"{reason} {more} more are then confirmed with fresh seeds; by what this study took, that "
        f"is {duration_text(again)} of training.",
        _only_known(shell, shell.run("--trials", f"+{more}")),
    )


def _n_whole(result: StudyResult) -> int:
    return result.n_trials - result.n_diverged


def _seeds(result: StudyResult, shell: Shell) -> Hint | None:
    """Say what a difference that is not shown would take; nothing where all pairs are the same."""
    comparison = result.comparison or result.challenge
    if comparison is None or comparison.shown or not comparison.detectable:
        return None
    n, many = comparison.n_planned, 4 * comparison.n_planned
    smallest = result.metric.difference(comparison.detectable)
    half = result.metric.difference(comparison.detectable / 2)
    text = (
        f"A true difference of {smallest} would have shown with n = {n} seeds 4 times out of 5. "
        f"If one of {half} matters, it takes about {many} seeds: a new study with "
        f"confirmation=Confirmation(n_seeds={many})"
    )
    told = shell.run("--set", f"n_seeds={many}", name=shell.new_name)
    return Hint("seeds", f"{text}.", _only_known(shell, told))


def _only_known(shell: Shell, *commands: str) -> tuple[str, ...]:
    """Return the commands, none for a study that was made from an object in some program."""
    return commands if shell.spec else ()
