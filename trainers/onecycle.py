"""The plan of a cycle: torch's OneCycleLR, its parameters checked before anything is trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainers.calls.schedule import Schedule
from trainers.errors import ScheduleError
from trainers.groups import lr_ratios

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

LAST_RATE_DIVISOR = 250_000
"""Every cycle ends at max_lr / this: torch's defaults (25 * 1e4), whatever div_factor is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OneCycle:
    """One cosine 1cycle over `total_steps` optimizer steps (torch.optim.lr_scheduler.OneCycleLR).

    The first rate is `max_lr / div_factor`, the last `max_lr / 250_000`. Momentum (Adam: beta1)
    falls from `max_momentum` to `base_momentum` at the peak and rises again.
    Raises ScheduleError for a plan that torch would refuse or could not follow.
    """

    max_lr: float
    total_steps: int
    # torch's own defaults, from here on.
    pct_start: float = 0.3
    div_factor: float = 25.0
    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def __post_init__(self) -> None:
        if not (self.max_lr > 0 and math.isfinite(self.max_lr)):
            raise ScheduleError(f"max_lr must be a number above 0, got {self.max_lr}")
        if type(self.total_steps) is not int or self.total_steps < 2:
            raise ScheduleError(
                f"total_steps must be a whole number of at least 2, got {self.total_steps!r}"
            )
        # torch divides by zero at a warm-up of 1 step, and silently skips a shorter one: the cycle
        # then starts at max_lr (torch 2.14.1).
        warm_up_steps = self.pct_start * self.total_steps
        if not (0 < self.pct_start < 1) or warm_up_steps < 2:
            raise ScheduleError(
                f"pct_start must leave a warm-up of at least 2 of the {self.total_steps} steps "
                f"and an anneal phase, got {self.pct_start:g} ({warm_up_steps:.2g} steps)"
            )
        # torch checks neither end: at 1 there is no warm-up, below it the cycle starts above its
        # peak, and at the other end it would start below its last rate.
        if not (1 < self.div_factor < LAST_RATE_DIVISOR):
            raise ScheduleError(
                f"div_factor must lie between 1 and {LAST_RATE_DIVISOR:,}, got {self.div_factor:g}"
            )

        if not 0 <= self.base_momentum <= self.max_momentum < 1:
            raise ScheduleError(
                "base_momentum and max_momentum must rise from at least 0 to below 1, "
                f"got base_momentum={self.base_momentum:g}, max_momentum={self.max_momentum:g}"
            )

    @property
    def final_div_factor(self) -> float:
        """torch's final_div_factor, relative to the *first* rate: 250,000 / div_factor."""
        # So div_factor moves the start only: torch's fixed 1e4 would move the last rate as well.
        return LAST_RATE_DIVISOR / self.div_factor

    @property
    def schedule(self) -> Schedule:
        """The call that makes this cycle, in torch's arguments."""
        return Schedule(
            max_lr=self.max_lr,
            total_steps=self.total_steps,
            pct_start=self.pct_start,
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            base_momentum=self.base_momentum,
            max_momentum=self.max_momentum,
        )

    def scheduler(self, optimizer: "Optimizer") -> "LRScheduler":
        """Return torch's OneCycleLR on `optimizer`; it sets the first rate at once.

        `max_lr` is that of the first param group; the others keep their present ratio to it, as
        in a sweep. Raises ScheduleError where the first group's lr gives no ratio.
        """
        return self.schedule.scheduler(optimizer, lr_ratios(optimizer))

    def lrs(self) -> Sequence[float]:
        """Return the rate of each of the `total_steps` steps: torch's numbers to the last digit.

        Computed as OneCycleLR.get_lr() does, so that nothing but a training loop needs torch.
        """
        first, last = self.max_lr / self.div_factor, self._last_lr
        return self._annealed((first, self.max_lr), (self.max_lr, last))

    def momenta(self) -> Sequence[float]:
        """Return the momentum (Adam: beta1) of each step, as OneCycleLR.get_lr() computes it."""
        high, low = self.max_momentum, self.base_momentum
        return self._annealed((high, low), (low, high))

    @property
    def _last_lr(self) -> float:
        return self.max_lr / self.div_factor / self.final_div_factor

    def _annealed(
        self, warm_up: tuple[float, float], anneal: tuple[float, float]
    ) -> tuple[float, ...]:
        """Return a value of each step, from the ends of the two phases, cosine between them."""
        peak = float(self.pct_start * self.total_steps) - 1  # torch's: seldom a whole step
        last = self.total_steps - 1
        values = []
        for step in range(self.total_steps):
            if step <= peak:
                (start, end), share = warm_up, step / peak
            else:
                (start, end), share = anneal, (step - peak) / (last - peak)
            # In torch's order of operations: another one moves the last digit.
            values.append(end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1))
        return tuple(values)

    def samples(self, n: int) -> list[tuple[int, float]]:
        """Return (step, rate) of about `n` steps to draw: first, last and peak among them."""
        rates = self.lrs()
        last = self.total_steps - 1
        peak = max(range(self.total_steps), key=rates.__getitem__)
        steps = {round(last * k / (n - 1)) for k in range(n)} | {peak}
        return [(step, rates[step]) for step in sorted(steps)]

    def call(self, *, total_steps: str | None = None) -> str:
        """Return the constructor call as Python source, for your own loop.

        Six digits of each parameter; torch's default momenta are left out.
        """
        arguments = {
            "max_lr": f"{self.max_lr:.6g}",
            "total_steps": total_steps or str(self.total_steps),
            "pct_start": f"{self.pct_start:.6g}",
            "div_factor": f"{self.div_factor:.6g}",
            # A quotient shows that the last rate is max_lr / 250,000; its decimals would not.
            "final_div_factor": f"{LAST_RATE_DIVISOR:_} / {self.div_factor:.6g}",
        }
        if (self.base_momentum, self.max_momentum) != (0.85, 0.95):
            arguments["base_momentum"] = f"{self.base_momentum:.6g}"
            arguments["max_momentum"] = f"{self.max_momentum:.6g}"
        lines = [f"    {name}={value},\n" for name, value in arguments.items()]
        return f"torch.optim.lr_scheduler.OneCycleLR(\n    optimizer,\n{''.join(lines)})"
