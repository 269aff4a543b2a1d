"""The plan of a sweep: rates that rise exponentially, one per optimizer step."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainers.errors import ScheduleError
from trainers.run import Point

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """`total_steps` rates from `start_lr` to `end_lr`, equal steps in log(lr).

    Momentum (Adam: beta1) is held at `momentum`, the value in force at the peak of a cycle, which
    is where the rate that a sweep proposes will be used.
    """

    start_lr: float
    end_lr: float
    total_steps: int
    momentum: float = 0.85

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
        """Return the rate of each step."""
        return tuple(self.start_lr * self.factor(step) for step in range(self.total_steps))

    def factor(self, step: int) -> float:
        """Return the rate of `step` as a multiple of `start_lr`."""
        share = step / (self.total_steps - 1)
        return float((self.end_lr / self.start_lr) ** share)

    def scheduler(self, optimizer: "Optimizer") -> "LRScheduler":
        """Return a torch LambdaLR that starts every param group at `start_lr`."""
        from torch.optim.lr_scheduler import LambdaLR

        for group in optimizer.param_groups:
            group["lr"] = self.start_lr
            group["initial_lr"] = self.start_lr
            if "momentum" in group:
                group["momentum"] = self.momentum
            elif "betas" in group:
                group["betas"] = (self.momentum, *group["betas"][1:])
        return LambdaLR(optimizer, self.factor)


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
