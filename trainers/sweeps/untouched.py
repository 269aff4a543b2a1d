"""Leaves a model, its optimizer, its data and every generator as they were found."""

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from trainers.sweeps.holdings import Holdings
from trainers.torch_objects import optimizers_of


@contextmanager
def untouched(model: nn.Module, optimizer: Optimizer, loader: Iterable[Any]) -> Iterator[None]:
    """Let the block train; put everything back, bit for bit, however it ends.

    Parameters, buffers, gradients, modes and plain attributes of `model`; state, param groups and
    attributes of `optimizer` and of those that it wraps; the generators of Python, NumPy, torch
    (CPU, and CUDA where it is in use); generators and attributes of `loader`, its samplers and its
    data set. trainers.sweeps.holdings says what is not seen: the contents of data sets, and
    objects that a model keeps and that are no modules. Needs room for one more copy of weights
    and optimizer state.
    """
    parts = [optimizer.param_groups, optimizer.state, optimizer]
    with ExitStack() as kept:
        kept.enter_context(_generators(loader))
        kept.enter_context(_gradients(parameters_of(model, optimizer)))
        # the optimizer first: of what both hold, it sees more
        for holdings in (
            Holdings(*parts),
            Holdings(model, own_objects=False),
            Holdings(loader, of_data=True),
        ):
            kept.callback(holdings.put_back)
        yield


@contextmanager
def data_untouched(loader: Iterable[Any]) -> Iterator[None]:
    """Let the block read `loader`; put all generators back, and the loader's processes."""
    with _generators(loader):
        yield


def parameters_of(model: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    """Return each parameter of model and optimizers (a loss may have its own), once."""
    optimized = [
        parameter
        for one in optimizers_of(optimizer)
        for group in one.param_groups
        for parameter in group["params"]
    ]
    return list(dict.fromkeys([*model.parameters(), *optimized]))


def seed_everything(seed: int, loader: Iterable[Any]) -> None:
    """Seed every generator that `untouched` puts back; each of the loader's gets this seed too.

    torch.manual_seed would also seed a GPU that is not in use yet, when it comes into use.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # NumPy takes no more than 32 bits
    torch.default_generator.manual_seed(seed)
    for gpu in _gpus_in_use():
        torch.cuda.default_generators[gpu].manual_seed(seed)
    for generator in _own_generators(loader):
        generator.manual_seed(seed)


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
def _generators(loader: Iterable[Any]) -> Iterator[None]:
    """Keep all generators, and the workers of a loader that has persistent ones."""
    python, numpy = random.getstate(), np.random.get_state()
    own = [(generator, generator.get_state()) for generator in _own_generators(loader)]
    workers = vars(loader).get("_iterator") if isinstance(loader, DataLoader) else None
    with torch.random.fork_rng(devices=_gpus_in_use()):
        if isinstance(loader, DataLoader):
            loader._iterator = None  # else the sweep's batches come from the middle of an epoch
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
    generators = [getattr(owner, "generator", None) for owner in owners]
    return list(dict.fromkeys(g for g in generators if isinstance(g, torch.Generator)))
