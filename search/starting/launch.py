"""Local workers: one process per device, restarted when killed, ended with their parent."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import Engine

from search.errors import EXIT_FINISHED, EXIT_GIVEN_BACK, EXIT_NO_RESULT, EXIT_USER_ERROR
from search.queue.rows import MAX_DEATHS, count_ended, stored_study
from search.queue.together import Gatherer
from search.shadowed import own_in
from search.starting.beats import gatherer_of, pipe, serve
from search.starting.cost import Started
from search.starting.forked import Forked, log_file
from search.starting.travel import packed
from search.workers.patience import START_PATIENCE_S, Patience
from search.workers.stop import Stop
from studies.database import reading
from studies.errors import DatabaseUnreachableError
from studies.states import WorkEnd
from trainers.errors import UserError
from trainers.gpus import gpu_of

log = logging.getLogger(__name__)

_MAX_RESTARTS = MAX_DEATHS
"""In a row, without a run of the study ended in between: enough for a run that kills its process
to be given up."""


@dataclass(slots=True)
class Local:
    """One local worker process, its log file, the Study object that travels to it, and what
    writes its beats with those of the others."""

    number: int
    process: "subprocess.Popen[bytes] | Forked"
    log_file: Path
    gatherer: Gatherer
    restarts: int = 0
    ended_runs: int = 0
    luggage: IO[bytes] | None = None


def run_workers(
    engine: Engine, started: Started, stop: Stop, begun: Sequence[Forked] = ()
) -> WorkEnd:
    """Run local workers until all have ended; those that have `begun` are the first.

    Raises UserError with the words of a worker that met something the user must fix. A second
    signal kills the workers with this process.
    """
    workers: list[Local] = []
    gatherer = gatherer_of(engine, started)
    with packed(started.definition) as luggage, stop.taking_along(lambda: _kill(workers)):
        try:
            for n, process in enumerate(begun):
                file = log_file(started, n)
                workers.append(Local(n, process, file, gatherer, luggage=luggage))
                serve(gatherer, process.beats)
            for n in range(len(begun), started.n_workers):
                file = log_file(started, n)
                process_of_its_own = _spawn(engine, started, n, file, gatherer, luggage=luggage)
                workers.append(Local(n, process_of_its_own, file, gatherer, luggage=luggage))
            return _watch(engine, started, workers, stop)
        finally:
            _end(workers, within_s=started.row.grace_s)


def _watch(engine: Engine, started: Started, workers: list[Local], stop: Stop) -> WorkEnd:
    told_to_stop = False
    while True:
        if stop.asked() and not told_to_stop:
            told_to_stop = True
            _ask_to_stop(workers)
        codes = [worker.process.poll() for worker in workers]
        if EXIT_USER_ERROR in codes:
            _check_stored(engine, started)
            worker = workers[codes.index(EXIT_USER_ERROR)]
            raise UserError(f"worker {worker.number}: {_last_line(worker.log_file)}")
        again = (
            []
            if told_to_stop
            else [worker for worker, code in zip(workers, codes, strict=True) if _goes_on(code)]
        )
        if again:
            _check_stored(engine, started)
        for worker in again:
            _restart(engine, started, worker, stop)
        if not again and None not in codes:
            break
        time.sleep(0.1)
    if stop.asked():
        return WorkEnd.STOPPED
    return WorkEnd.FAILED if EXIT_NO_RESULT in codes else WorkEnd.FINISHED


def _check_stored(engine: Engine, started: Started) -> None:
    """Raise StudyDeletedError where the study was deleted, and its log files with it."""
    with suppress(DatabaseUnreachableError), reading(engine) as session:
        stored_study(session, started.row)


def _goes_on(code: int | None) -> bool:
    """Whether a worker that ended with `code` is to be started again: killed, or out of memory."""
    return code is not None and code not in (EXIT_FINISHED, EXIT_NO_RESULT)


def _restart(engine: Engine, started: Started, worker: Local, stop: Stop) -> None:
    """Start a worker that has ended again, with the same number and log file.

    One that gave its work back wants a new process, because a run went out of memory, or its
    database was away for longer than it waits: then this start ends like it. One that
    died is given _MAX_RESTARTS more lives, and all of them again when the study got on meanwhile.
    """
    code = worker.process.returncode
    assert code is not None
    if code == EXIT_GIVEN_BACK:
        Patience(stop, seconds=START_PATIENCE_S)(count_ended, engine, started.row.id)
    else:
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        with suppress(DatabaseUnreachableError):
            ended_runs = count_ended(engine, started.row.id)
            if ended_runs > worker.ended_runs:
                worker.ended_runs, worker.restarts = ended_runs, 0
        if worker.restarts == _MAX_RESTARTS:
            raise UserError(
                f"worker {worker.number} died {_MAX_RESTARTS + 1} times in a row, last of "
                f"{cause}; its log: {worker.log_file}; the same command resumes the study"
            )
        log.warning("worker %d died (%s); started again", worker.number, cause)
        worker.restarts += 1
    _ask_to_stop([worker])
    worker.process = _spawn(
        engine, started, worker.number, worker.log_file, worker.gatherer, luggage=worker.luggage
    )


def _ask_to_stop(workers: list[Local]) -> None:
    """Close our end of the pipes.

    A signal would be one too many: systemd and Slurm send theirs to the workers as well, and a
    second one ends a worker at once.
    """
    for worker in workers:
        assert worker.process.stdin is not None
        worker.process.stdin.close()


def _end(workers: list[Local], *, within_s: float) -> None:
    """Wait for workers that still run to give back their work, and kill those that do not."""
    _ask_to_stop(workers)
    until = time.monotonic() + within_s
    for worker in workers:
        try:
            worker.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("worker %d did not end within %g s: killed", worker.number, within_s)
            _kill([worker])
            worker.process.wait()


def _kill(workers: list[Local]) -> None:
    """Kill workers with what they started, such as the processes of a DataLoader."""
    for worker in workers:
        if worker.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(worker.process.pid, signal.SIGKILL)


def _spawn(
    engine: Engine,
    started: Started,
    number: int,
    log_file: Path,
    gatherer: Gatherer,
    *,
    luggage: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start one worker in a process group of its own, so that Ctrl-C reaches it through us.

    It holds the other end of our pipe: when we are gone, however that came, it gives back its
    work and ends.
    """
    command = [
        sys.executable,
        # Where a folder `trainers` of the user's lies here, it must not hide ours.
        *(["-P"] if own_in(Path.cwd()) else []),
        "-m",
        "search",
        "worker",
        "--study",
        started.row.name,
        "--device",
        started.site.device,
        "--until-stdin-closes",
    ]
    if started.only is not None:
        command += ["--only", started.only.value]
    if started.site.data is not None:
        command += ["--data", str(started.site.data)]
    ours, theirs = pipe(engine, started)
    handed = []
    for flag, file in (("--definition-fd", luggage), ("--beats-fd", theirs)):
        if file is not None:
            handed.append(file.fileno())
            command += [flag, str(file.fileno())]
    with log_file.open("ab") as output, theirs or nullcontext():
        process = subprocess.Popen(
            command,
            pass_fds=handed,
            env=_environment(engine, started, number),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    serve(gatherer, ours)
    return process


def _environment(engine: Engine, started: Started, number: int) -> dict[str, str]:
    """Return the environment of a worker: its database, its GPU, on a CPU its one thread.

    A command line would show the password of the database to every user of the machine.
    """
    environment = {
        **os.environ,
        "ONECYCLE_STORAGE": engine.url.render_as_string(hide_password=False),
    }
    if started.site.device == "cuda":
        environment["CUDA_VISIBLE_DEVICES"] = gpu_of(number)
    if started.site.device == "cpu":
        environment.setdefault("OMP_NUM_THREADS", "1")
    return environment


def _last_line(file: Path) -> str:
    try:
        lines = file.read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:  # deleted with its study
        lines = []
    return lines[-1].removeprefix("error: ") if lines else "ended without a word"
