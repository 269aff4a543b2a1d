"""What objects hold, kept to be put back: attributes, containers, tensors, arrays, generators."""

import io
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# A data set in memory is not copied for each sweep: larger tensors and arrays are its contents,
# and what longer lists hold are its samples.
_DATA_BYTES, _DATA_ITEMS = 2**26, 1_000

_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type,
    torch.dtype,
    torch.device,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
)
# What these packages keep in objects of their own is their business: locks, caches, processes.
_FOREIGN = {*sys.stdlib_module_names, "torch", "numpy"}

Undo = Callable[[], None]


class Holdings:
    """Everything within `roots`, as it is now; `put_back()` makes it so again, in place.

    Containers hold the same objects again, and these the same values, bit for bit. Classes of
    anybody's own are entered, of torch only modules, optimizers, loaders and samplers; with
    `own_objects=False` no others than modules. Not seen: what functions close over, iterators, and
    objects of the standard library, torch and NumPy that are none of the above. `of_data`: large
    tensors and what long lists hold are left alone.
    """

    def __init__(self, *roots: object, own_objects: bool = True, of_data: bool = False) -> None:
        self._own_objects, self._of_data = own_objects, of_data
        self._known: dict[int, object] = {}  # holds the objects too, so that an id stays one's own
        self._undo: list[Undo] = []
        left = list(roots)
        while left:
            thing = left.pop()
            if not isinstance(thing, _PLAIN) and id(thing) not in self._known:
                self._known[id(thing)] = thing
                left.extend(self._kept(thing))

    def put_back(self) -> None:
        """Undo whatever was done since."""
        for undo in self._undo:
            undo()

    def _kept(self, thing: object) -> Iterator[object]:
        """Keep one object; yield what it holds."""
        undo = self._value(thing) or _state(thing)
        if undo is not None:
            self._undo.append(undo)
        elif isinstance(thing, dict):
            self._undo.append(_dict_undo(thing))
            yield from self._parts(thing.values(), len(thing))
        elif isinstance(thing, (list, deque, set)):
            self._undo.append(_container_undo(thing))
            yield from self._parts(thing, len(thing))
        elif isinstance(thing, (tuple, frozenset)):
            yield from self._parts(thing, len(thing))
        elif self._is_entered(thing):
            yield from self._attributes(thing)

    def _value(self, thing: object) -> Undo | None:
        if not isinstance(thing, (Tensor, np.ndarray)):
            return None
        if self._of_data and thing.nbytes > _DATA_BYTES:
            return _nothing
        return _tensor_undo(thing) if isinstance(thing, Tensor) else _array_undo(thing)

    def _parts(self, parts: Any, n: int) -> Iterator[object]:
        if not self._of_data or n <= _DATA_ITEMS:
            yield from parts

    def _is_entered(self, thing: object) -> bool:
        if isinstance(thing, nn.Module):
            return True
        if isinstance(thing, Iterator) or not self._own_objects:
            return False
        module = type(thing).__module__
        entered = isinstance(thing, Optimizer) or module.startswith("torch.utils.data")
        return entered or module.partition(".")[0] not in _FOREIGN

    def _attributes(self, thing: object) -> Iterator[object]:
        if hasattr(thing, "__dict__"):
            yield vars(thing)
        for kind in type(thing).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                    value = getattr(thing, name)
                    self._undo.append(_slot_undo(thing, name, value))
                    yield value


def _nothing() -> None:
    """Put nothing back."""


def _tensor_undo(tensor: Tensor) -> Undo:
    alias = tensor.detach()
    if tensor.grad_fn is not None or tensor.is_inference() or _overlaps(alias):
        return _nothing  # a step cannot change these in place
    copy = alias.clone()

    def undo() -> None:
        if tensor.layout == torch.strided and tensor.data_ptr() != alias.data_ptr():
            tensor.data = alias  # a wrapper may have put another one there
        alias.copy_(copy)

    return undo


def _overlaps(tensor: Tensor) -> bool:
    """Whether several elements share a place, as after expand(): copy_ refuses to write there."""
    if tensor.layout != torch.strided:
        return False
    return any(
        stride == 0 and size > 1
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
    )


def _array_undo(array: "np.ndarray[Any, Any]") -> Undo:
    copy = array.copy()

    def undo() -> None:
        if array.flags.writeable:
            array[...] = copy

    return undo


def _dict_undo(present: dict[Any, Any]) -> Undo:
    before = dict(present)

    def undo() -> None:
        same = len(present) == len(before) and all(
            key is other and value is kept
            for (key, value), (other, kept) in zip(present.items(), before.items(), strict=True)
        )
        if not same:  # else it is not touched: somebody may be reading it
            present.clear()
            present.update(before)

    return undo


def _container_undo(present: "list[Any] | deque[Any] | set[Any]") -> Undo:
    before = list(present)

    def undo() -> None:
        if len(present) == len(before) and all(map(_is, present, before)):
            return
        present.clear()
        if isinstance(present, set):
            present.update(before)
        else:
            present.extend(before)

    return undo


def _is(one: object, other: object) -> bool:
    return one is other


def _slot_undo(thing: object, name: str, value: object) -> Undo:
    def undo() -> None:
        if getattr(thing, name, None) is not value:
            object.__setattr__(thing, name, value)

    return undo


def _state(thing: object) -> Undo | None:
    """Return how to put back a generator of random numbers, or the position in a file."""
    if isinstance(thing, torch.Generator):
        state = thing.get_state()
        return lambda: _ignored(thing.set_state(state))
    if isinstance(thing, random.Random):
        python = thing.getstate()
        return lambda: thing.setstate(python)
    if isinstance(thing, np.random.RandomState):
        numpy = thing.get_state()
        return lambda: thing.set_state(numpy)
    if isinstance(thing, np.random.Generator):
        return _state(thing.bit_generator)
    if isinstance(thing, np.random.BitGenerator):
        bits = thing.state
        return lambda: setattr(thing, "state", bits)
    if isinstance(thing, io.IOBase):
        with suppress(OSError, ValueError):  # closed, or one that only runs forward
            position = thing.tell()
            return lambda: _ignored(thing.seek(position))
        return _nothing
    return None


def _ignored(value: object) -> None:
    """Take what a setter returns."""
