"""What a study file gives, made plain: lists and numbers of numpy are taken, others refused."""

import types
import typing
from dataclasses import MISSING, fields
from typing import Any


def tidy(config: Any) -> None:
    """Make the fields of a new configuration what their annotations say, where that is plain.

    A list becomes a tuple, a number of numpy or torch one of Python. Raises ValueError, with what
    to write, for text or None in place of a number, and for a whole number written as 10.0.
    """
    for field in fields(config):
        given = getattr(config, field.name)
        kinds = _kinds(field.type)
        if given is None and (type(None) in kinds or field.default is None):
            continue
        value = _plain(given)
        if int in kinds or float in kinds:
            has_default = field.default is not MISSING
            _check_number(field.name, value, whole=float not in kinds, has_default=has_default)
        elif tuple in kinds:
            value = _tuple(field.name, value)
        if value is not given:
            object.__setattr__(config, field.name, value)


def is_torch(value: object, name: str) -> bool:
    """Whether a value is an object of torch's class of that name, or of one derived from it.

    It is told by names: a study file may be read without torch.
    """
    return any(
        each.__name__ == name and each.__module__.partition(".")[0] == "torch"
        for each in type(value).__mro__
    )


def what(value: object) -> str:
    """Return what was given, in words: 'the class RMSprop', 'a DataLoader', or a value."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, (str, int, float, list, tuple, dict, types.NoneType)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types of an annotation: of tuple[int, ...] | None tuple and NoneType."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return {kind for each in typing.get_args(annotation) for kind in _kinds(each)}
    return {typing.get_origin(annotation) or annotation}


def _plain(value: Any) -> Any:
    """Return a number of numpy or torch as one of Python; anything else as it is."""
    item = getattr(value, "item", None)
    one = callable(item) and getattr(value, "ndim", None) == 0
    return item() if one and callable(item) else value


def _check_number(name: str, value: Any, *, whole: bool, has_default: bool) -> None:
    kind = "a whole number" if whole else "a number"
    if value is None:
        leave = "; leave it out for its default" if has_default else ""
        raise ValueError(f"{name} must be {kind}, got None{leave}")
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            raise ValueError(f"{name} must be {kind}, got the text {value!r}") from None
        raise ValueError(
            f"{name} must be {kind}, got the text {value!r}: write {value} without quotes"
        )
    if not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be {kind}, got {what(value)}")
    if whole and isinstance(value, float) and value.is_integer():
        raise ValueError(f"{name} must be {kind}, got {value!r}: write {int(value)}")


def _tuple(name: str, value: Any) -> Any:
    """Return several values as a tuple; what is none is left to whoever checks it."""
    values = value.tolist() if getattr(value, "ndim", 0) == 1 else value
    if not isinstance(values, (list, tuple)):
        return value
    plain = tuple(map(_plain, values))
    text = next((each for each in plain if isinstance(each, str)), None)
    if text is not None:
        raise ValueError(f"{name} must hold numbers, got the text {text!r} in {value!r}")
    same = isinstance(value, tuple) and all(a is b for a, b in zip(plain, value, strict=True))
    return value if same else plain
