"""Factories of models, loops and the parts of a training, given as a callable or as text."""

import importlib
import inspect
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainers.errors import TaskError


def load_factory(factory: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return `factory` itself, or what the text "module:name" points to; else TaskError."""
    if callable(factory):
        return factory
    module, _, name = factory.partition(":")
    try:
        loaded = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise TaskError(f'no factory at {factory!r} ("module:name" is meant): {error}') from error
    if not callable(loaded):
        raise TaskError(f"factory {factory!r} must be callable, got {type(loaded).__name__}")
    return loaded  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Factory:
    """A function of the user's: what it is given by place, and what its signature names beside.

    `defaults` holds each further parameter with its default; `takes_any`: it has **kwargs, and
    takes parameters that no other factory names.
    """

    role: str
    call: Callable[..., Any]
    defaults: Mapping[str, Any]
    takes_any: bool

    @classmethod
    def of(cls, role: str, call: Callable[..., Any], *given: str) -> "Factory":
        """Return the factory for `role`, which is called with what `given` names.

        One whose signature cannot be read gets these alone. Raises ValueError for a function of
        other arguments, and for a further parameter without a default.
        """
        try:
            parameters = list(inspect.signature(call).parameters.values())
        except (ValueError, TypeError):  # written in C: nothing is known of it
            return cls(role, call, {}, takes_any=False)
        by_place = [p for p in parameters if p.kind in _BY_PLACE]
        spread = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
        named = [p for p in parameters if p not in by_place[: len(given)] and p.kind in _BY_NAME]
        lacking = [p.name for p in named if p.default is inspect.Parameter.empty]
        if lacking or (len(by_place) < len(given) and not spread):
            raise ValueError(
                f"{role} is called as {role}({', '.join(given)}), and its other parameters need a "
                f"default, which the baseline has; got one that takes "
                f"({', '.join(p.name for p in parameters)}): write {role}=lambda "
                f"{', '.join(given) or '...'}: ..."
            )
        return cls(
            role,
            call,
            {p.name: p.default for p in named},
            takes_any=any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters),
        )

    def __call__(self, *given: Any, params: Mapping[str, Any], named: Container[str] = ()) -> Any:
        """Call it with the `params` that it takes; `named`: what other factories name."""
        taken = {
            name: value
            for name, value in params.items()
            if name in self.defaults or (self.takes_any and name not in named)
        }
        return self.call(*given, **taken)

    def __str__(self) -> str:
        more = [*self.defaults, *(["**"] if self.takes_any else [])]
        return f"{self.role} ({', '.join(more) or 'none'})"


def defaults_of(factories: Iterable[Factory]) -> dict[str, Any]:
    """Return the parameters that factories name, each with its default."""
    return {name: value for each in factories for name, value in each.defaults.items()}


def plain_defaults(factories: Iterable[Factory]) -> dict[str, float | int | str | bool]:
    """Return those defaults that a study may sample: numbers, texts and truth values."""
    every = defaults_of(factories).items()
    return {n: v for n, v in every if isinstance(v, (int, float, str, bool))}


def check_taken(factories: Sequence[Factory], names: Iterable[str]) -> None:
    """Raise ValueError for a searched parameter that none of the factories takes."""
    if any(factory.takes_any for factory in factories):
        return
    known = {"batch_size", *defaults_of(factories)}
    for name in names:
        if name not in known:
            taken = "; ".join(map(str, factories))
            raise ValueError(
                f"no function of the training takes the parameter {name!r}; they take: "
                f"{taken}. Write such as {factories[0].role}=lambda {name}=...: ..."
            )


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
