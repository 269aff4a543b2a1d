"""A request to stop: by a signal or a deadline, asked for between two steps."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from search.kernel import in_notebook

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)

# coreutils' timeout, and launchers that pass on what their group got too, signal twice at once.
_ONE_REQUEST_S = 0.2


class Stop:
    """Whether to stop, and why: the first signal that came, or a deadline that passed."""

    def __init__(self, *, timeout_s: float | None = None) -> None:
        self.signal: int | None = None
        self._signal_at = 0.0
        self._before_the_end: Callable[[], None] | None = None
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._event = threading.Event()

    def asked(self) -> bool:
        """Whether work should be given back now."""
        return self.signal is not None or self.out_of_time() or self._event.is_set()

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def warned_of_limit(self) -> bool:
        """Whether the request was SIGUSR1, which schedulers send before a job's time limit."""
        return self.signal is not None and self.signal == getattr(signal, "SIGUSR1", None)

    def ask(self) -> None:
        """Ask for a stop from another thread."""
        self._event.set()

    def sleep(self, seconds: float) -> None:
        """Sleep, but not past a request to stop."""
        until = time.monotonic() + seconds
        # Short naps: time.sleep() continues after a signal's handler has returned (PEP 475).
        while not self.asked() and time.monotonic() < until:
            time.sleep(min(0.1, seconds))

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let SIGINT, SIGTERM and SIGUSR1 ask for a stop; a second one ends the process at once.

        In a notebook a second SIGINT ends the call at once, and never the kernel.
        Only the main thread of a program may do this; elsewhere nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def taking_along(self, end: Callable[[], None]) -> Iterator[None]:
        """Within the block a second signal calls `end` before it ends this process."""
        self._before_the_end = end
        try:
            yield
        finally:
            self._before_the_end = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Sets attributes only: a handler runs between any two lines of the main thread, which may
        # hold the lock of the event that ask() sets.
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._signal_at = number, now
        elif now - self._signal_at >= _ONE_REQUEST_S:
            if self._before_the_end is not None:
                self._before_the_end()
            if number == signal.SIGINT and in_notebook():
                raise KeyboardInterrupt  # a kernel holds all that its user has made so far
            # Ended by the signal itself, so that a shell or a scheduler sees it.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
