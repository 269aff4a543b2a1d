"""A train loader whose order follows from the run's seed and the epoch, also after a resume."""

from collections.abc import Callable, Iterator
from typing import Any

from trainers.adapters.seeded import generators, put_back, seed_all
from trainers.device import DeviceKind
from trainers.loading import ignore_stop_signals
from trainers.seeding import seed_for


class Epochs:
    """A loader that seeds all generators as an epoch begins, and can begin within one.

    `epoch()` says which one begins. Its state is how many batches were handed out, with the
    generators as they are then; the next epoch begins after these.
    """

    def __init__(
        self, loader: Any, *, seed: int, kind: DeviceKind, epoch: Callable[[], int]
    ) -> None:
        self.loader = loader
        self._seed, self._kind, self._epoch = seed, kind, epoch
        self._done = 0
        self._skipped: dict[str, Any] | None = None
        # A request to stop meets all processes of a group, and these must live until we saved.
        if getattr(loader, "num_workers", 0) and loader.worker_init_fn is None:
            loader.worker_init_fn = ignore_stop_signals

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        skipped, self._skipped, self._done = self._skipped, None, 0
        self._begin(seed_for(self._seed, "epoch", self._epoch()))
        batches = iter(self.loader)
        if skipped is not None:
            for _ in range(skipped["batches"]):
                next(batches, None)
                self._done += 1
            put_back(skipped["generators"], self._kind)
        for batch in batches:
            self._done += 1
            yield batch

    def _begin(self, seed: int) -> None:
        seed_all(seed)
        parts = (
            self.loader,
            *(getattr(self.loader, n, None) for n in ("sampler", "batch_sampler")),
        )
        for part in parts:
            generator: Any = getattr(part, "generator", None)
            if hasattr(generator, "manual_seed"):
                generator.manual_seed(seed % 2**32)

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
        size = getattr(self.loader, "batch_size", None)
        if size is None:
            size = getattr(self.batch_sampler, "batch_size", None)
        return int(size) if isinstance(size, int) else None

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands."""
        return {"batches": self._done, "generators": generators(self._kind)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next epoch where state_dict() was asked for."""
        self._skipped = state
