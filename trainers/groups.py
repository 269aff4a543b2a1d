"""What param groups say of their optimizer: its kind, and the ratios of their rates."""

import math
from typing import TYPE_CHECKING

from trainers.errors import ScheduleError

if TYPE_CHECKING:
    from torch.optim import Optimizer


def is_adaptive(optimizer: "Optimizer") -> bool:
    """Whether the optimizer is Adam-type: its step does not grow with the gradient."""
    # Betas tell them apart: RMSprop has none, and the proposal was never measured for it.
    return any("betas" in group for group in optimizer.param_groups)


def lr_ratios(optimizer: "Optimizer") -> list[float]:
    """Return each param group's lr over that of the first.

    Raises ScheduleError where there are several and the first one's lr gives no ratio.
    """
    first, *others = (float(group["lr"]) for group in optimizer.param_groups)
    if others and not 0 < first < math.inf:
        raise ScheduleError(
            f"the lr of the first param group must be a number above 0, got {first:g}: "
            f"the {len(others)} other groups keep their ratio to it"
        )
    return [1.0, *(lr / first for lr in others)]
