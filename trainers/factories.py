"""Factories of models and loops, given as a callable or as the text "module:name"."""

import importlib
from collections.abc import Callable
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
