"""What shows a run or a study from a thread of its own, while it is worked on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(show: Callable[[threading.Event], None]) -> Iterator[None]:
    """Let `show` draw until the block ends; it is told by the event, and waited for."""
    over = threading.Event()
    thread = threading.Thread(target=show, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
