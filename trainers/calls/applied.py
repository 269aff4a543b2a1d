"""What an optimizer really applied: rates and momentum of each step, read as the step begins."""

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Applied:
    """Every step of an optimizer from here on; a hook of torch's, a few microseconds a step.

    `lrs` holds a list for each param group, `momenta` that of the first (Adam: beta1; nan where
    it has none). A rate that is a tensor on a GPU is waited for.
    """

    def __init__(self, optimizer: "Optimizer") -> None:
        self.lrs = [array("d") for _ in optimizer.param_groups]
        self.momenta = array("d")
        self._handle = optimizer.register_step_pre_hook(self._record)

    def _record(self, optimizer: "Optimizer", args: Any, kwargs: Any) -> None:
        for kept, group in zip(self.lrs, optimizer.param_groups, strict=False):
            kept.append(group["lr"])
        momentum = momentum_of(optimizer.param_groups[0])
        self.momenta.append(float("nan") if momentum is None else momentum)

    def __len__(self) -> int:
        return len(self.momenta)

    def end(self) -> None:
        """Take the hook out."""
        self._handle.remove()


def momentum_of(group: Mapping[str, Any]) -> float | None:
    """Return the momentum that OneCycleLR moves: beta1 where there are betas, None without any."""
    if "betas" in group:
        return float(group["betas"][0])
    return float(group["momentum"]) if "momentum" in group else None
