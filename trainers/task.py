"""What is trained: data, model, optimizer, batch size and precision, as plain values."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from trainers.augment import Augment, EachImage
from trainers.data import Cifar10, Digits, ImageFolder, counted
from trainers.device import Site
from trainers.errors import TaskError
from trainers.factories import load_factory
from trainers.given import is_torch, tidy, what
from trainers.run import Trainer
from trainers.scored import Scored

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


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

        # The plan sets the rate; one lr for both groups keeps their ratio at 1.
        return torch.optim.SGD(
            decay_groups(model, self.weight_decay),
            lr=1.0,
            momentum=self.momentum,
            nesterov=self.nesterov,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW:
    """AdamW; the cycle moves beta1 as torch's OneCycleLR does."""

    # torch.optim.AdamW's own defaults.
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    adaptive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_weight_decay(self.weight_decay)

    def build(self, model: "nn.Module") -> "Optimizer":
        """Return torch's AdamW over `model`, weight decay on matrices only."""
        import torch

        # lr: as in SGD, replaced by the plan's first rate.
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


class ImageOptimizer(Protocol):
    """An optimizer of a Task: SGD, AdamW, or trainers.optimizers.TorchOptimizer."""

    @property
    def weight_decay(self) -> float:
        """On matrices only."""

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer's step does not grow with the gradient."""

    def build(self, model: "nn.Module") -> "Optimizer":
        """Return a new optimizer over the model's parameters."""


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
        """Whether the optimizer's step does not grow with the gradient (Adam, RMSprop, Lion)."""

    @property
    def weight_decay(self) -> float | None:
        """The optimizer's weight decay; None where it has none, or it is not known."""

    @property
    def takes_any(self) -> bool:
        """Whether it may be told of parameters that own_values() does not name."""

    def own_values(self) -> Mapping[str, float | int | str | bool]:
        """Return what it trains with outside of a search, by the name of the parameter."""

    def at(self, *, batch_size: int | None = None) -> "Workload":
        """Return the same with another batch size; None leaves its own.

        Raises ValueError for a batch size larger than the number of images in an epoch.
        """

    def trainer(self, site: Site) -> Trainer:
        """Return what trains one run at a time at `site`; torch may be imported here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Image classification, trained by the bundled loop.

    `model` is a factory without arguments, or "module:name" of one. An epoch takes
    n_train // batch_size steps; the images left over change with each epoch's order.
    `augment` is an Augment, or a transform of torchvision.transforms.v2, which is called with one
    uint8 image (C, H, W) at a time and returns one of the same shape.
    """

    data: Digits | Cifar10 | ImageFolder
    model: str | Callable[[], "nn.Module"]
    batch_size: int
    optimizer: ImageOptimizer = field(default_factory=SGD)
    label_smoothing: float = 0.0
    augment: Augment | EachImage | Callable[[Any], Any] = field(default_factory=Augment)
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        tidy(self)
        _check_parts(self)
        n_train, _ = self.data.numbers
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise ValueError(
                f"batch_size must be a whole number of at least 1, got {self.batch_size!r}"
            )
        if n_train is not None and self.batch_size > n_train:
            raise ValueError(
                f"batch_size must be a whole number from 1 to n_train ({n_train}), "
                f"got {self.batch_size!r}"
            )
        if not isinstance(self.augment, (Augment, EachImage)):
            if not callable(self.augment) or isinstance(self.augment, type):
                raise ValueError(
                    "augment must be an Augment(...) or a transform such as "
                    f"torchvision.transforms.v2.Compose([...]), got {self.augment!r}"
                )
            object.__setattr__(self, "augment", EachImage(transform=self.augment))
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be auto, fp32 or bf16, got {self.precision!r}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")

    takes_any: ClassVar[bool] = False
    joins_validation: ClassVar[bool] = False

    @property
    def scored(self) -> Scored:
        """Accuracy; a broken cycle gets that of a guess, 0 where the classes are not counted."""
        counted = isinstance(self.data, (Digits, Cifar10))
        return Scored("accuracy", "maximize", 1 / 10 if counted else 0.0)

    @property
    def is_counted(self) -> bool:
        """Whether the numbers of images are known; else the folder says them (counted())."""
        return None not in self.data.numbers

    def counted(self, folder: Path | None, cache: Path) -> "Task":
        """Return the same task with the numbers of images in its folder, or `folder` instead.

        Raises DataError for a folder that cannot be used, ValueError for a batch size larger than
        the number of train images.
        """
        if self.is_counted or not isinstance(self.data, ImageFolder):
            return self
        return replace(self, data=counted(self.data, folder=folder, cache=cache))

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches in an epoch."""
        n_train, _ = self.data.numbers
        assert n_train is not None, "counted() must come first"
        return n_train // self.batch_size

    def with_validation(self) -> "Task":
        """Return the same task trained on both splits: for a final model, never to choose."""
        return _OnBoth(**{each.name: getattr(self, each.name) for each in fields(self)})

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer's step does not grow with the gradient."""
        return self.optimizer.adaptive

    @property
    def weight_decay(self) -> float:
        """The optimizer's weight decay."""
        return self.optimizer.weight_decay

    def own_values(self) -> Mapping[str, float | int]:
        """Return what a study may search of a task, and what it has outside of a search."""
        return {
            "batch_size": self.batch_size,
            "weight_decay": self.weight_decay,
            "label_smoothing": self.label_smoothing,
        }

    def at(self, *, batch_size: int | None = None) -> "Task":
        """Return the same task with another batch size; None leaves its own."""
        return self if batch_size is None else replace(self, batch_size=batch_size)

    def under(self, params: Mapping[str, Any]) -> "Task":
        """Return the same task with these values of own_values() in place of its own.

        Raises TaskError for a parameter that the bundled loop does not have.
        """
        changed = dict(params)
        unknown = sorted(changed.keys() - self.own_values().keys())
        if unknown:
            raise TaskError(
                f"the bundled loop has no parameter {unknown[0]!r}; it takes "
                f"{', '.join(self.own_values())}"
            )
        if "weight_decay" in changed:
            decay, optimizer = changed.pop("weight_decay"), self.optimizer
            changed["optimizer"] = replace(optimizer, weight_decay=decay)  # type: ignore[type-var]
        return replace(self, **changed)

    def build_optimizer(self, model: "nn.Module") -> "Optimizer":
        """Return a new optimizer over the model's parameters."""
        return self.optimizer.build(model)

    def trainer(self, site: Site) -> Trainer:
        """Return the bundled loop on this task."""
        from trainers.loop import Classifier

        return Classifier(self, site)


