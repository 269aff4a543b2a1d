"""Workers as a Slurm array: the batch script, its submission, and its requeue."""

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from search.errors import GivenBackError, UsageError
from search.starting.trackers import VARIABLE, Tracker
from search.text import file_name

# 'Due to the resolution of event handling by Slurm, the signal may be sent up to 60 seconds
# earlier than specified' (man sbatch, --signal).
WARNING_S = 120
"""So long before the time limit Slurm sends USR1; it may send it 60 s earlier still."""

# The warning may come 180 s before the end: this leaves a minute to start and to work.
MOST_WORKERS = 1_000
"""On one host, or in one array: Slurm's MaxArraySize is 1,001 unless it was raised."""
_MOST_TIME_MIN = 525_600  # a year
_MOST_CPUS = 65_533  # Slurm counts them in 16 bits

MIN_TIME_MIN = 4
"""A worker has to start, and to get on, before Slurm's warning may reach it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """How many workers one array has, and what Slurm gives to each of them.

    `sbatch` are further options of sbatch, such as '--account=ml'.
    """

    workers: int
    time_min: int
    gpus_per_worker: int = 0
    cpus_per_worker: int = 1
    partition: str | None = None
    sbatch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        limits = (
            ("workers", 1, MOST_WORKERS),
            ("time_min", MIN_TIME_MIN, _MOST_TIME_MIN),
            ("cpus_per_worker", 1, _MOST_CPUS),
        )
        for name, least, most in limits:
            if not least <= getattr(self, name) <= most:
                flag, value = name.replace("_", "-"), getattr(self, name)
                raise UsageError(
                    f"{flag} must be at least {least} and at most {most}, got {value}"
                )
        if self.partition is not None and not re.fullmatch(r"[^\s,=]\S*", self.partition):
            raise UsageError(f"--partition {self.partition!r}: must be one word")
        if self.gpus_per_worker not in (0, 1):
            raise UsageError(
                f"gpus-per-worker must be 0 or 1, got {self.gpus_per_worker}: a worker trains on "
                "one GPU; more workers use more"
            )
        for option in self.sbatch:
            if not re.fullmatch(r"-\S.*", option):
                raise UsageError(f"--sbatch {option!r}: must be an option such as --account=ml")


def batch_script(study: str, batch: Batch, *, data: Path | None = None) -> str:
    """Return the batch script of an array of workers on a stored study."""
    name = _job_name(study)
    options = [
        f"--job-name={name}",
        f"--array=0-{batch.workers - 1}",
        f"--time={batch.time_min}",
        f"--cpus-per-task={batch.cpus_per_worker}",
        *([f"--gres=gpu:{batch.gpus_per_worker}"] if batch.gpus_per_worker else []),
        *([f"--partition={batch.partition}"] if batch.partition is not None else []),
        f"--output={name}-%A_%a.log",
        # A job that is started again would empty its log.
        "--open-mode=append",
        "--requeue",
        # B: only the batch script's process, in whose place the worker is (man sbatch).
        f"--signal=B:USR1@{WARNING_S}",
        *batch.sbatch,
    ]
    worker = ["worker", "--study", study, "--device", "cuda" if batch.gpus_per_worker else "cpu"]
    if data is not None:
        worker += ["--data", str(data.expanduser().resolve())]
    lines = "\n".join(f"#SBATCH {option}" for option in options)
    return f"""\
#!/bin/bash
{lines}

# The database is the ONECYCLE_STORAGE that sbatch was called with, and trackers are those of
# ONECYCLE_TRACK.
export OMP_NUM_THREADS={batch.cpus_per_worker}

# exec puts the worker in the place of this shell, so that Slurm's signals reach it. USR1 (the time
# limit is near): checkpoint, give the work back, requeue. TERM (scancel): the same, no requeue.
exec {shlex.join([*_program(), *worker])}
"""


def _job_name(study: str) -> str:
    """Return the name of a study's jobs; a file name in which Slurm replaces nothing."""
    return "onecycle-" + re.sub(r"[^\w.-]", "_", file_name(study))


def _program() -> list[str]:
    """Return this installation's own command, so that a job needs no environment activated."""
    command = Path(sys.executable).with_name("onecycle")
    return [str(command)] if command.exists() else [sys.executable, "-m", "search"]


log = logging.getLogger(__name__)


def check_installed() -> None:
    """Raise UsageError where Slurm's commands are not installed."""
    if shutil.which("sbatch") is None:
        raise UsageError("sbatch is not on the PATH: this needs a host of a Slurm cluster")


def submit_script(script: str, *, storage: str, track: Sequence[Tracker] = ()) -> str:
    """Submit a batch script with database and trackers in its environment; return the job's id.

    A command line or a script would show their passwords to others.
    """
    done = subprocess.run(
        ["sbatch", "--parsable"],
        input=script,
        env={
            **os.environ,
            "ONECYCLE_STORAGE": storage,
            VARIABLE: "\n".join(each.text for each in track),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UsageError(f"sbatch refused the job: {' '.join(done.stderr.split())}")
    # In a federation the cluster's name follows the id (man sbatch, --parsable).
    return done.stdout.strip().partition(";")[0]


@contextmanager
def coming_back() -> Iterator[None]:
    """Within a Slurm job, requeue the job when its work was given back at its time limit.

    Only a worker that USR1 warned knows that. A limit alone does not requeue a job, and after
    scancel's TERM it must not be requeued.
    """
    try:
        yield
    except GivenBackError as given_back:
        job = os.environ.get("SLURM_JOB_ID")
        if given_back.start_again and job is not None:
            _requeue(job)
        raise


def _requeue(job: str) -> None:
    log.info("job %s asks Slurm to be started again", job)
    try:
        subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        log.warning("job %s is not requeued: %s", job, " ".join(reason.split()))
