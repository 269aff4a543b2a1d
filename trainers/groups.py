"""What an optimizer is to a schedule: its kind, its momentum, and the ratios of its rates."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from trainers.errors import ScheduleError

if TYPE_CHECKING:
    from torch.optim import Optimizer

log = logging.getLogger(__name__)

KINDS = {
    **dict.fromkeys(("SGD", "ASGD", "LBFGS"), False),
    **dict.fromkeys(("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam"), True),
    **dict.fromkeys(("RMSprop", "Adagrad", "Adadelta", "Adafactor", "Muon", "Rprop"), True),
}
"""Whether torch's own optimizers divide the gradient by its size (torch 2.14); any other is
measured."""

_WRAPPERS = frozenset({"accelerate", "lightning", "lightning_fabric", "pytorch_lightning"})
"""Libraries whose optimizers only pass on to the one inside."""


@dataclass(frozen=True, slots=True)
class Driven:
    """What was found out about an optimizer when a plan's scheduler was made for it.

    `lr_ratios` are each param group's rate over the first one's. Names and numbers are None where
    a loop made its scheduler by other means, and nothing is known but its rates.
    """

    name: str | None
    adaptive: bool | None
    has_momentum: bool | None
    lr_ratios: tuple[float, ...]

    @classmethod
    def of(cls, optimizer: "Optimizer") -> "Driven":
        """Return what there is to say of an optimizer."""
        return cls(
            name=_named(optimizer),
            adaptive=is_adaptive(optimizer),
            has_momentum=has_momentum(optimizer),
            lr_ratios=tuple(lr_ratios(optimizer)),
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Driven":
        """Return what `asdict` made of one."""
        return cls(**{**stored, "lr_ratios": tuple(stored["lr_ratios"])})


def is_adaptive(optimizer: "Optimizer") -> bool:
    """Whether the optimizer's step does not grow with the gradient's scale.

    Known for the classes of torch.optim, measured for any other (trainers.probe); the first param
    group decides. Where nothing can be measured, what the optimizer derives from or wraps
    decides, then whether it has betas, and the log says so.
    """
    kind = _kind_of(optimizer)
    return _assumed(optimizer) if kind is None else kind


def _kind_of(optimizer: "Optimizer") -> bool | None:
    """Return what is known or measured of an optimizer, then of the one that it wraps."""
    from trainers.probe import grows_with_gradient
    from trainers.torch_objects import optimizers_of

    for one in optimizers_of(optimizer):
        root = type(one).__module__.partition(".")[0]
        if root in _WRAPPERS:
            continue
        if root == "torch" and type(one).__name__ in KINDS:
            return KINDS[type(one).__name__]
        grows = grows_with_gradient(one)
        if grows is not None:
            return not grows
    return None


def _assumed(optimizer: "Optimizer") -> bool:
    bases = [base for base in type(optimizer).__mro__ if base.__module__.startswith("torch.")]
    known = [KINDS[base.__name__] for base in bases if base.__name__ in KINDS]
    has_betas = any("betas" in group for group in optimizer.param_groups)
    adaptive = known[0] if known else has_betas
    _warn_once(
        f"the steps of {_named(optimizer)} cannot be tried on a small copy; taken as "
        f"{'not growing' if adaptive else 'growing'} with the gradient, for "
        + (f"it derives from {bases[0].__name__}" if known else _betas_text(has_betas))
    )
    return adaptive


def _betas_text(has_betas: bool) -> str:
    return "its groups have betas" if has_betas else "its groups have no betas"


def has_momentum(optimizer: "Optimizer") -> bool:
    """Whether OneCycleLR can cycle a momentum of the optimizer (Adam: beta1), in every group."""
    # torch asks the defaults which of the two it is, and then sets it in each group.
    defaults = getattr(optimizer, "defaults", {})
    name = "betas" if "betas" in defaults else "momentum"
    return name in defaults and all(name in group for group in optimizer.param_groups)


def say_what_is_cycled(optimizer: "Optimizer") -> None:
    """Log, once for each class, what a cycle does to an optimizer without momentum."""
    kind = _named(optimizer)
    if not has_momentum(optimizer):
        _tell_once(f"{kind} has no momentum to cycle: cycle_momentum=False")
    elif any(group.get("momentum", 1) == 0 for group in optimizer.param_groups):
        _tell_once(
            f"{kind} has momentum=0, and OneCycleLR sets it as torch does by default; to leave it "
            'at 0, hold cycle_momentum fixed: Space(extra={"cycle_momentum": False})'
        )


def _named(optimizer: "Optimizer") -> str:
    return type(optimizer).__name__


@cache
def _tell_once(text: str) -> None:
    log.info("%s", text)


@cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)


def check_takes_rates(optimizer: "Optimizer") -> None:
    """Raise ScheduleError for an optimizer that no schedule drives."""
    from torch.optim import Rprop

    if isinstance(optimizer, Rprop):
        raise ScheduleError(
            "Rprop takes its rate at the first step only, so a sweep of rates says nothing: "
            "give another optimizer"
        )


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
