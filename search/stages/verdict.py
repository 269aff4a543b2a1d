"""The verdict of a study: what the comparison of pick and baseline says, and so which is taken."""

from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean

from search.stages.rounds import by_candidate
from search.stages.search import BASELINE_SLOT
from search.stages.statistics import compare, finalists
from studies.answer import Comparison
from studies.states import Direction
from studies.tables import WorkRow


class Verdict(StrEnum):
    """Whether the pick of the confirmation, or torch's defaults at the proposal, is the answer."""

    BETTER = "the pick is better"
    WORSE = "the baseline is better"
    NO_DIFFERENCE = "no difference is shown"
    BASELINE_PICKED = "the baseline is the pick"

    @property
    def takes_pick(self) -> bool:
        """Whether the pick is the answer: only where it is shown to be better."""
        return self is Verdict.BETTER


def verdict_of(winner: int, shown: Comparison | None, *, direction: Direction) -> Verdict:
    """Return the verdict on the slot that won by validation.

    `shown` is that slot minus the baseline, on the test split where there is one, else on
    validation; None where too few seeds compare them.
    """
    if winner == BASELINE_SLOT:
        return Verdict.BASELINE_PICKED
    if shown is None or not shown.shown:
        return Verdict.NO_DIFFERENCE
    better = (shown.difference.mean > 0) == (direction == "maximize")
    return Verdict.BETTER if better else Verdict.WORSE


def challenge_of(
    confirmed: Sequence[WorkRow], winner: int, direction: Direction
) -> Comparison | None:
    """Return the best finalist minus the baseline on validation, over the seeds they share."""
    scores = by_candidate(confirmed, "score")
    baseline = scores.pop(BASELINE_SLOT)
    # One pair has no interval.
    shared = {
        s: seeds for s, by in scores.items() if len(seeds := sorted({*by} & {*baseline})) > 1
    }
    means = {slot: fmean(scores[slot].values()) for slot in shared}
    best = finalists(means, n=1, direction=direction) if winner == BASELINE_SLOT else [winner]
    if not best or best[0] not in shared:
        return None
    challenger, seeds = scores[best[0]], shared[best[0]]
    return compare([challenger[s] for s in seeds], [baseline[s] for s in seeds])
