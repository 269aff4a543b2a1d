"""Local workers: what they are given, and how they end with their parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sqlalchemy import URL, create_engine

from search.queue.together import Gatherer
from search.starting.beats import gatherer_of
from search.starting.cost import Started
from search.starting.launch import Local, _end, _spawn
from studies.registry import load
from studies.tables import StudyRow
from tests.conftest import TABLE_STUDY, plain
from tests.rows import query
from tests.table_study import Table
from tests.test_processes import descendants
from tests.waits import wait_for
from trainers.device import DeviceKind, Site

Start = Callable[..., "subprocess.Popen[str]"]

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def environment(process: "subprocess.Popen[bytes]") -> dict[str, str]:
    """Return the environment that a process began with, and end it."""
    file = Path(f"/proc/{process.pid}/environ")
    wait_for(lambda: "ONECYCLE_STORAGE" in file.read_text())
    content = file.read_text()
    process.kill()
    process.communicate()
    return dict(line.partition("=")[::2] for line in content.split("\0") if line)


def spawned(device: DeviceKind, number: int, folder: Path) -> dict[str, str]:
    """Return the environment of a worker that run_workers() would start."""
    site = Site(device=device, data=None, cache=folder)
    started = Started(
        row=StudyRow(name="table", beat_s=5.0),
        definition=load(str(TABLE_STUDY)),
        site=site,
        trainer=Table(site),
        costs=(),
        n_workers=3,
        images_per_s=1.0,
    )
    engine = create_engine(f"sqlite:///{folder}/studies.db")
    return environment(
        _spawn(engine, started, number, folder / "worker.log", gatherer_of(engine, started))
    )


@needs_proc
def test_each_worker_begins_with_its_own_gpu_and_they_wrap_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8f1c")
    begun = [spawned("cuda", number, tmp_path) for number in range(3)]
    assert [worker["CUDA_VISIBLE_DEVICES"] for worker in begun] == ["5", "GPU-8f1c", "5"]


@needs_proc
@pytest.mark.parametrize(("given", "threads"), [(None, "1"), ("4", "4")])
def test_a_worker_on_a_cpu_begins_with_one_thread_unless_the_user_says_otherwise(
    given: str | None, threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert spawned("cpu", 0, tmp_path)["OMP_NUM_THREADS"] == threads


SLOW_STUDY = """
import dataclasses
import os
import subprocess
import time

from tests.table_study import STUDY as TABLE
from tests.table_study import Table
from trainers.onecycle import OneCycle
from trainers.run import RunResult
from trainers.task import OwnLoop

STEP_S = os.environ["STEP_S"]


class Slow(Table):
    def fit(self, run):
        if isinstance(run.plan, OneCycle):
            subprocess.Popen(["sleep", STEP_S])
            time.sleep(float(STEP_S))
            if run.should_stop():
                return RunResult(
                    score=None, outcome="stopped", n_steps=0, n_images=0, seconds=0.0
                )
        return super().fit(run)


STUDY = dataclasses.replace(
    TABLE, name="slow", task=OwnLoop(factory=Slow, batch_size=10, steps_per_epoch=10)
)
"""


@pytest.fixture
def start_slow(
    sqlite_url: URL, start_onecycle: Start, tmp_path: Path
) -> Callable[[str], "subprocess.Popen[str]"]:
    """Start two workers on cycles of one step of so many seconds, and wait until both train."""

    def call(step_s: str) -> "subprocess.Popen[str]":
        study = tmp_path / "slow_study.py"
        study.write_text(SLOW_STUDY)
        flags = ("--storage", plain(sqlite_url), "--workers", "2", "--device", "cpu")
        process = start_onecycle("run", "--study", str(study), *flags, STEP_S=step_s)
        wait_for(lambda: len(descendants(process.pid)) == 4)
        return process

    return call


@needs_proc
def test_a_signal_to_the_parent_and_all_workers_gives_every_run_back(
    sqlite_url: URL, start_slow: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    """systemd and Slurm signal everything; the parent's own word must not be a second one."""
    run = start_slow("1.5")
    workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    for pid in [run.pid, *map(int, workers)]:
        os.kill(pid, signal.SIGUSR1)
    _, err = run.communicate(timeout=300)
    assert run.returncode == 75, err
    rows = query(sqlite_url, "SELECT state, max(failures) FROM work GROUP BY state ORDER BY state")
    assert rows == [("done", 0), ("waiting", 0)]
    assert not any(is_there(int(pid)) for pid in workers)


@needs_proc
def test_a_second_signal_ends_workers_within_a_long_step_with_all_they_started(
    start_slow: Callable[[str], "subprocess.Popen[str]"],
) -> None:
    run = start_slow("600")
    below = descendants(run.pid)
    run.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(0.5)
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == -signal.SIGTERM
    wait_for(lambda: not any(is_there(pid) for pid in below))


def test_a_worker_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    began = time.monotonic()
    gatherer = Gatherer(create_engine("sqlite://"))
    _end([Local(0, process, tmp_path / "worker.log", gatherer)], within_s=0.3)
    assert process.returncode == -signal.SIGKILL
    assert 0.3 <= time.monotonic() - began < 60
