"""Workers forked from a program that has loaded task and data: they begin within milliseconds.

A process of its own takes seconds to import torch and Optuna, which is half of a short study.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import TimeoutExpired
from typing import IO, NoReturn

from sqlalchemy import Engine

from search.errors import EXIT_FINISHED, EXIT_INTERRUPTED, EXIT_NO_RESULT, ending_of
from search.starting.beats import Piped, pipe
from search.starting.cost import Started
from search.starting.here import leave, stop_at_end_of_stdin, work_as_started
from search.starting.opening import opened
from search.workers.patience import Patience
from search.workers.stop import Stop
from studies.states import WorkEnd

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class Forked:
    """A forked process, with what is used of subprocess.Popen; `stdin` is our end of its pipe.

    `beats` is our end of the pipe for its beats, None where it has none.
    """

    def __init__(self, pid: int, stdin: IO[bytes], beats: Connection | None) -> None:
        self.pid, self.stdin, self.beats = pid, stdin, beats
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raise TimeoutExpired where it takes longer than `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() >= until:
                raise TimeoutExpired([str(self.pid)], timeout or 0.0)
            time.sleep(0.01)
        return code


def may_fork(started: Started) -> bool:
    """Whether a forked process can train as a new one would.

    The trainer must say so (`forks`): ours of images holds tensors on the CPU and nothing that
    runs. A GPU does not outlive a fork, nor does a thread: what it holds stays locked for ever.
    """
    return (
        started.n_workers > 1
        and started.site.device == "cpu"
        and sys.platform == "linux"
        and threading.active_count() == 1
        and threading.current_thread() is threading.main_thread()
        and bool(getattr(started.trainer, "forks", False))
    )


@contextmanager
def forked(engine: Engine, started: Started) -> Iterator[list[Forked]]:
    """Give the workers of a start, at work already; none where that may not be.

    They end with the block. Call it before any thread is started.
    """
    workers: list[Forked] = []
    try:
        if may_fork(started):
            # An open connection would be shared: SQLite's locks would not hold in a child.
            engine.dispose()
            url = engine.url.render_as_string(hide_password=False)
            for number in range(started.n_workers):
                file = log_file(started, number)
                ours, theirs = pipe(engine, started)
                work = partial(_work, url, started, theirs)
                workers.append(_fork(work, file, before=workers, beats=ours))
                if theirs is not None:
                    theirs.close()
        yield workers
    finally:
        for worker in workers:
            worker.stdin.close()


def log_file(started: Started, number: int) -> Path:
    """Return where a worker of a start writes what it has to say; its folder is made."""
    folder = started.site.cache / "logs" / started.row.id
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"worker-{number}.log"


def _fork(
    call: Callable[[], int], file: Path, *, before: Sequence[Forked], beats: Connection | None
) -> Forked:
    """Fork a process that calls, in a session of its own, and exits with what that returns.

    It holds no other end of the pipes to the workers `before`, so that each of them sees it when
    we are gone. `beats` is our end of its pipe for beats.
    """
    reads, writes = os.pipe()
    begun, begins = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what waits in a buffer would be written twice
    pid = os.fork()
    if not pid:
        _be(
            call,
            file,
            stdin=reads,
            begins=begins,
            not_ours=(writes, begun),
            before=before,
            beats=beats,
        )
    os.close(reads)
    os.close(begins)
    os.read(begun, 1)  # from here on its process group is there, and can be killed
    os.close(begun)
    return Forked(pid, os.fdopen(writes, "wb", buffering=0), beats)


def _be(
    call: Callable[[], int],
    file: Path,
    *,
    stdin: int,
    begins: int,
    not_ours: Sequence[int],
    before: Sequence[Forked],
    beats: Connection | None,
) -> NoReturn:
    """Be the forked process."""
    code = EXIT_NO_RESULT  # as Python ends with an exception that nobody catches
    try:
        for worker in before:
            worker.stdin.close()
        for end in (beats, *(worker.beats for worker in before)):
            if end is not None:
                end.close()
        for descriptor in not_ours:
            os.close(descriptor)
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        os.write(begins, b".")
        os.close(begins)
        _redirect(file, stdin=stdin)
        code = call()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:
        ending = ending_of(error)
        if ending is None:
            traceback.print_exc()
        else:
            code = ending.code
            print(ending.text, file=sys.stderr)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Not sys.exit(): what the parent does at its own end is not ours to do.
        os._exit(code)


def _redirect(file: Path, *, stdin: int) -> None:
    """Let stdin be the pipe, and what is printed and logged go to the file."""
    output = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for ours, theirs in ((stdin, _STDIN), (output, _STDOUT), (output, _STDERR)):
        os.dup2(ours, theirs)
    os.close(stdin)
    os.close(output)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(_STDIN, "r", closefd=False),
        os.fdopen(_STDOUT, "w", closefd=False),
        os.fdopen(_STDERR, "w", buffering=1, closefd=False),
    )
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)


def _work(url: str, started: Started, beats: Connection | None) -> int:
    """Be a worker; return its exit code."""
    from threadpoolctl import threadpool_limits

    # A new process reads this as it begins; here numpy, scipy and torch have begun already, and
    # threads of two workers would wait for each other.
    n_threads = os.environ.setdefault("OMP_NUM_THREADS", "1").partition(",")[0]
    threadpool_limits(int(n_threads) if n_threads.isdecimal() else 1)
    stop = Stop()
    stop_at_end_of_stdin(stop)
    with stop.on_signals(), opened(url, patiently=Patience(stop)) as engine:
        together = None if beats is None else Piped(beats, started.row)
        ended = work_as_started(engine, started, stop, together=together)
        leave(started.row, ended, site=started.site, stop=stop, only=started.only)
    return EXIT_NO_RESULT if ended == WorkEnd.FAILED else EXIT_FINISHED
