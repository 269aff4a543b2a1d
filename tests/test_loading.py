"""A DataLoader's processes live through signals to the whole group, and end with their loop."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.conftest import ROOT, Ended, plain
from tests.rows import query
from tests.waits import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(signal, "sigwaitinfo"), reason="this system does not tell who sent a signal"
    ),
]

LOADER = """
import os
import signal
import subprocess

import torch
from torch.utils.data import DataLoader

from trainers.loading import ignore_stop_signals

STOPS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)

loader = DataLoader(
    torch.zeros(400), num_workers=2, persistent_workers=True, worker_init_fn=ignore_stop_signals
)
batches = iter(loader)
next(batches), next(batches)  # one of each process
got = []
for number in STOPS:  # only now, so that the processes did not inherit handlers
    signal.signal(number, lambda number, frame: got.append(number))
for number in STOPS:
    subprocess.run(["kill", f"-{number}", "--", f"-{os.getpgid(0)}"], start_new_session=True)
assert len(list(batches)) == 398
print(sorted(got) == sorted(STOPS))  # and ends while the processes wait for another epoch
"""


def test_batches_go_on_through_every_signal_and_the_processes_end_with_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADER],
        cwd=ROOT,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


STUDY = """
import os
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from studies.definition import Confirmation, RangeTest, Screening, Study
from trainers.loading import ignore_stop_signals
from trainers.onecycle import OneCycle
from trainers.run import Run, RunResult
from trainers.task import OwnLoop

HERE = Path(__file__).parent
SHIELDED = "SHIELDED" in os.environ


class Mean:
    def __init__(self, site):
        self.loader = DataLoader(
            torch.ones(160),
            batch_size=4,
            num_workers=2,
            worker_init_fn=ignore_stop_signals if SHIELDED else None,
        )

    def fit(self, run: Run) -> RunResult:
        if not isinstance(run.plan, OneCycle):
            return self.swept(run)
        try:
            return self.trained(run)
        except RuntimeError as error:
            (HERE / "raised").write_text(str(error))
            raise

    def swept(self, run: Run) -> RunResult:
        losses = [2.3 - 1.5 * lr / (lr + 0.01) + min(3, lr**2) for lr in run.plan.lrs()]
        for step, lr in enumerate(run.plan.lrs()):
            run.report(step, losses[step], lrs=[lr])
        return self.ended(None, len(losses))

    def trained(self, run: Run) -> RunResult:
        lrs = run.plan.lrs()
        for step, batch in enumerate(self.loader):
            run.report(step, batch.mean(), lrs=[lrs[step]])
            if step == 5:
                (HERE / "training").touch()
            time.sleep(0.1 if "SLOW" in os.environ else 0)
            if SHIELDED and run.should_stop():  # else the loader's error comes first, for sure
                return self.ended(None, step + 1, outcome="stopped")
        return self.ended(0.5 + run.seed % 100 / 1000, step + 1)

    def ended(self, score, n_steps, outcome="completed"):
        return RunResult(
            score=score,
            sealed_score=score,
            outcome=outcome,
            n_steps=n_steps,
            n_images=4 * n_steps,
            seconds=0.1,
        )


STUDY = Study(
    name="loader",
    task=OwnLoop(factory=Mean, batch_size=4, steps_per_epoch=10),
    screening=Screening(n_trials=2, epochs=4),
    diverged_value=0.1,
    range_test=RangeTest(n_sweeps=3, n_steps=60),
    confirmation=Confirmation(n_finalists=1, n_seeds=2),
)
"""


@pytest.mark.parametrize("shielded", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_signal_to_the_group_of_a_loop_with_a_loader_is_a_stop_and_never_a_failure(
    shielded: bool,
    sqlite_url: URL,
    start_onecycle: "Callable[..., subprocess.Popen[str]]",
    onecycle: Callable[..., Ended],
    tmp_path: Path,
) -> None:
    study = tmp_path / "loader_study.py"
    study.write_text(STUDY)
    run = ("run", "--study", str(study), "--storage", plain(sqlite_url), "--workers", "1")
    shield = {"SHIELDED": "1"} if shielded else {}
    first = start_onecycle(*run, SLOW="1", **shield)
    wait_for((tmp_path / "training").exists)
    os.killpg(first.pid, signal.SIGTERM)
    _, err = first.communicate(timeout=300)
    assert first.returncode == 75, err
    assert (tmp_path / "raised").exists() is not shielded
    states = "SELECT state, count(*), max(failures) FROM work WHERE stage = 'search' GROUP BY 1"
    assert query(sqlite_url, states) == [("waiting", 2, 0)]
    if not shielded:
        return
    second = onecycle(*run, **shield)
    assert second.code == 0, second.err
    rows = query(sqlite_url, "SELECT state, count(*), max(failures) FROM work GROUP BY state")
    assert rows == [("done", 4 + 2 + 4, 0)]
