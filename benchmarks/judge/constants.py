"""The surrogate's constants as they are fitted without the family that is judged."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from benchmarks.fit_surrogate import apart
from search.stages import surrogate
from search.stages.kernel import Constants


@contextmanager
def held_out(family: str) -> Iterator[Constants]:
    """Let every surrogate have constants that the family, and what shares its net or data, had no
    part in.

    In place of a parameter through all of search and confirmation, which the product never sets.
    """
    known, own = _by_family()[family], surrogate.constants
    surrogate.constants = lambda: known  # type: ignore[assignment]
    try:
        yield known
    finally:
        surrogate.constants = own


@cache
def _by_family() -> dict[str, Constants]:
    return {measured.name: known for measured, known in apart()}
