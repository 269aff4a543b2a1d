"""Local workers: one process per device, restarted when killed, ended with their parent."""

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from search.errors import EXIT_FINISHED, EXIT_GIVEN_BACK, EXIT_NO_RESULT, EXIT_USER_ERROR
from search.plan import Started
from search.stop import Stop
from trainers.errors import UserError

log = logging.getLogger(__name__)

_MAX_RESTARTS = 3


@dataclass(slots=True)
class Local:
    """One local worker process and its log file."""

    number: int
    process: subprocess.Popen[bytes]
    log_file: Path
    restarts: int = 0


def run_workers(engine: Engine, started: Started, stop: Stop) -> str:
    """Run local workers until all have ended; return 'finished', 'failed' or 'stopped'.

    Raises UserError with the words of a worker that met something the user must fix.
    """
    folder = started.site.cache / "logs" / started.row.id
    folder.mkdir(parents=True, exist_ok=True)
    workers = [
        Local(
            n, _spawn(engine, started, n, folder / f"worker-{n}.log"), folder / f"worker-{n}.log"
        )
        for n in range(started.n_workers)
    ]
    try:
        return _watch(engine, started, workers, stop)
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.terminate()
            worker.process.wait()
            assert worker.process.stdin is not None
            worker.process.stdin.close()


def _watch(engine: Engine, started: Started, workers: list[Local], stop: Stop) -> str:
    told_to_stop = False
    while any(worker.process.poll() is None for worker in workers):
        if stop.asked() and not told_to_stop:
            told_to_stop = True
            _terminate(workers)
        for worker in workers:
            code = worker.process.poll()
            if code == EXIT_USER_ERROR:
                raise UserError(f"worker {worker.number}: {_last_line(worker.log_file)}")
            if code is not None and _died(code) and not told_to_stop:
                _restart(engine, started, worker)
        time.sleep(0.1)
    codes = [worker.process.returncode for worker in workers]
    if stop.asked():
        return "stopped"
    if EXIT_USER_ERROR in codes:
        worker = workers[codes.index(EXIT_USER_ERROR)]
        raise UserError(f"worker {worker.number}: {_last_line(worker.log_file)}")
    if EXIT_NO_RESULT in codes:
        return "failed"
    return "finished" if EXIT_FINISHED in codes else "stopped"


def _died(code: int) -> bool:
    """Whether a worker ended in a way it does not end by itself."""
    return code not in (EXIT_FINISHED, EXIT_NO_RESULT, EXIT_USER_ERROR, EXIT_GIVEN_BACK)


def _restart(engine: Engine, started: Started, worker: Local) -> None:
    code = worker.process.returncode
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if worker.restarts == _MAX_RESTARTS:
        raise UserError(
            f"worker {worker.number} died {_MAX_RESTARTS + 1} times, last of {cause}; "
            f"its log: {worker.log_file}"
        )
    log.warning("worker %d died (%s); started again", worker.number, cause)
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    worker.process = _spawn(engine, started, worker.number, worker.log_file)
    worker.restarts += 1


def _terminate(workers: list[Local]) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGTERM)


def _spawn(
    engine: Engine, started: Started, number: int, log_file: Path
) -> subprocess.Popen[bytes]:
    """Start one worker in a process group of its own, so that Ctrl-C reaches it through us.

    It holds the other end of our pipe: when we are gone, however that came, it gives back its
    work and ends. The database URL travels in the environment: a command line shows passwords.
    """
    command = [
        sys.executable,
        "-m",
        "search",
        "worker",
        "--study",
        started.row.name,
        "--device",
        started.site.device,
        "--until-stdin-closes",
    ]
    if started.site.data is not None:
        command += ["--data", str(started.site.data)]
    environment = {
        **os.environ,
        "ONECYCLE_STORAGE": engine.url.render_as_string(hide_password=False),
    }
    if started.site.device == "cuda":
        environment["CUDA_VISIBLE_DEVICES"] = _gpu(number)
    with log_file.open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _gpu(number: int) -> str:
    """Return the GPU of a worker: the visible ones in turn."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = named.split(",") if named else [str(n) for n in range(torch.cuda.device_count())]
    return visible[number % len(visible)]


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "ended without a word"
