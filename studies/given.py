"""The parts of a study: each of its own type, and what to write in place of another."""

import dataclasses
import difflib
import re
from typing import Any

from trainers.given import is_torch, what

TASKS = (
    "Task(...), Training(...), LightningTraining(...), TransformersTraining(...) or OwnLoop(...)"
)
_UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def check_part(name: str, value: object, kind: type) -> None:
    """Raise ValueError for a part of a study that is not of its type."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {kind.__name__}(...), got {what(value)}")


def check_task(task: object) -> None:
    """Raise ValueError for what cannot be trained as it is: a model, a loader, a class."""
    # Not steps_per_epoch: a folder of images has none until it is counted.
    needed = ("trainer", "own_values", "at", "batch_size")
    if not isinstance(task, type) and all(hasattr(task, name) for name in needed):
        return
    hint = ""
    if is_torch(task, "Module"):
        hint = "; a model belongs into one, as in Training(model=lambda: ..., ...)"
    elif callable(task) and not isinstance(task, type):
        hint = "; a function that makes your loop is OwnLoop(factory=...)"
    raise ValueError(f"task must be {TASKS}, got {what(task)}{hint}")


def unexpected_argument(error: TypeError, kinds: dict[str, Any]) -> str | None:
    """Return the fields that a configuration has, where an error names one that it has not.

    `kinds` holds what the study file knows by name.
    """
    told = _UNEXPECTED.search(str(error))
    kind = kinds.get(told[1]) if told else None
    if told is None or not dataclasses.is_dataclass(kind):
        return None
    names = [field.name for field in dataclasses.fields(kind)]
    near = difflib.get_close_matches(told[2], names, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"{told[1]} has no argument {told[2]!r}{meant} It takes {', '.join(names)}"
