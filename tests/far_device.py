"""A device that is far away: torch's `meta`, which computes nothing, and a list of every wait.

Whatever a program would do on a GPU it does here; a value that the host reads is made up.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FAR = torch.device("meta")
# Their result has a form that only the values tell, so that CUDA waits for these.
_READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "item")
_COPIES = ("_to_copy", "copy_", "_pin_memory")


class Waits(TorchDispatchMode):
    """Writes down what makes the host wait for the device, by step; `begin_step()` begins one."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[str]] = [[]]

    def begin_step(self) -> bool:
        """Begin the next step; a run asks it as `stop_asked`, once before each."""
        self.steps.append([])
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, name = [*tree_leaves(args), *tree_leaves(kwargs)], func._schema.name[6:]
        tensors = [each for each in given if isinstance(each, Tensor)]
        far = [each for each in tensors if each.device == FAR]
        if name in _READS and far:
            self.steps[-1].append(name)
            return True if far[0].dtype == torch.bool else 1.0
        to = (kwargs or {}).get("device")
        if name == "_to_copy" and far and to is not None and to != FAR:
            self.steps[-1].append("read")
            return torch.ones(far[0].shape, dtype=(kwargs or {}).get("dtype") or far[0].dtype)
        # A number of the host that a kernel takes as an argument costs no wait.
        near = [t for t in tensors if t.device != FAR and (t.ndim or name in _COPIES)]
        if near and (far or to == FAR):
            self.steps[-1].append(name)
        return func(*args, **(kwargs or {}))


class FarGenerator(torch.Generator):
    """A generator that `meta` may have, too: torch gives one only to devices that draw."""

    def __new__(cls, device: torch.device | str = "cpu") -> "FarGenerator":
        return super().__new__(cls)
