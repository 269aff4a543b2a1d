"""Waiting without guessed seconds: for a condition, or by a clock that the test moves."""

import time
from collections.abc import Callable

import pytest


def wait_for(
    condition: Callable[[], object], *, timeout_s: float = 120, pause_s: float = 0.05
) -> None:
    """Return once `condition` holds; an error of a database means that it does not hold yet.

    The limit is for what never comes; it is generous because the machine may be busy.
    """
    until = time.monotonic() + timeout_s
    last: Exception | None = None
    while time.monotonic() < until:
        try:
            if condition():
                return
            last = None
        except AssertionError:
            raise
        except Exception as raised:  # the tables are not there yet
            last = raised
        time.sleep(pause_s)
    pytest.fail(f"not within {timeout_s:g} s" + (f": {last!r}" if last else ""))


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += seconds
