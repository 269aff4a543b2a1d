"""Talking to Slurm: submitting a batch script, and having this job started again."""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from search.errors import GivenBackError, UsageError

log = logging.getLogger(__name__)


def check_installed() -> None:
    """Raise UsageError where Slurm's commands are not to be had."""
    if shutil.which("sbatch") is None:
        raise UsageError("sbatch is not on the PATH: this needs a host of a Slurm cluster")


def submit_script(script: str, *, storage: str) -> str:
    """Submit a batch script with the database in its environment; return the id of the job.

    A command line or a script would show the database's password to others.
    """
    done = subprocess.run(
        ["sbatch", "--parsable"],
        input=script,
        env={**os.environ, "ONECYCLE_STORAGE": storage},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UsageError(f"sbatch refused the job: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]


@contextmanager
def coming_back() -> Iterator[None]:
    """Within a Slurm job, have the job started again when its work was given back at its limit.

    Only who was warned by USR1 knows that: a limit alone does not requeue a job, and after
    scancel's TERM it must stay away.
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
