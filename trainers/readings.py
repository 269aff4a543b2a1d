"""Readings inside a cycle: which, and the averaged weights that they look at."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

_STEPS_BETWEEN_UPDATES = 4
"""The average moves every so many steps by what as many single moves would have moved it: on a GPU
its many small copies would otherwise cost more than the readings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """Score averaged weights with recalibrated batch norm at shares of the cycle, each in (0, 1).

    `decay` is that of an exponential average over steps; batch norm takes its statistics from
    `n_batches` batches that were trained on. A reading changes nothing in the training and stops
    nothing.
    """

    at: tuple[float, ...]
    decay: float = 0.98
    n_batches: int = 8

    def __post_init__(self) -> None:
        inside = all(0 < share < 1 for share in self.at)
        if not (self.at and inside and list(self.at) == sorted(set(self.at))):
            raise ValueError(f"at must be shares that rise between 0 and 1, got {self.at!r}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")
        if type(self.n_batches) is not int or self.n_batches < 1:
            raise ValueError(
                f"n_batches must be a whole number of at least 1, got {self.n_batches!r}"
            )

    def steps(self, total_steps: int) -> frozenset[int]:
        """Return after how many steps of a cycle a reading is due."""
        return frozenset(max(1, math.floor(share * total_steps)) for share in self.at)


class Averages:
    """The running average of a model's weights (torch.optim.swa_utils.AveragedModel)."""

    def __init__(self, model: "nn.Module", wanted: Readings, *, total_steps: int) -> None:
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        self.wanted, self._due = wanted, wanted.steps(total_steps)
        decay = wanted.decay**_STEPS_BETWEEN_UPDATES
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(model, multi_avg_fn=average)

    def follow(self, model: "nn.Module", step: int) -> bool:
        """Take in the weights after `step` steps; return whether a reading is due."""
        is_due = step in self._due
        if is_due or step % _STEPS_BETWEEN_UPDATES == 0:
            self._averaged.update_parameters(model)
        return is_due

    def recalibrated(self, batches: "Iterable[Tensor]") -> "nn.Module":
        """Return the averaged model, its batch norm statistics taken from these images."""
        from torch.optim.swa_utils import update_bn

        update_bn(batches, self._averaged)
        module: nn.Module = self._averaged.module
        return module

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of a checkpoint."""
        self._averaged.load_state_dict(state)
