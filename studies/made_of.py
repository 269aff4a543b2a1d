"""What a Study object consists of: the functions, classes and values of its author, as text.

A study file is known by its source. A study that is made in a notebook or a program has none, so
that this text stands in its place: the same cell run again gives the same, and a function that was
changed gives another, under its name.
"""

import dataclasses
import functools
import hashlib
import json
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from studies.definition import Study
from studies.parts import attributes, parts_of
from studies.sources import source_of

_MARK = "# a Study object, made of\n"
_OURS = ("search", "studies", "trainers")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_MOST_ITEMS = 1000
"""A longer list is data, and is known by its length."""
_MOST_CHARACTERS = 60  # of a value that is stored as it is: an error shows as many


def made_of(study: Study) -> str:
    """Return what a study's task consists of beside its own fields, as declared() reads it."""
    walk = _Walk()
    walk.through("task", study.task)  # the rest of a study is plain values
    return _MARK + json.dumps(walk.found, sort_keys=True)


def is_of_object(source: str) -> bool:
    """Whether a definition's source is of a Study object, not of a file."""
    return source.startswith(_MARK)


def code_fields(source: str) -> dict[str, str]:
    """Return the fields of the protocol that stand for a Study object's code, by name."""
    found: Mapping[str, list[str]] = json.loads(source.removeprefix(_MARK))
    return {name: _short("\n".join(texts)) for name, texts in found.items()}


def _short(text: str) -> str:
    if len(text) <= _MOST_CHARACTERS and "\n" not in text:
        return text
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


class _Walk:
    """One way through all that a study uses; `found` holds the texts of each part by its name."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self._seen: dict[int, Any] = {}  # holds them, so that no id is given twice

    def through(self, name: str, value: Any) -> None:
        """Take in an object of ours: its plain fields are the protocol's own."""
        for label, part in attributes(name, value):
            if not _is_plain(part) and not label.rpartition(".")[2].startswith("_"):
                self.take(label, part)

    def take(self, name: str, value: Any) -> None:
        """Take in one part and what it uses in turn."""
        if isinstance(value, _PLAIN):
            return self._add("value", name, repr(value))
        if id(value) in self._seen or isinstance(value, ModuleType) or value is object:
            return None
        self._seen[id(value)] = value
        if isinstance(value, (FunctionType, type)):
            return self._take_code(name, value)
        if isinstance(value, (MethodType, functools.partial)):
            return self._take_parts(name, value)
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return self._take_items(name, value)
        return self._take_object(name, value)

    def _take_code(self, name: str, value: "FunctionType | type") -> None:
        if not _is_yours(value):
            return self._add("value", name, f"{value.__module__}.{value.__qualname__}")
        if isinstance(value, FunctionType):
            known = value.__qualname__.rpartition("<locals>.")[2]
            # A lambda is known by its place in the study, or by the variable that holds it.
            self._add("code", name if known == "<lambda>" else known, source_of(value.__code__))
        return self._take_parts(name, value)

    def _take_parts(self, name: str, value: Any) -> None:
        for label, part in parts_of(name, value):
            self.take(label, part)

    def _take_items(self, name: str, value: Any) -> None:
        if len(value) > _MOST_ITEMS:
            return self._add("value", name, f"{type(value).__name__} of {len(value)}")
        if not _is_plain(value):
            return self._take_parts(name, value)
        # The order of a set changes from process to process.
        is_set = isinstance(value, (set, frozenset))
        return self._add("value", name, repr(sorted(map(repr, value)) if is_set else value))

    def _take_object(self, name: str, value: Any) -> None:
        """Take in any other object: its class, and of its state what does not come from running.

        Never its repr(), which may hold an address.
        """
        kind = type(value)
        if kind.__module__.partition(".")[0] in _OURS:
            return self.through(name, value)
        named = getattr(value, "__qualname__", None)
        if isinstance(named, str):  # a function that is not written in Python
            return self._add(
                "value", name, f"{getattr(value, '__module__', kind.__name__)}.{named}"
            )
        self.take(kind.__name__, kind)
        self._add("value", name, f"{kind.__qualname__}{_size(value)}")
        if _is_yours(kind) and not hasattr(value, "named_parameters"):
            for label, part in attributes(name, value):
                grows = isinstance(part, (Mapping, list, set))
                private = label.rpartition(".")[2].startswith("_")
                if dataclasses.is_dataclass(value) or not (grows or private):
                    self.take(label, part)
        return None

    def _add(self, kind: str, name: str, text: str) -> None:
        self.found.setdefault(f"{kind} of {name}", []).append(text)


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or the like, or holds nothing else."""
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        flat = value.values() if isinstance(value, Mapping) else value
        return all(isinstance(each, _PLAIN) for each in flat)
    return isinstance(value, _PLAIN)


def _is_yours(value: "FunctionType | type") -> bool:
    """Whether a function or class was written for this program: neither installed nor ours."""
    module = value.__module__ or ""
    if module == "__main__":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or module.partition(".")[0] in _OURS:
        return False
    installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return not installed and not file.startswith(sysconfig.get_path("stdlib"))


def _size(value: Any) -> str:
    """Return shape and type of an array, names and shapes of a model's weights, or a length."""
    if hasattr(value, "named_parameters"):
        weights = [f"{name} {tuple(each.shape)}" for name, each in value.named_parameters()]
        return f" with {', '.join(weights)}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f" {tuple(value.shape)} {value.dtype}"
    try:
        return f" of {len(value)}"
    except Exception:  # no length, or one that cannot be known
        return ""
