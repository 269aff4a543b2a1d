"""The random generators of a process, as a checkpoint keeps them."""

import random
from typing import Any

from trainers.device import DeviceKind


def generators(kind: DeviceKind) -> dict[str, Any]:
    """Return the states of all generators as tensors, numbers and lists."""
    import numpy as np
    import torch

    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    states = {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if kind != "cpu":
        states["device"] = torch.get_device_module(torch.device(kind)).get_rng_state()
    return states


def put_back(states: dict[str, Any], kind: DeviceKind) -> None:
    """Set all generators to what generators() returned."""
    import numpy as np
    import torch

    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if kind != "cpu":
        torch.get_device_module(torch.device(kind)).set_rng_state(states["device"])
