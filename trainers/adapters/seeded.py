"""Seeds for a library's own loop, and its generators as a checkpoint keeps them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from trainers.device import DeviceKind, reproducible

# NumPy and the libraries take 32 bits.
_SEEDS = 2**32


@contextmanager
def seeded(seed: int, kind: DeviceKind) -> Iterator[None]:
    """Seed Python, NumPy and torch for one run; the caller's generators are put back after it."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    with reproducible(seed % _SEEDS, kind):
        try:
            seed_all(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_all(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch, all devices."""
    import numpy as np
    import torch

    random.seed(seed % _SEEDS)
    np.random.seed(seed % _SEEDS)
    torch.manual_seed(seed % _SEEDS)
