"""What a study's protocol is told of arguments that are no plain values."""

from collections.abc import Mapping
from typing import Any


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
