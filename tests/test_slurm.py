"""Workers on a real Slurm: an array, its signals, its time limit, and a second start."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import URL

from search.errors import GivenBackError
from search.starting.slurm import coming_back
from search.starting.start import raise_if_stopped
from search.workers.stop import Stop
from tests.commands import parsed
from tests.conftest import ROOT, TABLE_STUDY, Ended, plain, unavailable
from tests.rows import query
from tests.slurm import SlurmCluster, missing_programs
from tests.test_processes import assert_exact
from tests.waits import wait_for

pytestmark = pytest.mark.slow

Main = Callable[..., Ended]
SCHEDULED = (str(ROOT / "deploy" / "slurm" / "scheduled.sh"),)
SUBMIT = ("submit", "--study", str(TABLE_STUDY))


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A running cluster; skipped where Slurm is not installed, or we are not root."""
    missing = missing_programs()
    if missing or os.geteuid() != 0:
        unavailable(f"Slurm needs {', '.join(missing) or 'root'}")
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


class Site:
    """A user's view: a database, a folder for logs, and the commands that submit."""

    def __init__(self, slurm: SlurmCluster, url: URL, folder: Path) -> None:
        self.slurm, self.url, self.folder = slurm, url, folder

    def submit(
        self,
        *flags: str,
        study: str = str(TABLE_STUDY),
        by: Sequence[str] = (sys.executable, "-m", "search", "submit"),
        **environment: str,
    ) -> Ended:
        """Run `onecycle submit`, or what calls it; the jobs use the code of this checkout."""
        done = subprocess.run(
            [*by, "--study", study, f"--sbatch=--chdir={self.folder}", *flags],
            cwd=ROOT,
            env={
                **os.environ,
                **self.slurm.environment,
                "ONECYCLE_STORAGE": plain(self.url),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def started(self, *flags: str, workers: int, **environment: str) -> str:
        """Submit, wait until every worker holds a run, and return the job's id."""
        ended = self.submit("--workers", str(workers), *flags, **environment)
        assert ended.code == 0, ended.err
        wait_for(lambda: self.n_running() == workers)
        return ended.out.strip()

    def logs(self) -> list[str]:
        """Return what the workers wrote, one text per task."""
        return [file.read_text() for file in sorted(self.folder.glob("*.log"))]

    def n_running(self) -> int:
        return int(query(self.url, "SELECT count(*) FROM work WHERE state = 'running'")[0][0])


@pytest.fixture
def site(slurm_cluster: SlurmCluster, postgres_url: URL, tmp_path: Path) -> Site:
    return Site(slurm_cluster, postgres_url, tmp_path)


# the batch script


def test_a_dry_run_prints_a_batch_script_and_stores_nothing(
    main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONECYCLE_STORAGE", f"sqlite:///{tmp_path}/a.db")
    ended = main_here(
        "submit", "--study", "cifar", "--name", "my cifar", "--workers", "8",
        "--gpus-per-worker", "1", "--cpus-per-worker", "2", "--time-min", "90",
        "--partition", "gpu", "--sbatch=--account=ml", "--data", str(tmp_path / "c i"),
        "--dry-run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert list(tmp_path.glob("*.db")) == []
    script = tmp_path / "job.sh"
    script.write_text(ended.out)
    subprocess.run(["bash", "-n", str(script)], check=True)
    options = re.findall(r"^#SBATCH (.*)$", ended.out, re.MULTILINE)
    assert {
        "--array=0-7", "--time=90", "--gres=gpu:1", "--cpus-per-task=2", "--partition=gpu",
        "--account=ml", "--requeue", "--signal=B:USR1@120", "--job-name=onecycle-my_cifar",
        "--open-mode=append",
    } <= set(options)  # fmt: skip
    last = ended.out.strip().splitlines()[-1]
    command = shlex.split(last)
    assert command[0] == "exec"
    name, flags = parsed(command[command.index("worker") :])
    assert name == "worker"
    assert flags["study"] == "my cifar"
    assert flags["device"] == "cuda"
    assert flags["data"] == tmp_path / "c i"


def test_without_a_gpu_the_script_asks_for_none(main_here: Main) -> None:
    ended = main_here(*SUBMIT, "--dry-run")
    assert "gpu" not in ended.out
    assert "--partition" not in ended.out
    assert ended.out.strip().endswith("worker --study table --device cpu")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--workers", "0"], ["workers", "at least 1", "got 0"]),
        (["--time-min", "3"], ["time-min", "at least 4", "got 3"]),
        (["--cpus-per-worker", "0"], ["cpus-per-worker", "at least 1", "got 0"]),
        (["--gpus-per-worker", "2"], ["gpus-per-worker", "0 or 1", "got 2"]),
        (["--sbatch", "account"], ["--sbatch 'account'", "--account=ml"]),
        (["--study", "nosuch"], ["'nosuch'", "digits"]),
    ],
)
def test_a_wrong_flag_is_refused(flags: list[str], words: list[str], main_here: Main) -> None:
    ended = main_here(*SUBMIT, *flags, "--dry-run")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert all(word in ended.err for word in words), ended.err


def test_no_slurm_and_no_server_are_refused_before_anything_is_stored(
    main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = ("--storage", f"sqlite:///{tmp_path}/a.db")
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = main_here(*SUBMIT, *storage)
    assert ended.code == 2
    assert "sbatch is not on the PATH" in ended.err
    (tmp_path / "sbatch").touch(mode=0o755)
    ended = main_here(*SUBMIT, *storage)
    assert ended.code == 2
    assert "cannot reach a SQLite file; use postgresql://" in ended.err
    assert list(tmp_path.glob("*.db")) == []


def test_a_job_that_cannot_be_requeued_says_so_and_ends_as_it_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", str(tmp_path))
    for start_again in (True, False):
        with pytest.raises(GivenBackError, match="given back"), coming_back():
            raise GivenBackError("given back", start_again=start_again)
    (warning,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert warning.startswith("job 7 is not requeued: ")
    assert "'scontrol'" in warning


def test_a_worker_comes_back_after_a_warning_and_out_of_memory_but_not_when_told_to_end() -> None:
    stop = Stop()
    with pytest.raises(GivenBackError) as given_back:
        raise_if_stopped("renew", stop)
    assert given_back.value.start_again
    for number, comes_back in ((signal.SIGUSR1, True), (signal.SIGTERM, False), (None, False)):
        stop.signal = number
        with pytest.raises(GivenBackError) as given_back:
            raise_if_stopped("stopped", stop)
        assert given_back.value.start_again is comes_back


# on a cluster


def test_an_array_brings_a_study_to_its_end_and_a_second_start_does_nothing(site: Site) -> None:
    job = site.submit("--workers", "2", by=SCHEDULED, TABLE_SLEEP_S="0.015")
    assert job.code == 0, job.err
    meanwhile = site.submit("--workers", "2", by=SCHEDULED)
    assert meanwhile.out == "onecycle-table: workers are still queued or at work\n"
    wait_for(lambda: not site.slurm.queue(), timeout_s=400)
    assert_exact(site.url)
    for task in (f"{job.out.strip()}_0", f"{job.out.strip()}_1"):
        assert site.slurm.job(task)["JobState"] == "COMPLETED"
    script = site.slurm.ask("scontrol", "write", "batch_script", job.out.strip(), "-")
    assert str(site.url.password) not in script + job.err + str(site.logs())
    again = site.submit("--workers", "2", by=SCHEDULED)
    assert (again.code, again.out) == (0, "")
    assert "nothing left to do" in again.err
    assert site.slurm.queue() == {}


def test_a_warned_and_a_requeued_task_give_their_work_back_and_come_back(site: Site) -> None:
    job = site.started(workers=2, TABLE_SLEEP_S="0.01")
    site.slurm.ask("scancel", "--signal=USR1", "--batch", f"{job}_0")
    site.slurm.ask("scontrol", "requeue", f"{job}_1")
    wait_for(lambda: site.n_running() == 0)
    wait_for(lambda: not site.slurm.queue(), timeout_s=400)
    for task in (f"{job}_0", f"{job}_1"):
        ended = site.slurm.job(task)
        assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1")
    assert_exact(site.url)
    assert query(site.url, "SELECT sum(failures), sum(deaths) FROM work") == [(0, 0)]
    asked = [len(re.findall("asks Slurm to be started again", log)) for log in site.logs()]
    assert asked == [1, 0], "on the warning alone"


def test_a_cancelled_worker_gives_its_work_back_and_stays_away(site: Site) -> None:
    job = site.started(workers=1, TABLE_SLEEP_S="0.05")
    site.slurm.ask("scancel", job)
    wait_for(lambda: not site.slurm.queue())
    assert site.n_running() == 0
    assert "asked to stop: work given back" in site.logs()[0]
    ended = site.slurm.job(f"{job}_0")
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0"), "it is not requeued"


def test_what_sbatch_refuses_is_said_in_one_line(site: Site) -> None:
    ended = site.submit("--partition", "nosuch")
    assert (ended.code, ended.err.strip().count("\n")) == (2, 0)
    assert "invalid partition specified: nosuch" in ended.err


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_task_that_meets_its_time_limit_goes_on_where_it_was(site: Site) -> None:
    job = site.started("--time-min", "4", workers=1, TABLE_SLEEP_S="0.15")
    wait_for(lambda: not site.slurm.queue(), timeout_s=800)
    ended = site.slurm.job(f"{job}_0")
    assert ended["JobState"] == "COMPLETED"
    assert int(ended["Restarts"]) >= 1
    assert_exact(site.url)
    assert query(site.url, "SELECT sum(failures), sum(deaths) FROM work") == [(0, 0)]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_array_brings_digits_to_its_end(site: Site) -> None:
    ended = site.submit("--workers", "2", study="digits")
    assert ended.code == 0, ended.err
    wait_for(lambda: not site.slurm.queue(), timeout_s=500)
    assert query(site.url, "SELECT stage FROM study") == [("finished",)]
    done = "SELECT count(*) FROM work WHERE stage = 'search' AND state = 'done'"
    assert query(site.url, done) == query(site.url, "SELECT n_trials FROM study")
