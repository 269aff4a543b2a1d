"""Calls on worker processes, which end with the process that waits for them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def as_they_end(
    calls: Mapping[Key, Callable[[], Value]], *, workers: int
) -> Iterator[tuple[Key, Value]]:
    """Yield key and result of each call as it ends; they begin in the order given.

    What a call raises is raised here, and the calls that have not begun by then never do.
    """
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_the_parent)
    try:
        keys = {pool.submit(call): key for key, call in calls.items()}
        for ended in as_completed(keys):
            yield keys[ended], ended.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _end_with_the_parent() -> None:
    """Die quietly with a parent that was killed or interrupted; nobody would keep the result."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