@dataclass(frozen=True, kw_only=True, slots=True)
class _OnBoth(Task):
    """A task whose epochs hold the train and the validation images."""

    joins_validation: ClassVar[bool] = True

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches in an epoch."""
        n_train, n_validation = self.data.numbers
        assert n_train is not None
        assert n_validation is not None
        return (n_train + n_validation) // self.batch_size


def _check_parts(task: Task) -> None:
    """Raise ValueError for a model, data or an optimizer that belongs elsewhere."""
    if not (callable(task.model) or isinstance(task.model, str)) or is_torch(task.model, "Module"):
        raise ValueError(
            f"model must be a function that makes a new model for each run, or where it is "
            f'("module:name"), got {what(task.model)}: write model=lambda: ...'
        )
    if not hasattr(task.data, "n_train") or isinstance(task.data, type):
        raise ValueError(
            f"data must be Digits(...), Cifar10(...) or ImageFolder(...), got {what(task.data)}; "
            "Training(data=...) takes any Dataset or DataLoader"
        )
    if not hasattr(task.optimizer, "build") or isinstance(task.optimizer, type):
        name = getattr(task.optimizer, "__name__", type(task.optimizer).__name__)
        raise ValueError(
            f"optimizer must be SGD(...) or AdamW(...) of trainers.task, got "
            f"{what(task.optimizer)}; with Training(...) any other is "
            f"optimizer=lambda model: torch.optim.{name}(model.parameters())"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnLoop:
    """A training loop of your own: `factory(site)` returns an object with `fit(run)`.

    `adaptive`: its optimizer's step does not grow with the gradient (Adam, RMSprop, Adagrad, Lion,
    Muon). The proposal depends on that, and a sweep refuses the other kind; a study that searches
    an `optimizer` finds out by itself. `weight_decay` is the optimizer's own, for a study that
    searches it. Another batch size takes as many steps per epoch as it has full batches of the
    same images.
    """

    factory: str | Callable[[Site], Trainer]
    batch_size: int
    steps_per_epoch: int
    adaptive: bool = False
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        tidy(self)
        for name in ("batch_size", "steps_per_epoch"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not (callable(self.factory) or isinstance(self.factory, str)):
            raise ValueError(
                f"factory must be a function of the site that makes your loop, or where it is "
                f'("module:name"), got {what(self.factory)}: write factory=lambda site: ...'
            )
        if self.weight_decay is not None:
            _check_weight_decay(self.weight_decay)

    takes_any: ClassVar[bool] = True

    def own_values(self) -> Mapping[str, float | int]:
        """Return what is known of the loop's own values: the batch size, and the weight decay."""
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        return {"batch_size": self.batch_size, **decay}

    def at(self, *, batch_size: int | None = None) -> "OwnLoop":
        """Return the same loop with another batch size; None leaves its own."""
        if batch_size is None:
            return self
        n_images = self.batch_size * self.steps_per_epoch
        if batch_size > n_images:
            raise ValueError(
                f"batch_size must be at most batch_size x steps_per_epoch ({n_images}), "
                f"got {batch_size}"
            )
        steps = n_images // batch_size
        return replace(self, batch_size=batch_size, steps_per_epoch=steps)

    def trainer(self, site: Site) -> Trainer:
        """Return what the factory makes."""
        made: Trainer = load_factory(self.factory)(site)
        return made
