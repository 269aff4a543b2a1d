"""Leaves a model, its optimizer, its data and every generator as they were found."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader


@contextmanager
def untouched(model: nn.Module, optimizer: Optimizer, loader: Iterable[Any]) -> Iterator[None]:
    """Let the block train; put everything back, bit for bit, however it ends.

    Parameters, buffers, gradients and train or eval mode of `model`; state, param groups and
    attributes of `optimizer`; the generators of Python, NumPy, torch (CPU, and CUDA where it is in
    use) and of `loader` with its samplers. What a model or a data set of your own keeps in plain
    attributes is not seen. Needs room for one more copy of weights and optimizer state.
    """
    with ExitStack() as kept:
        kept.enter_context(_generators(loader))
        kept.enter_context(_modules(model))
        kept.enter_context(_values([*_parameters(model, optimizer), *model.buffers()]))
        kept.enter_context(_gradients(_parameters(model, optimizer)))
        kept.enter_context(_optimizer(optimizer))
        yield


def seed_everything(seed: int, loader: Iterable[Any]) -> None:
    """Seed every generator that `untouched` puts back; each of the loader's gets this seed too.

    torch.manual_seed would also seed a GPU that is not in use yet, when it comes into use.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    for gpu in _gpus_in_use():
        torch.cuda.default_generators[gpu].manual_seed(seed)
    for generator in _own_generators(loader):
        generator.manual_seed(seed)


def _parameters(model: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    """Return each parameter of the model and of the optimizer (a loss may have its own), once."""
    optimized = [p for group in optimizer.param_groups for p in group["params"]]
    return list(dict.fromkeys([*model.parameters(), *optimized]))


@contextmanager
def _values(tensors: list[Tensor]) -> Iterator[None]:
    copies = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.detach().copy_(copy)


@contextmanager
def _gradients(parameters: list[Tensor]) -> Iterator[None]:
    """Put the gradients aside, so that the block starts without any."""
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient


@contextmanager
def _modules(model: nn.Module) -> Iterator[None]:
    """Keep modes, and which tensor is which buffer: some forward passes put a new one there."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(module._buffers, dict(module._buffers)) for module, _ in modes]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for present, before in buffers:
            _put_back(present, before)


@contextmanager
def _optimizer(optimizer: Optimizer) -> Iterator[None]:
    """Let the block work on copies of state and groups; a scheduler wraps `step` as well."""
    attributes = dict(vars(optimizer))
    groups = [(group, dict(group)) for group in optimizer.param_groups]
    optimizer.state = defaultdict(dict, {p: deepcopy(s) for p, s in optimizer.state.items()})
    for group, _ in groups:
        group.update({name: deepcopy(v) for name, v in group.items() if name != "params"})
    try:
        yield
    finally:
        _put_back(vars(optimizer), attributes)
        for group, before in groups:
            _put_back(group, before)


@contextmanager
def _generators(loader: Iterable[Any]) -> Iterator[None]:
    """Keep all generators, and the workers of a loader that has persistent ones."""
    python, numpy = random.getstate(), np.random.get_state()
    own = [(generator, generator.get_state()) for generator in _own_generators(loader)]
    workers = vars(loader).get("_iterator") if isinstance(loader, DataLoader) else None
    with torch.random.fork_rng(devices=_gpus_in_use()):
        if isinstance(loader, DataLoader):
            loader._iterator = None
        try:
            yield
        finally:
            if isinstance(loader, DataLoader):
                loader._iterator = workers
            for generator, state in own:
                generator.set_state(state)
            np.random.set_state(numpy)
            random.setstate(python)


def _gpus_in_use() -> range:
    """Return the CUDA devices, none where CUDA is not in use yet: asking would begin to use it."""
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return range(torch.cuda.device_count() if in_use else 0)


def _own_generators(loader: Iterable[Any]) -> list[torch.Generator]:
    """Return the torch generators that a DataLoader and its samplers were given."""
    batches = getattr(loader, "batch_sampler", None)
    owners = [loader, getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)]
    found = [getattr(owner, "generator", None) for owner in owners]
    return list(dict.fromkeys(g for g in found if isinstance(g, torch.Generator)))


def _put_back(present: dict[str, Any], before: dict[str, Any]) -> None:
    present.clear()
    present.update(before)
