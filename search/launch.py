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
    while True:
        if stop.asked() and not told_to_stop:
            told_to_stop = True
            _terminate(workers)
        codes = [worker.process.poll() for worker in workers]
        if EXIT_USER_ERROR in codes:
            worker = workers[codes.index(EXIT_USER_ERROR)]
            raise UserError(f"worker {worker.number}: {_last_line(worker.log_file)}")
        again = (
            []
            if told_to_stop
            else [worker for worker, code in zip(workers, codes, strict=True) if _goes_on(code)]
        )
        for worker in again:
            _restart(engine, started, worker)
        if not again and None not in codes:
            break
        time.sleep(0.1)
    if stop.asked():
        return "stopped"
    return "failed" if EXIT_NO_RESULT in codes else "finished"


def _goes_on(code: int | None) -> bool:
    """Whether a worker that ended with `code` is to be started again: killed, or out of memory."""
    return code is not None and code not in (EXIT_FINISHED, EXIT_NO_RESULT)


def _restart(engine: Engine, started: Started, worker: Local) -> None:
    """Start a worker that has ended again, with the same number and log file.

    One that gave its work back wants a new process, because a run went out of memory; one that
    died is given _MAX_RESTARTS more lives.
    """
    code = worker.process.returncode
    if code != EXIT_GIVEN_BACK:
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if worker.restarts == _MAX_RESTARTS:
            raise UserError(
                f"worker {worker.number} died {_MAX_RESTARTS + 1} times, last of {cause}; "
                f"its log: {worker.log_file}"
            )
        log.warning("worker %d died (%s); started again", worker.number, cause)
        worker.restarts += 1
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    worker.process = _spawn(engine, started, worker.number, worker.log_file)


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
