"""What a factory of the user's takes, read from its signature."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainers.errors import TaskError

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Takes:
    """The parameters of a factory by name; `defaults` of those that have a plain one."""

    names: frozenset[str] = frozenset()
    defaults: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of `params` that the factory names."""
        return {name: value for name, value in params.items() if name in self.names}

    def check_defaults(self, factory: str) -> None:
        """Raise ValueError for a parameter without a default: the value that the baseline has."""
        for name in self.required:
            raise ValueError(
                f"{factory} takes {name!r} without a default, which the baseline would have: "
                f"write one, as in {factory}=lambda {name}=0.1: ..."
            )


def takes(factory: Callable[..., Any]) -> Takes:
    """Return what a factory can be given by name; nothing for one whose signature is not known.

    A factory that takes **kwargs names nothing by that: a misspelt parameter would pass unseen.
    """
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return Takes()
    named = [each for each in parameters if each.kind in _NAMED]
    plain = {
        each.name: each.default
        for each in named
        if isinstance(each.default, (bool, int, float, str))
    }
    required = tuple(each.name for each in named if each.default is each.empty)
    return Takes(frozenset(each.name for each in named), plain, required)


def check_taken(params: Iterable[str], **factories: Takes) -> None:
    """Raise TaskError for the first parameter that no factory takes."""
    known = sorted({name for each in factories.values() for name in each.names})
    for name in params:
        if name not in known:
            raise TaskError(
                f"{' and '.join(factories)} take no parameter {name!r}; write it in the signature "
                f"of the one that uses it; known: {', '.join(known) or 'none'}"
            )
