"""--set NAME=VALUE: one field of a study that is there, given another value.

A name is the path of a field, as in screening.n_trials or task.optimizer.weight_decay, or its
last part, as in n_trials, where the first field of that name in the order of `names_of()` is
meant. Functions and objects are no values: the study file is the place for them.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from studies.definition import Screening, Study
from studies.errors import StudyError
from studies.limits import short
from trainers.data import ImageFolder
from trainers.given import what
from trainers.optimizers import optimizer_named
from trainers.task import Task

Settings = Mapping[str, Any]
"""Values by the full path of their field."""

_PLAIN = (bool, int, float, str, tuple, list, type(None))
_NOT_SET = {
    "name": "--name names the stored study",
    "task.data.path": "--data FOLDER says where the images are",
    "task.data.counted": "it is read from the folder",
}
_EPOCHS = "epochs"


def with_settings(study: Study, settings: Settings) -> Study:
    """Return the study with other values in these fields, all of it checked again.

    Names may be short ones. Raises StudyError for a name that is none, and for a value that is
    not allowed.
    """
    full = {path_of(study, name): value for name, value in settings.items()}
    told = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    if _EPOCHS in full or "screening.epochs" in full:
        # Both places say the length, and two different ones would be refused.
        length = full.pop("screening.epochs", None)
        full[_EPOCHS] = full["screening.epochs"] = full.get(_EPOCHS, length)
    try:
        changed = _with(study, _tree(full))
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(f"--set {told}: {' '.join(str(error).split())}") from error
    assert isinstance(changed, Study)
    return changed


def changing(study: Study, settings: Settings) -> dict[str, Any]:
    """Return those settings, by full path, that change the study."""
    full = {path_of(study, name): value for name, value in settings.items()}
    return {path: value for path, value in full.items() if not _is(study, path, value)}


def path_of(study: Study, name: str) -> str:
    """Return the full path of the field that a name means; raise StudyError for what is none."""
    names = names_of(study)
    for path in names:
        if path == name or path.endswith(f".{name}"):
            break
    else:
        path = name if _is_extra(name) else ""
    if not path and name in _functions_of(study):
        raise StudyError(
            f"--set {name}: this is a function or an object of the study file: change it there; "
            "a parameter that it takes is held by --set space.extra.NAME=VALUE"
        )
    for refused, why in _NOT_SET.items():
        if refused in (path, name) or refused.endswith(f".{name}"):
            raise StudyError(f"--set {name}: {why}")
    if not path:
        shorts = [each.rpartition(".")[2] for each in names]
        near = difflib.get_close_matches(name, [*names, *shorts], n=3)
        meant = f"; did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
        raise StudyError(
            f"--set {name}: the study has no such field{meant or '.'} It has {', '.join(names)}"
        )
    return path


def names_of(study: Study) -> list[str]:
    """Return the paths of the fields that may be set, in the order in which short names mean them.

    First the study's own, then those of its task, then of its other parts.
    """
    parts = ("task", "screening", "range_test", "confirmation", "space")
    own = [path for path, _ in _fields("", study) if path.partition(".")[0] not in parts]
    names = [*own]
    for part in parts:
        names += sorted(
            (path for path, _ in _fields(part, getattr(study, part))),
            key=lambda path: path.count("."),
        )
    return [name for name in names if name not in _NOT_SET]


def _fields(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the plain fields of a configuration and of those in it, by their paths."""
    for field in dataclasses.fields(value):
        name = f"{path}.{field.name}" if path else field.name
        held = getattr(value, field.name)
        if name == "task.optimizer" and isinstance(value, Task):
            yield name, held  # by its name
        if dataclasses.is_dataclass(held) and not isinstance(held, type):
            yield from _fields(name, held)
        elif isinstance(held, (*_PLAIN, Mapping)) or _is_number(held):
            yield name, held


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _functions_of(study: Study) -> set[str]:
    names = {each.name for each in dataclasses.fields(study.task)}  # type: ignore[arg-type]
    return names | {f"task.{name}" for name in names}


