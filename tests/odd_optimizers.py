"""Optimizers as people write their own: signs, trust ratios, wrappers, one that breaks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer


class Lion(Optimizer):
    """The sign of a running mean (Chen et al. 2023, algorithm 2)."""

    def __init__(self, params: Any, lr: float, betas: Any = (0.9, 0.99), decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight by the rate."""
        for group in self.param_groups:
            slow, fast = group["betas"]
            for p in (p for p in group["params"] if p.grad is not None):
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["decay"])
                p.sub_(group["lr"] * torch.sign(slow * mean + (1 - slow) * p.grad))
                mean.lerp_(p.grad, 1 - fast)


class LARS(SGD):
    """SGD on gradients as long as the weights (You et al. 2017)."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Rescale each gradient, then step."""
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None and p.ndim > 1):
                p.grad.mul_(1e-3 * p.norm() / (p.grad.norm() + 1e-12))
        super().step()


class SAM(Optimizer):
    """A climb before each step of the optimizer inside (Foret et al. 2021)."""

    def __init__(self, params: Any, inner: type[Optimizer], rho: float = 0.05, **options: Any):
        super().__init__(params, {"rho": rho, **options})
        self.inner = inner(self.param_groups, **options)
        self.param_groups = self.inner.param_groups
        self.defaults.update(self.inner.defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        """Climb, ask for the gradient there, come back and step."""
        assert closure is not None, "SAM needs a closure"
        held = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in held]).norm()
        before = [p.clone() for p in held]
        for p in held:
            p.add_(self.param_groups[0]["rho"] * p.grad / norm)
        with torch.enable_grad():
            closure()
        for p, place in zip(held, before, strict=True):
            p.copy_(place)
        self.inner.step()


class WithSums(Optimizer):
    """Adagrad, whose state is there from the start."""

    def __init__(self, params: Any, lr: float):
        super().__init__(params, {"lr": lr})
        for p in self.param_groups[0]["params"]:
            self.state[p]["sum"] = torch.zeros_like(p)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Divide by the root of the sum of squares."""
        for p in self.param_groups[0]["params"]:
            total = self.state[p]["sum"].add_(p.grad**2)
            p.sub_(self.param_groups[0]["lr"] * p.grad / (total.sqrt() + 1e-10))


class Clipped(SGD):
    """SGD that clips its gradient by itself."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Clip, then step."""
        torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 1.0)
        super().step()


class OnNoCPU(Optimizer):
    """One whose kernels are not here."""

    def __init__(self, params: Any, lr: float, betas: Any = None):
        super().__init__(params, {"lr": lr} | ({"betas": betas} if betas else {}))

    def step(self) -> None:  # type: ignore[override]
        """Fail."""
        raise RuntimeError("no kernel for this device")
