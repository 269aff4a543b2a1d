"""Workers that are forked from the command line end, die and are replaced as others are."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.conftest import Ended
from tests.rows import query
from tests.test_launch import is_there
from tests.test_processes import SQLITE_SLOWLY, assert_exact, descendants, n_done, run_arguments
from tests.waits import wait_for

pytestmark = pytest.mark.slow

Start = Callable[..., "subprocess.Popen[str]"]
FORKS = {"TABLE_FORKS": "1", "TABLE_SLEEP_S": "0.01"}


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


@SQLITE_SLOWLY
def test_a_forked_worker_that_was_killed_is_replaced_and_the_count_is_exact(
    url: URL, start_onecycle: Start
) -> None:
    run = start_onecycle(*run_arguments(url, 2), **FORKS)
    wait_for(lambda: n_done(url) >= 2)
    workers = descendants(run.pid)
    assert [command_line(pid) for pid in workers] == [command_line(run.pid)] * 2, "no new program"
    assert len({os.getsid(pid) for pid in (run.pid, *workers)}) == 3, "Ctrl-C reaches us alone"
    os.kill(workers[0], signal.SIGKILL)
    _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert "died (SIGKILL); started again" in err
    assert_exact(url)


def test_forked_workers_give_their_work_back_when_the_command_is_killed(
    sqlite_url: URL, start_onecycle: Start, onecycle: Callable[..., Ended]
) -> None:
    run = start_onecycle(*run_arguments(sqlite_url, 3), **FORKS)
    wait_for(lambda: n_done(sqlite_url) >= 2)
    workers = descendants(run.pid)
    run.kill()
    run.communicate()
    wait_for(lambda: not any(map(is_there, workers)))
    assert query(sqlite_url, "SELECT count(*) FROM work WHERE state = 'running'") == [(0,)]
    again = onecycle(*run_arguments(sqlite_url, 2), TABLE_FORKS="1")
    assert again.code == 0, again.err
    assert_exact(sqlite_url)


def test_what_a_forked_worker_says_is_in_its_log_and_its_error_is_told(
    sqlite_url: URL, onecycle: Callable[..., Ended], tmp_path: Path
) -> None:
    study = tmp_path / "broken.py"
    study.write_text(
        "import dataclasses\n"
        "from tests.table_study import STUDY as TABLE, Table\n"
        "from trainers.errors import DataError\n"
        "from trainers.task import OwnLoop\n\n"
        "class Broken(Table):\n"
        "    def fit(self, run):\n"
        "        if run.plan.total_steps == 60:\n"
        "            raise DataError('the shelf is empty')\n"
        "        return super().fit(run)\n\n"
        "STUDY = dataclasses.replace(TABLE, task=OwnLoop(factory=Broken, batch_size=10,"
        " steps_per_epoch=10))\n"
    )
    url = sqlite_url.render_as_string(hide_password=False)
    flags = ("--study", str(study), "--storage", url, "--workers", "2", "--device", "cpu")
    ended = onecycle("run", *flags, TABLE_FORKS="1", PYTHONPATH=".")
    assert ended.code == 2, ended.err
    assert "error: worker 0: the shelf is empty" in ended.err.replace("worker 1", "worker 0")
    logs = list((tmp_path / "cache" / "logs").glob("*/worker-*.log"))
    assert any("the shelf is empty" in log.read_text() for log in logs)
