"""Workers killed at random, the server restarted under them: the counts stay exact."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.postgres import PostgresServer


def torment(*flags: str, timeout_s: float) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", *flags],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.stdout, done.stderr
    counted: dict[str, object] = json.loads(done.stdout)
    assert counted["exact"], counted
    assert done.returncode == 0
    return counted


@pytest.mark.long
def test_workers_killed_on_a_server_that_restarts_lose_and_double_nothing(
    postgres_server: PostgresServer,
) -> None:
    counted = torment(
        "--workers", "4", "--trials", "40", "--restarts", "1", "--kill-every-s", "0.3",
        timeout_s=400,
    )  # fmt: skip
    assert counted["restarts"] == 1
    assert int(str(counted["kills"])) >= 2
    assert int(str(counted["takeovers"])) >= 1, "a kill hit a worker that held a run"


def test_workers_killed_on_a_sqlite_file_lose_and_double_nothing() -> None:
    counted = torment(
        "--sqlite", "--workers", "3", "--trials", "40", "--kill-every-s", "0.3", timeout_s=400
    )
    assert int(str(counted["kills"])) >= 2


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("flags", [(), ("--sqlite", "--workers", "4")])
def test_five_hundred_configurations_survive_a_kill_every_second(
    postgres_server: PostgresServer, flags: tuple[str, ...]
) -> None:
    assert torment(*flags, timeout_s=1400)["finished"] == 500
