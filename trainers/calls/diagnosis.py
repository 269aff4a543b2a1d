"""What explains a log: the explanations of its digits, and the verdict that they come to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.calls.fits import Explanation
from trainers.calls.logs import Log
from trainers.calls.mistakes import FAR, PLAN, UNNUMBERED
from trainers.calls.placings import Placing
from trainers.calls.schedule import Schedule, Steps

SAYS_NOTHING = "says-nothing"
NOT_A_NUMBER = "not-a-number"
TRUNCATED = "truncated"
UNEXPLAINED = "unexplained"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What explains a log, best first; those of `explanations` that fit all are equals.

    `log` holds the finite rates, in the places of `placing`; `others` says how each other group
    of the same lines moves, `not_finite` what was printed that is no number.
    """

    log: Log
    placing: Placing
    schedule: Schedule
    steps: Steps
    explanations: tuple[Explanation, ...]
    planned: NDArray[Any]
    is_over: bool
    others: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of printed rates that are numbers."""
        return len(self.log.lr)

    @property
    def plan(self) -> Explanation:
        """What the plan itself explains."""
        return next(e for e in self.explanations if e.name == PLAN)

    @property
    def equals(self) -> tuple[Explanation, ...]:
        """The explanations that reproduce every printed digit."""
        return tuple(e for e in self.explanations if e.n_fit == self.n)

    @property
    def not_excluded(self) -> tuple[Explanation, ...]:
        """The equals that a log has to exclude before it can be said to follow the plan."""
        per_epoch = self.steps.per_epoch or 1
        return tuple(e for e in self.equals if _is_far(e, per_epoch))

    @property
    def fits_plan(self) -> bool:
        """Whether the plan itself reproduces every printed digit."""
        return self.plan.n_fit == self.n

    @property
    def follows(self) -> bool:
        """Whether the digits are the plan's, and exclude the common mistakes."""
        return self.fits_plan and not self.not_excluded and not self.not_finite

    @property
    def verdict(self) -> str:
        """The likeliest explanation of every digit by name; 'truncated' for a plan cut short."""
        if self.fits_plan and self.not_finite:
            return NOT_A_NUMBER
        if self.follows:
            return PLAN if self.is_over else TRUNCATED
        if self.fits_plan:
            return SAYS_NOTHING
        if self.equals:
            name = self.equals[0].name
            return SAYS_NOTHING if name == UNNUMBERED else name
        return NOT_A_NUMBER if self.not_finite else UNEXPLAINED

    @property
    def truncated(self) -> bool:
        """Whether the log follows the plan and ends before it."""
        return self.verdict == TRUNCATED

    def worst(self) -> tuple[int, float]:
        """Return which reading is farthest from the plan, and the plan's rate there."""
        at = int(np.abs(self.log.lr - self.planned).argmax())
        return at, float(self.planned[at])


def _is_far(explanation: Explanation, planned: int) -> bool:
    if explanation.name == "wrong-steps-per-epoch":
        return any(k >= FAR * planned or k * FAR <= planned for k in explanation.values)
    return explanation.name in (
        "stepped-per-epoch",
        "stepped-twice",
        "accumulation-counted",
        "other-max-lr",
        "constant-rate",
    )
