"""What a LightningModule and its functions return, in any of the forms that Lightning takes."""

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from trainers.errors import DataError, TaskError

if TYPE_CHECKING:
    from torch.optim import Optimizer


def library_of(module: Any) -> ModuleType:
    """Return the package of a LightningModule: lightning.pytorch, or pytorch_lightning."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        # Whatever made the module has imported its library.
        library = sys.modules.get(name)
        if library is not None and isinstance(module, library.LightningModule):
            return library
    raise TaskError(f"module must make a LightningModule, got {type(module).__name__}")


def check_module(module: Any, library: ModuleType, *, monitor: str) -> None:
    """Raise TaskError for a module that optimizes by hand, or that validates nothing."""
    name = type(module).__name__
    if not module.automatic_optimization:
        raise TaskError(
            f"{name} optimizes by hand (automatic_optimization = False), so that its "
            "steps cannot be counted from outside; search it as a loop of your own: "
            "OwnLoop(factory=...), docs/your-own-loop.md"
        )
    if type(module).validation_step is library.LightningModule.validation_step:
        raise TaskError(f"{name} has no validation_step, which logs monitor={monitor!r}")


def check_loaders(loaders: Mapping[str, Any]) -> None:
    """Raise DataError for a dict of loaders that lacks one, or has one too many."""
    names = ("train", "validation", "test")
    if not {"train", "validation"} <= loaders.keys() <= set(names):
        raise DataError(
            f"data must be a dict of loaders for {', '.join(names)}, got one for "
            f"{', '.join(map(repr, loaders)) or 'nothing'}"
        )


def only_optimizer(made: Any, name: str) -> "Optimizer":
    """Return the one optimizer of what configure_optimizers of `name` made, at its own rates."""
    optimizers = _optimizers_in(made)
    if len(optimizers) != 1:
        raise TaskError(
            f"configure_optimizers of {name} returned {len(optimizers)} optimizers, and "
            "one can be searched here; a loop of your own may have several: "
            "OwnLoop(factory=...), docs/your-own-loop.md"
        )
    (optimizer,) = optimizers
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TaskError("LBFGS takes several losses in a step; search SGD, AdamW or the like")
    for group in optimizer.param_groups:
        # A scheduler was made over it, and has set the rate of its own first step.
        if "initial_lr" in group:
            group["lr"] = group.pop("initial_lr")
    return optimizer


def _optimizers_in(made: Any) -> list["Optimizer"]:
    """Return the optimizers in what configure_optimizers returned, in any of its forms."""
    if isinstance(made, torch.optim.Optimizer):
        return [made]
    if isinstance(made, Mapping):
        return _optimizers_in(made.get("optimizer"))
    if isinstance(made, (list, tuple)):
        return [each for part in made for each in _optimizers_in(part)]
    return []


def has_scheduler(made: Any) -> bool:
    """Whether configure_optimizers returned more than optimizers."""
    if isinstance(made, Mapping):
        return "lr_scheduler" in made
    if isinstance(made, (list, tuple)):
        return any(has_scheduler(part) for part in made)
    return made is not None and not isinstance(made, torch.optim.Optimizer)


def listed(value: Any) -> list[Any]:
    """Return what may be one thing, several or none as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
