"""What an optimizer really applied: rates and momentum of each step, read as the step begins."""

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.optim import Optimizer

# A flag that is still on a GPU is kept and read with others: each reading waits for the device.
_FLAGS_AT_ONCE = 256


class Applied:
    """Every step of an optimizer from here on; a hook of torch's, a few microseconds a step.

    `lrs` holds a list for each param group, `momenta` that of the first (Adam: beta1; nan where
    it has none), `positions` what `position()` says as each step begins. A rate that is a tensor
    on a GPU is waited for. `dtypes` says for each group which tensor holds its rate, None for a
    float; `shares_rates` whether several groups hold the same one.
    """

    def __init__(
        self, optimizer: "Optimizer", position: Callable[[], float] | None = None
    ) -> None:
        self.lrs = [array("d") for _ in optimizer.param_groups]
        self.momenta, self.positions = array("d"), array("d")
        self.dtypes: list[torch.dtype | None] = [None for _ in self.lrs]
        self.shares_rates = False
        self._position = position
        self._flags: list[Tensor | None] = []
        self._overflowed = bytearray()
        self._handle = optimizer.register_step_pre_hook(self._record)

    def _record(self, optimizer: "Optimizer", args: Any, kwargs: Any) -> None:
        if not self.momenta:
            self._look_at(optimizer)
        for kept, group in zip(self.lrs, optimizer.param_groups, strict=False):
            kept.append(group["lr"])
        momentum = momentum_of(optimizer.param_groups[0])
        self.momenta.append(float("nan") if momentum is None else momentum)
        if self._position is not None:
            self.positions.append(self._position())
        # torch.amp.GradScaler hands it to a fused optimizer, whose kernel then updates nothing
        self._flags.append(getattr(optimizer, "found_inf", None))
        if len(self._flags) >= _FLAGS_AT_ONCE:
            self._read_flags()

    def _look_at(self, optimizer: "Optimizer") -> None:
        rates = [group["lr"] for group in optimizer.param_groups]
        self.dtypes = [getattr(rate, "dtype", None) for rate in rates]
        tensors = [id(rate) for rate, dtype in zip(rates, self.dtypes, strict=True) if dtype]
        self.shares_rates = len(set(tensors)) < len(tensors)

    def _read_flags(self) -> None:
        flags, self._flags = self._flags, []
        read = iter(_read(flag for flag in flags if flag is not None))
        self._overflowed.extend(flag is not None and next(read) for flag in flags)

    def overflowed(self) -> list[bool]:
        """Return for each step whether a GradScaler made a fused optimizer skip its update."""
        self._read_flags()
        return [bool(flag) for flag in self._overflowed]

    def was_skipped(self, n_before: int) -> bool:
        """Return whether a GradScaler skipped its last step, before which len() was `n_before`.

        It does not call the optimizer, which the host knows, or hands a fused one the flag, which
        waits for the device.
        """
        if len(self) == n_before:
            return True
        self._read_flags()
        return bool(self._overflowed[-1])

    def __len__(self) -> int:
        return len(self.momenta)

    def end(self) -> None:
        """Take the hook out."""
        self._handle.remove()


def _read(flags: Iterable["Tensor"]) -> list[bool]:
    """Read all flags with one wait for their device."""
    there = [flag.reshape(()) for flag in flags]
    if not there:
        return []
    import torch

    return [bool(flag) for flag in torch.stack(there).tolist()]


def momentum_of(group: Mapping[str, Any]) -> float | None:
    """Return the momentum that OneCycleLR moves: beta1 where there are betas, None without any."""
    if "betas" in group:
        return float(group["betas"][0])
    return float(group["momentum"]) if "momentum" in group else None
