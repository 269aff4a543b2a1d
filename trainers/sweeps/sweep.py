"""The plan of a sweep: rates that rise from step to step, equally in log(lr)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainers.errors import ScheduleError
from trainers.groups import Driven, check_takes_rates
from trainers.run import Point

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

LEAST_STEPS = 50
"""A sweep of fewer steps is not judged: its noise passes for a descent too often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """`total_steps` rates from `start_lr` to `end_lr`; both are used.

    Equal steps in log(lr): an edge is known by its decade, not by its distance from zero.

    The rates are those of the first param group; the others keep their ratio to it, one
    multiplier for all.

    Momentum (Adam: beta1) is held at `momentum`, the value in force at the peak of a cycle, which
    is where the rate that a sweep proposes will be used; None leaves it at the optimizer's own.

    `adaptive` says whether the optimizer's step does not grow with the gradient (Adam, RMSprop,
    Lion), for the proposal depends on that; None: not checked. `driven`: as in a OneCycle.
    """

    start_lr: float
    end_lr: float
    total_steps: int
    # OneCycleLR's base_momentum.
    momentum: float | None = 0.85
    adaptive: bool | None = None
    driven: list[Driven] = field(default_factory=list, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.start_lr < self.end_lr < math.inf:
            raise ScheduleError(
                f"start_lr must lie above 0 and below end_lr, "
                f"got start_lr={self.start_lr:g}, end_lr={self.end_lr:g}"
            )
        if type(self.total_steps) is not int or self.total_steps < 2:
            raise ScheduleError(
                f"total_steps must be a whole number of at least 2, got {self.total_steps!r}"
            )
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ScheduleError(f"momentum must lie in [0, 1), got {self.momentum:g}")

    def lrs(self) -> Sequence[float]:
        """Return the rate of each step, as torch's scheduler gives it to the first group."""
        return tuple(self.start_lr * self.factor(step) for step in range(self.total_steps))

    def momenta(self) -> Sequence[float]:
        """Return the momentum (Adam: beta1) of each step, which is the same in all.

        None at all where it is left as it is.
        """
        return () if self.momentum is None else (self.momentum,) * self.total_steps

    def factor(self, step: int) -> float:
        """Return the rate of `step` as a multiple of `start_lr`."""
        rise = self.end_lr / self.start_lr
        return float(rise ** (step / (self.total_steps - 1)))

    def scheduler(self, optimizer: "Optimizer") -> "LRScheduler":
        """Return a torch LambdaLR that starts the first param group at `start_lr`, the others at
        their present ratio to it. Raises ScheduleError where the first group's lr gives no ratio.
        """
        from torch.optim.lr_scheduler import LambdaLR

        check_takes_rates(optimizer)
        driven = Driven.of(optimizer)
        self._check_kind(driven)
        self.driven.append(driven)
        for group, ratio in zip(optimizer.param_groups, driven.lr_ratios, strict=True):
            group["lr"] = self.start_lr * ratio
            # LambdaLR multiplies initial_lr, and keeps the one that an earlier scheduler left.
            group["initial_lr"] = self.start_lr * ratio
            # As OneCycleLR does, so that a cycle's peak has the same one.
            if self.momentum is None or not driven.has_momentum:
                continue
            if "betas" in optimizer.defaults:
                group["betas"] = (self.momentum, *group["betas"][1:])
            else:
                group["momentum"] = self.momentum
        return LambdaLR(optimizer, self.factor)

    def _check_kind(self, driven: Driven) -> None:
        if self.adaptive is not None and self.adaptive != driven.adaptive:
            does = "does not grow" if driven.adaptive else "grows"
            raise ScheduleError(
                f"adaptive must be {driven.adaptive} for {driven.name}, got {self.adaptive}: its "
                f"step {does} with the gradient, and the proposal depends on that; say so in the "
                f"study's OwnLoop(adaptive={driven.adaptive})"
            )


@dataclass(frozen=True, slots=True)
class LRCurve:
    """What one sweep measured, step by step: rates and the losses before each update."""

    lrs: tuple[float, ...]
    losses: tuple[float, ...]

    @classmethod
    def from_points(cls, points: Iterable[Point]) -> "LRCurve":
        """Build a curve from the points of a run."""
        ordered = sorted(points, key=lambda point: point.step)
        return cls(tuple(p.lr for p in ordered), tuple(p.loss for p in ordered))
