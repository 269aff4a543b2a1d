"""What a study's protocol is told of arguments that are no plain values."""

from collections.abc import Mapping
from typing import Any

from trainers.signatures import Takes


def plain(arguments: Mapping[str, Any]) -> str:
    """Return arguments as text that is the same in every process: objects by their class."""
    return ", ".join(f"{name}={_word(value)}" for name, value in sorted(arguments.items()))


def _word(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_word(each) for each in value)}]"
    if isinstance(value, Mapping):
        return f"{{{plain({str(name): each for name, each in value.items()})}}}"
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def merged(factories: Mapping[str, Takes]) -> dict[str, float | int | str | bool]:
    """Return the defaults of all factories; ValueError where two have another default."""
    found: dict[str, float | int | str | bool] = {}
    for role, factory in factories.items():
        for name, value in factory.defaults.items():
            if name in found and found[name] != value:
                raise ValueError(
                    f"{name} has two defaults, {found[name]!r} and {value!r} in {role}; the "
                    "baseline has one: write the same"
                )
            found[name] = value
    return found
