"""Processes that keep trackers up to date while a study is worked on: one for each tracker.

What one does is search.tracking.sync; here it is started, heard and ended. It is a process, for
the libraries of trackers take seconds to load, print, install handlers and hang.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from sqlalchemy import Engine

from search.errors import EXIT_FINISHED, EXIT_GIVEN_BACK
from search.starting.trackers import VARIABLE, Tracker
from search.workers.stop import Stop

log = logging.getLogger(__name__)

_SILENCE_S = 60.0
"""So long the end of a study waits for a tracker that takes nothing: as long as MLflow tries."""
_LAST_LOOK_STOPPED_S = 5.0  # schedulers kill 30 s after they asked
_NICENESS = 10
"""Training comes first where cores are few; at 19 the start of a library takes minutes then."""
_MAX_RESTARTS = 3
_RESTART_S = 2.0


class _Follower:
    """The process of one tracker, started again where it dies."""

    def __init__(self, engine: Engine, study: str, tracker: Tracker) -> None:
        self._engine, self._study, self._tracker = engine, study, tracker
        self._over = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._missing = self._given_up = False
        self._heard_at = time.monotonic()
        self._thread = threading.Thread(target=self._attend, name="tracker", daemon=True)
        self._thread.start()

    def _attend(self) -> None:
        for _ in range(1 + _MAX_RESTARTS):
            try:
                code = self._follow()
            except OSError as error:
                log.warning("%s is not followed: %s", self._tracker.shown, error)
                break
            self._missing = code != 0
            if code in (EXIT_FINISHED, EXIT_GIVEN_BACK) or self._given_up:
                return
            self._over.wait(_RESTART_S)
        self._missing = True

    def _follow(self) -> int:
        """Start the process, pass on what it says, and return its exit code."""
        command = (
            *(sys.executable, "-m", "search", "export", "--study", self._study),
            *("--follow", "--until-stdin-closes"),
        )
        environment = {
            **os.environ,
            # A command line would show passwords to every user of the machine.
            "ONECYCLE_STORAGE": self._engine.url.render_as_string(hide_password=False),
            VARIABLE: self._tracker.text,
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # of libraries, whose words may hold a password
            text=True,
            start_new_session=True,
        ) as process:
            self._process = process
            with suppress(OSError, AttributeError):  # it may be gone, and Windows has none
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
            if self._over.is_set():
                self._close_pipe()
            assert process.stdout is not None
            for line in process.stdout:
                self._heard_at = time.monotonic()
                if line.strip():
                    log.warning("%s", line.rstrip())
        return process.returncode

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def end(self) -> None:
        """Ask for a last look, and for the end."""
        self._heard_at = time.monotonic()
        self._over.set()
        self._close_pipe()

    def wait(self, stop: Stop) -> None:
        """Wait for the end while it gets on, and say where something is missing."""
        stopped_at: float | None = None
        while self._thread.is_alive():
            self._thread.join(0.05)
            now = time.monotonic()
            stopped_at = stopped_at or (now if stop.asked() else None)
            if stopped_at is not None and now > stopped_at + _LAST_LOOK_STOPPED_S:
                break
            if now > self._heard_at + _SILENCE_S:
                break
        if self._thread.is_alive():
            self._missing = self._given_up = True
            if self._process is not None:
                self._process.kill()
            self._thread.join()
        if self._missing:
            log.warning(
                "%s has not got all of study %r%s; this sends what is missing: %s",
                self._tracker.shown,
                self._study,
                ", for it gave no answer in time" if self._given_up else "",
                self._tracker.missing_line(self._study),
            )


@contextmanager
def followed(
    engine: Engine, study: str, trackers: Sequence[Tracker], stop: Stop
) -> Iterator[None]:
    """Keep trackers up to date with a stored study until the block ends, with a last look then.

    Nothing that goes wrong with them is raised: it is said, once.
    """
    followers = [_Follower(engine, study, tracker) for tracker in trackers]
    try:
        yield
    finally:
        for each in followers:
            each.end()
        for each in followers:
            each.wait(stop)


def catch_up(engine: Engine, study: str, trackers: Sequence[Tracker], stop: Stop) -> None:
    """Send what trackers have not got of a study that nobody works on here."""
    with followed(engine, study, trackers, stop):
        pass
