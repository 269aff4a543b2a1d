"""The data of the families by name: three splits of inputs and targets, made once a process."""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.families import images, sequences, tabular

Split = tuple[Tensor, Tensor]

_MAKERS = (
    *(images.digits, images.textures, images.shapes),
    *(tabular.rules, tabular.friedman, tabular.diabetes, tabular.teacher, tabular.cancer),
    *(tabular.spirals, tabular.ratings),
    *(sequences.stdlib, sequences.markov, sequences.sensors, sequences.tokens),
    sequences.signals,
)
GENERATED: Mapping[str, Callable[[], Any]] = {make.__name__: make for make in _MAKERS}
"""Returns train, validation and test, each as inputs and targets; `cifar` comes from a folder."""


@cache
def made(name: str, folder: Path | None = None) -> tuple[Split, Split, Split]:
    """Return train, validation and test as tensors, float32 or int64.

    Raises DataError for `cifar` without a folder that has it.
    """
    splits = images.cifar(folder) if name == "cifar" else GENERATED[name]()
    train, validation, test = (
        (torch.from_numpy(inputs), torch.from_numpy(targets)) for inputs, targets in splits
    )
    return train, validation, test


def checksum(name: str, folder: Path | None = None) -> str:
    """Return the SHA-256 of all splits: what two recordings must share to be one."""
    digest = hashlib.sha256()
    for split in made(name, folder):
        for tensor in split:
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
