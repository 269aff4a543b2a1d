"""What the functions of a training give: sizes, model and optimizer, checked in one line."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from trainers.errors import TaskError
from trainers.streams import check_data, is_loader, n_full_batches, own_batch_size

if TYPE_CHECKING:
    from trainers.training import Training


def sizes(training: "Training") -> dict[str, int]:
    """Return batch size and steps per epoch of a training, read from its data where not given.

    Raises ValueError where they are not to be known, or do not fit the data.
    """
    given = training.batch_size
    train = split_of(training, "train", {} if given is None else {"batch_size": given})
    size = _batch_size(training, train)
    parts = training.accumulate
    if size % parts:
        raise ValueError(f"batch_size ({size}) must be a multiple of accumulate ({parts})")
    full = n_full_batches(train, size // parts)
    if full is not None and full < parts:
        n = f"{len(train)} samples" if not is_loader(train) else f"{full} full batches"
        raise ValueError(
            f"the train split has {n}, too few for one step of batch_size {size}: lower batch_size"
        )
    if full is None and training.steps_per_epoch is None:
        raise ValueError(
            f"steps_per_epoch is needed: the train split, {type(train).__name__}, has no length"
        )
    steps = training.steps_per_epoch
    assert steps is not None or full is not None
    return {"batch_size": size, "steps_per_epoch": steps or (full or 0) // parts}


def _batch_size(training: "Training", train: Any) -> int:
    given, of_loader = training.batch_size, own_batch_size(train)
    if of_loader is None:
        if given is None:
            raise ValueError(
                "batch_size is needed: the samples in one optimizer step"
                + (", which this loader does not say" if is_loader(train) else "")
            )
        return given
    size = of_loader * training.accumulate
    if given not in (None, size):
        raise ValueError(
            f"batch_size {given}: the train loader has batches of {of_loader}, {size} samples a "
            "step. Give a Dataset, or a function data(split, batch_size=...) that makes the loader"
        )
    return size


def steps_at(training: "Training", batch_size: int) -> int | None:
    """Return the steps per epoch to give a copy of another batch size; None: from its data."""
    train = split_of(training, "train", {"batch_size": training.batch_size})
    full = n_full_batches(train, training.batch_size // training.accumulate)
    if full is not None and full // training.accumulate == training.steps_per_epoch:
        return None
    n = training.batch_size * training.steps_per_epoch
    if batch_size > n:
        raise ValueError(
            f"batch_size must be at most batch_size x steps_per_epoch ({n}), got {batch_size}"
        )
    return n // batch_size


def split_of(training: "Training", split: str, params: Mapping[str, Any]) -> Any:
    """Return the data of a split, None for a test split that there is not.

    Raises ValueError for what is no data.
    """
    data = training.data.get(split, params, named=tuple(training.defaults))
    if data is None and split == "test":
        return None
    check_data(split, data)
    return data


def build(
    training: "Training", params: Mapping[str, Any], device: torch.device
) -> tuple[nn.Module, Optimizer]:
    """Return a new model on the device and its optimizer, under these parameters.

    Raises TaskError for what is none, or cannot be trained by one step a batch.
    """
    by_role = {factory.role: factory for factory in training.factories()}
    names = tuple(training.defaults)
    model = by_role["model"](params=params, named=names)
    if not isinstance(model, nn.Module):
        raise TaskError(f"model() must return a torch.nn.Module, got {type(model).__name__}")
    model.to(device)
    optimizer = by_role["optimizer"](model, params=params, named=names)
    _check_optimizer(model, optimizer)
    return model, optimizer


def built_apart(training: "Training", params: Mapping[str, Any]) -> tuple[nn.Module, Optimizer]:
    """Return model and optimizer on the CPU; the caller's generator stays where it is."""
    with torch.random.fork_rng(devices=[]):
        return build(training, params, torch.device("cpu"))


def _check_optimizer(model: nn.Module, optimizer: Any) -> None:
    if isinstance(optimizer, (tuple, list, dict)):
        raise TaskError(
            f"optimizer(model) must return one optimizer, got a {type(optimizer).__name__} of "
            f"{len(optimizer)}: a cycle drives one. Two in one loop, as a GAN has them, are an "
            "OwnLoop's: docs/your-own-loop.md"
        )
    if not isinstance(optimizer, Optimizer):
        raise TaskError(
            f"optimizer(model) must return a torch.optim.Optimizer, got {type(optimizer).__name__}"
        )
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TaskError(
            f"the step of {type(optimizer).__name__} needs a closure, and a cycle takes one loss "
            "a step: take an optimizer whose step needs none, such as SGD or AdamW"
        )
    optimized = [p for group in optimizer.param_groups for p in group["params"]]
    if {id(p) for p in optimized}.isdisjoint(id(p) for p in model.parameters()):
        raise TaskError(
            "optimizer(model) holds none of the model's parameters: give it model.parameters()"
        )
    if not any(p.requires_grad for p in optimized):
        raise TaskError(
            f"the model is frozen: none of the optimizer's {len(optimized)} parameters requires "
            "a gradient"
        )
