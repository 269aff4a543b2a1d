"""A train loader whose batches follow from the run's seed alone, also after a resume."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trainers.adapters.seeded import seed_all
from trainers.generators import generators, put_back
from trainers.loading import ignore_stop_signals
from trainers.seeding import seed_for


class Epochs:
    """A loader that has generators of its own, seeded as each epoch begins.

    `epoch()` says which one begins. What the training draws in between (dropout) moves no batch,
    so that the batches after a resume are those that an uninterrupted run would have had.
    The next epoch begins after the first `n_skipped` of its batches.
    """

    def __init__(self, loader: Any, *, seed: int, epoch: Callable[[], int]) -> None:
        self.loader = loader
        self.n_skipped = 0
        self._seed, self._epoch = seed, epoch
        self._own: dict[str, Any] = {}
        # A request to stop meets all processes of a group, and these must live until we saved.
        if getattr(loader, "num_workers", 0) and loader.worker_init_fn is None:
            loader.worker_init_fn = ignore_stop_signals

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        skipped, self.n_skipped = self.n_skipped, 0
        outside = generators("cpu")
        self._begin(self._epoch())
        self._own = generators("cpu")
        put_back(outside, "cpu")
        with self._drawing():
            batches = iter(self.loader)
            for _ in range(skipped):
                next(batches, None)
        while True:
            with self._drawing():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Give the loader its own generators for a moment."""
        outside = generators("cpu")
        put_back(self._own, "cpu")
        try:
            yield
        finally:
            self._own = generators("cpu")
            put_back(outside, "cpu")

    def _begin(self, epoch: int) -> None:
        seed = seed_for(self._seed, "epoch", epoch)
        seed_all(seed)
        whole, batches = self.loader, self.batch_sampler
        inner = (getattr(batches, "sampler", None), getattr(batches, "batch_sampler", None))
        parts: tuple[Any, ...] = (whole, self.dataset, self.sampler, batches, *inner)
        for part in parts:
            generator: Any = getattr(part, "generator", None)
            if hasattr(generator, "manual_seed"):
                generator.manual_seed(seed % 2**32)
            # The library would ask the loader for it, and meets us in its place.
            if part is not None and hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    @property
    def dataset(self) -> Any:
        """The loader's own, for what a library asks of it."""
        return getattr(self.loader, "dataset", None)

    @property
    def sampler(self) -> Any:
        """The loader's own: a library tells it the epoch."""
        return getattr(self.loader, "sampler", None)

    @property
    def batch_sampler(self) -> Any:
        """The loader's own."""
        return getattr(self.loader, "batch_sampler", None)

    @property
    def batch_size(self) -> int | None:
        """Samples of a batch; None where the loader does not say."""
        sizes = (getattr(each, "batch_size", None) for each in (self.loader, self.batch_sampler))
        return next((size for size in sizes if isinstance(size, int)), None)
