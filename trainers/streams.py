"""The batches of a training: in the order that a run's seed gives, taken up again where it was."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from trainers.batches import moved
from trainers.errors import DataError
from trainers.loading import ignore_stop_signals
from trainers.seeding import seed_for
from trainers.sweeps.untouched import seed_everything

log = logging.getLogger(__name__)


def check_data(split: str, data: Any) -> None:
    """Raise ValueError for what is neither a data set nor a loader."""
    form = "a Dataset, an IterableDataset or a DataLoader"
    if isinstance(data, (type, str, Mapping)) or data is None:
        what = data.__name__ if isinstance(data, type) else repr(data)[:40]
        raise ValueError(f"the split {split!r} must be {form}, got {what}")
    if isinstance(data, tuple):
        raise ValueError(
            f"the split {split!r} must be {form}, got a tuple of {len(data)}: write "
            "torch.utils.data.TensorDataset(inputs, targets)"
        )
    if isinstance(data, Iterator):
        raise ValueError(
            f"the split {split!r} is read many times, a {type(data).__name__} only "
            f"once: give {form}"
        )
    if not (is_map_style(data) or hasattr(data, "__iter__")):
        raise ValueError(f"the split {split!r} must be {form}, got {type(data).__name__}")


def is_map_style(data: Any) -> bool:
    """Whether samples can be asked for by number, and are counted."""
    if isinstance(data, (DataLoader, IterableDataset)):
        return False
    return hasattr(data, "__getitem__") and hasattr(data, "__len__")


def is_loader(data: Any) -> bool:
    """Whether it gives whole batches."""
    return not (is_map_style(data) or isinstance(data, Dataset))


def own_batch_size(data: Any) -> int | None:
    """Return the samples in a batch of a loader, None where it does not say."""
    size = getattr(data, "batch_size", None) if is_loader(data) else None
    return size if isinstance(size, int) else None


def n_full_batches(data: Any, part: int) -> int | None:
    """Return how many full batches (of `part` samples, of a data set) one reading gives.

    None where nobody counts them.
    """
    try:
        if not is_loader(data):
            return len(data) // part
        size = own_batch_size(data)
        if isinstance(data, DataLoader) and size is not None and not data.drop_last:
            counted = data.dataset if isinstance(data.dataset, IterableDataset) else data.sampler
            return len(counted) // size  # type: ignore[arg-type]
        return len(data)
    except TypeError:  # Python's and torch's way to say that there is no length
        return None


def n_samples(batch: Any, default: int) -> int:
    """Return the first dimension of the first tensor in a batch."""
    found = next(_tensors(batch), None)
    return default if found is None else len(found)


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        if batch.ndim:
            yield batch
    elif isinstance(batch, Mapping):
        for part in batch.values():
            yield from _tensors(part)
    elif isinstance(batch, (tuple, list)):
        for part in batch:
            yield from _tensors(part)


class _Order:
    """The batches of one reading of a data set, as lists of sample numbers."""

    def __init__(self, n: int, part: int, n_batches: int) -> None:
        self.n, self.part, self.n_batches = n, part, n_batches
        self.seed, self.first = 0, 0

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(self.n, generator=generator)
        for chosen in torch.split(order, self.part)[self.first : self.n_batches]:
            yield chosen.tolist()

    def __len__(self) -> int:
        return self.n_batches - self.first


class Stream:
    """The training batches of one run, on its device, reading after reading of the data.

    Each reading is seeded by the run's seed and its number, so that a later owner of the run can
    take it up at `position`. A data set is read in an order of ours, a loader in its own.
    """

    def __init__(
        self,
        data: Any,
        *,
        seed: int,
        part: int,
        per_reading: int | None,
        options: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.seed, self.device, self.per_reading = seed, device, per_reading
        self.part = part
        self.reading = self.position = 0
        self._order: _Order | None = None
        if is_map_style(data):
            assert per_reading is not None
            self._order = _Order(len(data), part, per_reading)
            data = loader_of(data, options, device, batch_sampler=self._order)
        elif not is_loader(data):
            data = loader_of(data, options, device, batch_size=part, drop_last=True)
        self.loader: Iterable[Any] = data
        # Without processes of a loader, nothing but the order says what a batch holds.
        self._can_jump = self._order is not None and not getattr(data, "num_workers", 0)
        self._iterator: Iterator[Any] | None = None

    def next(self) -> Any:
        """Return the next batch; raise DataError where the data has none."""
        if self._iterator is None:
            self._iterator = self._read(0)
        while True:
            batch = next(self._iterator, None)
            if batch is not None:
                self.position += 1
                return moved(batch, self.device)
            if not self.position:
                raise DataError("the train split gives no batch; at least 1 is needed")
            self.reading, self.position = self.reading + 1, 0
            self._iterator = self._read(0)

    def n_samples_of(self, batch: Any) -> int:
        """Return the samples in a batch; of a data set as asked for, whatever a collate made."""
        return self.part if self._order is not None else n_samples(batch, self.part)

    def resume(self, reading: int, position: int) -> None:
        """Take up an earlier owner's reading after `position` batches of it."""
        self.reading, self.position = reading, position
        self._iterator = self._read(position)

    def _read(self, skipped: int) -> Iterator[Any]:
        seed_everything(seed_for(self.seed, "reading", self.reading), self.loader)
        for name in ("sampler", "batch_sampler", "dataset"):
            tell = getattr(getattr(self.loader, name, None), "set_epoch", None)
            if tell is not None:
                tell(self.reading)
        if self._order is not None:
            self._order.seed = seed_for(self.seed, "order", self.reading)
            self._order.first = skipped if self._can_jump else 0
        batches = iter(self.loader)
        left = None if self.per_reading is None else self.per_reading - skipped
        if not self._can_jump:
            for _ in range(skipped):
                next(batches, None)
        return batches if left is None else _first(batches, left)


def _first(batches: Iterator[Any], n: int) -> Iterator[Any]:
    """Yield at most `n` batches, and ask for no more: a loader would load one that nobody uses."""
    for _ in range(n):
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch


class Moved:
    """A loader whose batches lie on the device; its other attributes are the loader's."""

    def __init__(self, loader: Iterable[Any], device: torch.device) -> None:
        self._loader, self._device = loader, device

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield moved(batch, self._device)

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loader, name)


def loader_of(
    data: Any, options: Mapping[str, Any], device: torch.device, **ours: Any
) -> DataLoader[Any]:
    """Return a loader over a data set; its processes live through a request to stop.

    For a CUDA GPU its batches lie in pinned memory, from which moved() copies without a wait,
    unless `options` say otherwise.
    """
    own = options.get("worker_init_fn")
    return DataLoader(
        data,
        **{
            "pin_memory": device.type == "cuda",
            **options,
            "worker_init_fn": Prepared(own),
        },
        generator=torch.Generator(),
        **ours,
    )


class Prepared:
    """What each process of a loader does first: ours, then the author's own."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def __call__(self, worker_id: int) -> None:
        ignore_stop_signals(worker_id)
        if self.own is not None:
            self.own(worker_id)
