"""Children that measure, one at a time or several at once, each until it ends or its time does."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu.setting import ROOT

Facts = dict[str, Any]


class FailedError(Exception):
    """What gave no figures, and why in one line."""


def measured(
    asks: Sequence[Facts], *, limit_s: float, env: Mapping[str, str] | None = None
) -> list[Facts]:
    """Return what each child measured; they begin their clocks together where they are several.

    Raises FailedError for one that failed, or where `limit_s` was not enough; all are ended then.
    """
    waits = len(asks) > 1
    ends_at = time.monotonic() + limit_s
    with ExitStack() as kept:
        children = [
            kept.enter_context(Child({**ask, "waits": waits}, env or {}, ends_at)) for ask in asks
        ]
        if waits:
            for child in children:
                child.line()  # ready
            for child in children:
                child.go()
        return [json.loads(child.line()) for child in children]


class Child:
    """A process that does the job `ask`, until `ends_at` of the monotonic clock at most."""

    def __init__(self, ask: Facts, env: Mapping[str, str], ends_at: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.child", json.dumps(ask)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **env},
        )
        self.said, self.is_late = "", False
        # Read meanwhile: a full pipe would stop it.
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        # A read from a child that hangs ends when the child does.
        self._clock = threading.Timer(max(0.0, ends_at - time.monotonic()), self._too_late)
        self._clock.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.cancel()
        self.process.kill()
        self.process.wait()
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said = line.strip() or self.said

    def _too_late(self) -> None:
        self.is_late = True
        self.process.kill()

    def go(self) -> None:
        """Let its clock begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """Return the next line that it prints; raise FailedError where it ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return line
        code = self.process.wait()
        self._listener.join()
        raise FailedError("its time was over" if self.is_late else f"{self.said} (exit {code})")


@contextmanager
def shared_by_mps(folder: Path) -> Iterator[Mapping[str, str]]:
    """Run NVIDIA's Multi-Process Service; give the environment that makes a process its client.

    The GPU's own settings stay. Raises FailedError where it is not installed or does not start.
    """
    program = shutil.which("nvidia-cuda-mps-control")
    if program is None:
        raise FailedError("nvidia-cuda-mps-control is not installed")
    places = {f"CUDA_MPS_{what}_DIRECTORY": str(folder / what.lower()) for what in ("PIPE", "LOG")}
    for place in places.values():
        Path(place).mkdir(parents=True)
    env = {**os.environ, **places}
    started = subprocess.run([program, "-d"], env=env, capture_output=True, text=True, check=False)
    if started.returncode:
        raise FailedError(f"MPS does not start: {(started.stderr or started.stdout).strip()}")
    try:
        yield places
    finally:
        subprocess.run([program], input="quit\n", env=env, text=True, check=False)
