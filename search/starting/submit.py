"""Workers as a Slurm array: what each of them is given, as a batch script that reads well."""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from search.errors import UsageError

WARNING_S = 120
"""So long before the time limit Slurm sends USR1; it may send it 60 s earlier still."""

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
        for name, least in (("workers", 1), ("time_min", MIN_TIME_MIN), ("cpus_per_worker", 1)):
            if getattr(self, name) < least:
                flag = name.replace("_", "-")
                raise UsageError(f"{flag} must be at least {least}, got {getattr(self, name)}")
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
        "--open-mode=append",
        "--requeue",
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

# The database is the ONECYCLE_STORAGE that sbatch was called with.
export OMP_NUM_THREADS={batch.cpus_per_worker}

# exec puts the worker in the place of this shell, so that Slurm's signals reach it. USR1 (the time
# limit is near): checkpoint, give the work back, requeue. TERM (scancel): the same, no requeue.
exec {shlex.join([*_program(), *worker])}
"""


def _job_name(study: str) -> str:
    """Return the name of a study's jobs; a file name in which Slurm replaces nothing."""
    return "onecycle-" + re.sub(r"[^\w.-]", "_", study)


def _program() -> list[str]:
    """Return this installation's own command, so that a job needs no environment activated."""
    command = Path(sys.executable).with_name("onecycle")
    return [str(command)] if command.exists() else [sys.executable, "-m", "search"]
