"""What has to be the same in all runs of a training: parameters, optimizer, data as it says."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trainers.groups import lr_ratios
from trainers.streams import is_map_style
from trainers.sweeps.untouched import data_untouched, seed_everything
from trainers.training_parts import built_apart, split_of

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from trainers.training import Training


def facts_of(training: "Training", precision: str) -> dict[str, str]:
    """Return the facts by name: shapes of parameters, the optimizer, and each split's data.

    Of the data it is the author's word: number of samples, and a digest of the first one.
    """
    data = {f"data {split}": _data_fact(training, split) for split in _SPLITS}
    return {**data, "precision": precision, **_made_facts(training)}


_SPLITS = ("train", "validation", "test")


def _made_facts(training: "Training") -> dict[str, str]:
    try:
        model, optimizer = built_apart(training, training.own_values())
    except (KeyError, TypeError):
        # Functions with **kwargs may need what only a run is told.
        if any(factory.takes_any for factory in training.factories()):
            return {}
        raise
    shapes = {name: f"{tuple(p.shape)} {p.dtype}" for name, p in model.named_parameters()}
    return {
        "parameters": "; ".join(f"{name} {shape}" for name, shape in shapes.items()),
        "optimizer": _optimizer_fact(optimizer),
    }


def _optimizer_fact(optimizer: "Optimizer") -> str:
    # The plan sets the rates; of the given ones their ratios stay.
    settings = {n: v for n, v in optimizer.defaults.items() if n != "lr" and v is not None}
    told = ", ".join(f"{name}={value!r}" for name, value in sorted(settings.items()))
    ratios = ":".join(f"{ratio:g}" for ratio in lr_ratios(optimizer))
    return f"{type(optimizer).__qualname__}({told}), rates {ratios}"


def _data_fact(training: "Training", split: str) -> str:
    data = split_of(training, split, training.own_values())
    if data is None:
        return "none"
    kept = getattr(data, "dataset", data)
    if not is_map_style(kept) or not len(kept):
        return type(kept).__name__
    # Twice: an augmentation that no seed of ours reaches gives another sample each time.
    digests = {_digest(kept) for _ in range(2)}
    first = digests.pop() if len(digests) == 1 else "of its own order"
    return f"{type(kept).__name__} of {len(kept):,} samples, the first {first}"


def _digest(data: Any) -> str:
    with data_untouched(data):
        seed_everything(0, data)
        sample = data[0]
    digest = hashlib.sha256()
    for part in _parts(sample):
        digest.update(part)
    return digest.hexdigest()[:16]


def _parts(sample: Any) -> Iterator[bytes]:
    """Yield what a sample holds as bytes; of objects only the class."""
    if isinstance(sample, Mapping):
        for name, value in sample.items():
            yield str(name).encode()
            yield from _parts(value)
    elif isinstance(sample, (tuple, list)):
        for value in sample:
            yield from _parts(value)
    elif isinstance(sample, (Tensor, np.ndarray)):
        whole = torch.as_tensor(sample).detach().cpu().contiguous()
        yield f"{tuple(whole.shape)} {whole.dtype}".encode()
        yield whole.flatten().view(torch.uint8).numpy().tobytes() if whole.numel() else b""
    elif isinstance(sample, (int, float, str, bytes, bool, type(None), np.generic)):
        yield repr(sample).encode()
    elif hasattr(sample, "tobytes"):  # an image of Pillow
        yield sample.tobytes()
    else:
        yield type(sample).__qualname__.encode()
