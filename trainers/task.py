"""What is trained: data, model, optimizer, batch size and precision, as plain values."""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from trainers.augment import Augment
from trainers.data import Cifar10, Digits, ImageFolder
from trainers.device import Site
from trainers.errors import TaskError
from trainers.run import Trainer

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def load_factory(factory: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return `factory` itself, or what the text "module:name" points to; else TaskError."""
    if callable(factory):
        return factory
    module, _, name = factory.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise TaskError(f'no factory at {factory!r} ("module:name" is meant): {error}') from error
    if not callable(found):
        raise TaskError(f"factory {factory!r} must be callable, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True, slots=True)
class SGD:
    """SGD with Nesterov momentum; the cycle moves the momentum as torch's OneCycleLR does."""

    weight_decay: float = 5e-4
    momentum: float = 0.9
    nesterov: bool = True
    adaptive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_weight_decay(self.weight_decay)

    def build(self, model: "nn.Module") -> "Optimizer":
        """Return torch's SGD over `model`, weight decay on matrices only."""
        import torch

        return torch.optim.SGD(
            decay_groups(model, self.weight_decay),
            lr=1.0,
            momentum=self.momentum,
            nesterov=self.nesterov,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW:
    """AdamW; the cycle moves beta1 as torch's OneCycleLR does."""

    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    adaptive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_weight_decay(self.weight_decay)

    def build(self, model: "nn.Module") -> "Optimizer":
        """Return torch's AdamW over `model`, weight decay on matrices only."""
        import torch

        return torch.optim.AdamW(decay_groups(model, self.weight_decay), lr=1.0, betas=self.betas)


def _check_weight_decay(weight_decay: float) -> None:
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be a number of at least 0, got {weight_decay}")


def decay_groups(model: "nn.Module", weight_decay: float) -> list[dict[str, Any]]:
    """Return two param groups: weights of two or more dimensions, which decay, and the rest."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Workload(Protocol):
    """What a study trains: a Task, or a loop of your own."""

    @property
    def batch_size(self) -> int:
        """Images per optimizer step."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch: the number of batches, not the size of one."""

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer is of Adam's kind (it has betas)."""

    @property
    def weight_decay(self) -> float | None:
        """The optimizer's weight decay; None where it has none, or it is not known."""

    def at(
        self, *, batch_size: int | None = None, weight_decay: float | None = None
    ) -> "Workload":
        """Return the same with another batch size or weight decay; None leaves its own.

        Raises ValueError for a batch size that an epoch has not images enough for.
        """

    def trainer(self, site: Site) -> Trainer:
        """Return what trains one run at a time at `site`; torch may be imported here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Image classification, trained by the bundled loop.

    `model` is a factory without arguments, or "module:name" of one. An epoch takes
    n_train // batch_size steps; the images left over change with each epoch's order.
    """

    data: Digits | Cifar10 | ImageFolder
    model: str | Callable[[], "nn.Module"]
    batch_size: int
    optimizer: SGD | AdamW = field(default_factory=SGD)
    label_smoothing: float = 0.0
    augment: Augment = field(default_factory=Augment)
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        if type(self.batch_size) is not int or not 1 <= self.batch_size <= self.data.n_train:
            raise ValueError(
                f"batch_size must be a whole number from 1 to n_train ({self.data.n_train}), "
                f"got {self.batch_size!r}"
            )
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be auto, fp32 or bf16, got {self.precision!r}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches in an epoch."""
        return self.data.n_train // self.batch_size

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer is of Adam's kind."""
        return self.optimizer.adaptive

    @property
    def weight_decay(self) -> float:
        """The optimizer's weight decay."""
        return self.optimizer.weight_decay

    def at(self, *, batch_size: int | None = None, weight_decay: float | None = None) -> "Task":
        """Return the same task with another batch size or weight decay; None leaves its own."""
        optimizer = self.optimizer
        if weight_decay is not None:
            optimizer = replace(optimizer, weight_decay=weight_decay)
        size = self.batch_size if batch_size is None else batch_size
        return replace(self, batch_size=size, optimizer=optimizer)

    def trainer(self, site: Site) -> Trainer:
        """Return the bundled loop on this task."""
        from trainers.loop import Classifier

        return Classifier(self, site)


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnLoop:
    """A training loop of your own: `factory(site)` returns an object with `fit(run)`.

    `adaptive`: its optimizer is of Adam's kind (it has betas). The proposal depends on that, and a
    sweep refuses the other kind. `weight_decay` is the optimizer's own, for a study that searches
    it. Another batch size takes as many steps per epoch as it has full batches of the same images.
    """

    factory: str | Callable[[Site], Trainer]
    batch_size: int
    steps_per_epoch: int
    adaptive: bool = False
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps_per_epoch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.weight_decay is not None:
            _check_weight_decay(self.weight_decay)

    def at(self, *, batch_size: int | None = None, weight_decay: float | None = None) -> "OwnLoop":
        """Return the same loop with another batch size or weight decay; None leaves its own."""
        decay = self.weight_decay if weight_decay is None else weight_decay
        if batch_size is None:
            return replace(self, weight_decay=decay)
        n_images = self.batch_size * self.steps_per_epoch
        if batch_size > n_images:
            raise ValueError(
                f"batch_size must be at most batch_size x steps_per_epoch ({n_images}), "
                f"got {batch_size}"
            )
        steps = n_images // batch_size
        return replace(self, batch_size=batch_size, steps_per_epoch=steps, weight_decay=decay)

    def trainer(self, site: Site) -> Trainer:
        """Return what the factory makes."""
        made: Trainer = load_factory(self.factory)(site)
        return made