def _is_extra(name: str) -> bool:
    return name.startswith("space.extra.") and name.count(".") == 2


def _is(study: Study, path: str, value: Any) -> bool:
    held: Any = study
    for name in path.split("."):
        held = held.get(name) if isinstance(held, Mapping) else getattr(held, name)
    if isinstance(held, bool) or isinstance(value, bool):
        return held is value
    if isinstance(value, list):
        value = tuple(value)
    return bool(held == value) and isinstance(held, str) == isinstance(value, str)


def _tree(full: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dicts of dotted names."""
    tree: dict[str, Any] = {}
    for path, value in full.items():
        *above, last = path.split(".")
        place = tree
        for name in above:
            inner = place.setdefault(name, {})
            if isinstance(inner, _Value):  # an optimizer by its name, and a value of it
                inner = place[name] = {"": inner}
            place = inner
        if isinstance(place.get(last), dict):
            place[last][""] = _Value(value)
        else:
            place[last] = _Value(value)
    return tree


@dataclasses.dataclass(frozen=True, slots=True)
class _Value:
    """A leaf of the tree, told apart from a dict that is a value."""

    value: Any


def _with(held: Any, tree: Any) -> Any:
    """Return a configuration with what the tree says; its parts first, then itself at once."""
    if isinstance(tree, _Value):
        return tree.value
    if isinstance(held, Mapping):
        return {**held, **{name: _with(None, part) for name, part in tree.items()}}
    changed = {}
    for name, part in tree.items():
        inner = getattr(held, name)
        if name == "optimizer" and isinstance(held, Task):
            changed[name] = _optimizer(inner, part)
        elif isinstance(part, _Value):
            changed[name] = _typed(name, inner, part.value)
        else:
            changed[name] = _with(inner, part)
    return _replaced(held, changed)


def _typed(name: str, held: Any, value: Any) -> Any:
    """Return the value for a field; raise ValueError where its kind is another than what is held.

    What a configuration checks by itself is left to it.
    """
    if isinstance(held, bool) and not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {short(value)}")
    if isinstance(held, str) and not isinstance(value, str):
        raise ValueError(f"{name} must be a text, got {short(value)}")
    if _is_number(held) and not _is_number(value):
        raise ValueError(f"{name} must be a number, got {what(value)}")
    if isinstance(held, Mapping) and not isinstance(value, Mapping):
        raise ValueError(f'{name} must be such as {{"dropout": (0.0, 0.5)}}, got {what(value)}')
    return value


def _optimizer(held: Any, part: Any) -> Any:
    """Return the optimizer that a name means, or the held one with other values."""
    if not isinstance(part, _Value):
        own = part.pop("", None)
        return _with(held if own is None else _optimizer(held, own), part)
    if not isinstance(part.value, str):
        raise ValueError(f"optimizer must be a name such as adamw, got {what(part.value)}")
    return optimizer_named(part.value)


def _replaced(held: Any, changed: dict[str, Any]) -> Any:
    """Return the configuration with these fields, and what follows from them computed again."""
    if isinstance(held, Screening) and "sampler" in changed:
        own = dataclasses.replace(held, n_initial=None)  # type: ignore[arg-type]
        # 0 of our own sampler and 8 of Optuna's, where it is not said.
        if held.n_initial == own.n_initial:
            changed.setdefault("n_initial", None)
    if "batch_size" in changed and hasattr(held, "at") and not isinstance(held, Task):
        # Its steps per epoch follow from its data.
        held = held.at(batch_size=_whole("batch_size", changed.pop("batch_size")))
    if isinstance(held, ImageFolder):
        changed["counted"] = None
    if isinstance(held, Study) and "task" in changed:
        # What the study took from its task's score follows the task.
        scored = getattr(held.task, "scored", None)
        for name in ("metric", "direction", "diverged_value"):
            if scored is not None and getattr(held, name) == getattr(scored, name):
                changed.setdefault(name, None)
    return dataclasses.replace(held, **changed) if changed else held


def _whole(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return value
