"""The plan of a sweep: rates that rise from step to step, equally in log(lr)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainers.errors import ScheduleError
from trainers.groups import is_adaptive, lr_ratios
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
    is where the rate that a sweep proposes will be used.

    `adaptive` says whether the optimizer is Adam-type (it has betas), for the proposal
    depends on that; None: not checked.
    """

    start_lr: float
    end_lr: float
    total_steps: int
    # OneCycleLR's base_momentum.
    momentum: float = 0.85
    adaptive: bool | None = None

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
        if not 0 <= self.momentum < 1:
            raise ScheduleError(f"momentum must lie in [0, 1), got {self.momentum:g}")

    def lrs(self) -> Sequence[float]:
        """Return the rate of each step, as torch's scheduler gives it to the first group."""
        return tuple(self.start_lr * self.factor(step) for step in range(self.total_steps))

    def momenta(self) -> Sequence[float]:
        """Return the momentum (Adam: beta1) of each step, which is the same in all."""
        return (self.momentum,) * self.total_steps

    def factor(self, step: int) -> float:
        """Return the rate of `step` as a multiple of `start_lr`."""
        rise = self.end_lr / self.start_lr
        return float(rise ** (step / (self.total_steps - 1)))

    def scheduler(self, optimizer: "Optimizer") -> "LRScheduler":
        """Return a torch LambdaLR that starts the first param group at `start_lr`, the others at
        their present ratio to it. Raises ScheduleError where the first group's lr gives no ratio.
        """
        from torch.optim.lr_scheduler import LambdaLR

        self._check_kind(optimizer)

        for group, ratio in zip(optimizer.param_groups, lr_ratios(optimizer), strict=True):
            group["lr"] = self.start_lr * ratio
            # LambdaLR multiplies initial_lr, and keeps the one that an earlier scheduler left.
            group["initial_lr"] = self.start_lr * ratio
            if "momentum" in group:
                group["momentum"] = self.momentum
            elif "betas" in group:
                group["betas"] = (self.momentum, *group["betas"][1:])
        return LambdaLR(optimizer, self.factor)

    def _check_kind(self, optimizer: "Optimizer") -> None:
        if self.adaptive is not None and self.adaptive != is_adaptive(optimizer):
            kind = type(optimizer).__name__
            raise ScheduleError(
                f"adaptive must be {not self.adaptive} for {kind}, got {self.adaptive}: say so in "
                "the study's OwnLoop, for the proposal depends on it"
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
