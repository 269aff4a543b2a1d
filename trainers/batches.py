"""The batches of a loader on a device, from its beginning again where it ends."""

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch

from trainers.errors import DataError

log = logging.getLogger(__name__)

Batch = TypeVar("Batch")


class Batches(Generic[Batch]):
    """Reads `loader` again for each sweep; says once that it was too short for one.

    Raises DataError for an iterator, which can be read only once.
    """

    def __init__(self, loader: Iterable[Batch], device: torch.device) -> None:
        if isinstance(loader, Iterator):
            raise DataError(
                "the loader must be read once per sweep: a DataLoader or a list of batches, "
                f"got {type(loader).__name__}, which can be read only once"
            )
        self.loader = loader
        self.device = device
        self._told = False

    def first(self, n: int) -> Generator[Batch, None, None]:
        """Yield `n` batches; raise DataError where the loader gives none."""
        left = n
        while left:
            before = left
            for batch in self.loader:
                yield moved(batch, self.device)
                left -= 1
                if not left:
                    return
            if left == before:
                raise DataError(
                    f"the loader gives no batch; {n} make a sweep, at least 1 is needed"
                )
            self._tell(before - left, n)

    def _tell(self, n_batches: int, n: int) -> None:
        if not self._told:
            log.warning(
                "a sweep takes %d batches, the loader has %d: it is read again", n, n_batches
            )
        self._told = True


def moved(batch: Any, device: torch.device) -> Any:
    """Return `batch` with every tensor on `device`: those in tuples, lists and dicts too."""
    if isinstance(batch, torch.Tensor):
        # Without a wait where the loader pinned its memory.
        return batch.to(device, non_blocking=device.type == "cuda")
    if hasattr(batch, "to"):  # also what transformers' tokenizers and PyG give
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: moved(part, device) for name, part in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(part, device) for part in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(moved(part, device) for part in batch)
    return batch
