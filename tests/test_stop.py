"""What a signal asks for, and what a second one does: in programs of their own."""

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]

PROGRAM = """
import os
import sys
import time

from search.workers.stop import Stop

stop = Stop()
with stop.on_signals(), stop.taking_along(lambda: print("took them along", flush=True)):
    assert not stop.asked()
    for step in sys.argv[1:]:
        if step == "wait":
            time.sleep(0.25)
        else:
            os.kill(os.getpid(), int(step))
    assert stop.asked()
    print("stopped by", stop.signal, flush=True)
"""


def signalled(*steps: int | str) -> tuple[int, str]:
    command = [sys.executable, "-c", PROGRAM, *(format(step, "") for step in steps)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_asks_and_a_second_one_ends_the_process_with_what_it_started(number: int) -> None:
    assert signalled(number) == (0, f"stopped by {number}")
    assert signalled(number, "wait", number) == (-number, "took them along")
    assert signalled(signal.SIGUSR1, "wait", number) == (-number, "took them along")


def test_signals_that_come_together_are_one_request() -> None:
    assert signalled(*3 * [signal.SIGTERM]) == (0, "stopped by 15")
    assert signalled(signal.SIGINT, signal.SIGTERM) == (0, "stopped by 2")
