"""How many configurations a study tries: a number, so many more, or what a budget pays for."""

import math
import re
from dataclasses import dataclass

from search.errors import UsageError
from search.starting.cost import Pace, costs, devices
from studies.definition import Study
from studies.limits import MOST_BUDGET_CHARACTERS, MOST_RUNS
from studies.states import Stage
from trainers.device import Site

RANGE_TEST = "range-test"
"""The budget of the range test alone."""
_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}
_MOST_DIGITS = 40  # int() itself refuses 4,300
_ALLOWED = (
    f"allowed: {RANGE_TEST}, or a number and a unit without a space, as 200epochs, 90min or 2h"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a whole study may cost, from the first sweep to the last cycle of the confirmation.

    In epochs of training images, or in seconds of this machine with its workers; or the range test
    alone, whatever that costs.
    """

    text: str
    epochs: float | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Return the budget that `text` says; raise UsageError for what says none."""
        if text == RANGE_TEST:
            return cls(text=text)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(epochs?|s|min|h)", text)
        amount = 0.0 if found is None else float(found[1])
        if len(text) > MOST_BUDGET_CHARACTERS:
            raise UsageError(
                f"--budget {text[:MOST_BUDGET_CHARACTERS]}...: has {len(text)} characters, and at "
                f"most {MOST_BUDGET_CHARACTERS} are kept; {_ALLOWED}"
            )
        if found is None or amount == 0:
            raise UsageError(f"--budget {text}: is no amount of compute; {_ALLOWED}")
        if found[2].startswith("epoch"):
            return cls(text=text, epochs=amount)
        return cls(text=text, seconds=amount * _UNITS_S[found[2]])

    @property
    def is_range_test(self) -> bool:
        """Whether it pays for the range test alone."""
        return self.text == RANGE_TEST

    def n_trials(self, study: Study, *, images_per_s: float, run_s: float = 0.0) -> int:
        """Return the greatest number of configurations whose usual costs() are within the budget.

        `images_per_s` is what all workers here train together, and `run_s` what a run takes
        beside, shared among them. Raises UsageError where it does not pay for one configuration.
        """
        epoch = study.task.steps_per_epoch * study.task.batch_size

        def takes(n_trials: int) -> tuple[float, float]:
            """Return epochs of training images, and seconds."""
            every = costs(study, n_trials=n_trials)
            n_images = sum(cost.n_images for cost in every)
            seconds = n_images / images_per_s + run_s * sum(cost.n_runs for cost in every)
            return n_images / epoch, seconds

        def fits(n_trials: int) -> bool:
            epochs, seconds = takes(n_trials)
            return epochs <= (self.epochs or math.inf) and seconds <= (self.seconds or math.inf)

        if not fits(1):
            epochs, seconds = takes(1)
            raise UsageError(
                f"--budget {self.text}: does not pay for one configuration with range test and "
                f"confirmation; study {study.name!r} needs at least {epochs:.0f}epochs, here "
                f"about {seconds:.0f}s"
            )
        if fits(MOST_RUNS + 1):
            raise UsageError(
                f"--budget {self.text}: pays for more than {MOST_RUNS:,} configurations, which is "
                "what a study may have; take less, or the number with --trials"
            )
        low, high = 1, 2
        while fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What was asked for: `n_trials` in all, `more` than before, or a budget; or nothing."""

    n_trials: int | None = None
    more: int = 0
    budget: Budget | None = None

    @property
    def only(self) -> Stage | None:
        """The one stage that was asked for."""
        alone = self.budget is not None and self.budget.is_range_test
        return Stage.RANGE_TEST if alone else None

    @classmethod
    def parse(cls, trials: int | str | None, budget: str | None) -> "Target":
        """Return the target that two flags say; raise UsageError for nonsense or both."""
        if budget is not None and trials is not None:
            raise UsageError(
                f"--budget {budget} --trials {trials}: both say how many configurations; "
                "take one of the two flags"
            )
        if budget is not None:
            return cls(budget=Budget.parse(budget))
        if trials is None:
            return cls()
        text = str(trials)
        adds, digits = text.startswith("+"), text.removeprefix("+")
        if not re.fullmatch(r"-?\d+", digits):
            raise UsageError(
                f"--trials {text}: must be a whole number, or + and one for that many more"
            )
        if digits.startswith("-") or not digits.strip("0"):
            raise UsageError(f"trials must be at least 1, got {text[:40]}")
        if len(digits) > _MOST_DIGITS or int(digits) > MOST_RUNS:
            raise UsageError(f"trials must be at most {MOST_RUNS:,}, got {text[:40]}")
        return cls(more=int(digits)) if adds else cls(n_trials=int(digits))


def n_trials_of(
    target: Target, study: Study, site: Site, *, pace: Pace, workers: int | None
) -> int:
    """Return how many configurations a new study tries, where one worker alone has this pace."""
    if target.budget is not None and target.only is None:
        n_devices = devices(site.device)
        at_once = min(workers or n_devices, n_devices)
        return target.budget.n_trials(
            study, images_per_s=at_once * pace.images_per_s, run_s=pace.run_s / at_once
        )
    return study.screening.n_trials if target.n_trials is None else target.n_trials
