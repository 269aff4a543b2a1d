"""A study whose only worker is killed and stopped again and again: every row as undisturbed."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

# The command line, with a checkpoint at almost every epoch of a cycle that takes half a second.
DRIVER = """
import sys
from search.__main__ import main
from trainers import loop
from trainers.adapters import progress
loop._SECONDS_BETWEEN_CHECKPOINTS = 0.05
progress._SECONDS_BETWEEN_CHECKPOINTS = 0.05
sys.argv[0] = "onecycle"
main()
"""

SLOT = "w.stage, w.round, w.epochs, w.slot"
WORK = """w.candidate, w.replicate, w.state, w.failures, w.params, w.sweep_steps,
w.outcome, w.score, w.sealed_score, w.diverged_step, w.diverged_lr, w.n_steps, w.n_images, w.step,
w.curve"""
EPOCH = """e.epoch, e.lr_first, e.lr_last, e.train_loss, e.train_accuracy, e.validation_loss,
e.validation_accuracy"""
POINT = "p.step, p.lr, p.loss, p.grad_norm"
OF_WORK = f"JOIN work w ON w.id = work_id ORDER BY {SLOT}, 5"
FACTS = {
    "work": f"SELECT {SLOT}, {WORK} FROM work w ORDER BY {SLOT}",
    "epoch": f"SELECT {SLOT}, {EPOCH} FROM epoch e {OF_WORK}",
    "point": f"SELECT {SLOT}, {POINT} FROM point p {OF_WORK}",
    "study": "SELECT stage, edge, bracket_low, bracket_high, proposal FROM study",
    "Optuna": "SELECT state, count(*) FROM trials GROUP BY state",
}


@dataclass(frozen=True)
class Search:
    """One study in a database and a cache of its own."""

    folder: Path
    arguments: tuple[str, ...]

    @property
    def places(self) -> dict[str, str]:
        """Database and folders, as variables of the environment."""
        return {
            "ONECYCLE_STORAGE": f"sqlite:///{self.folder}/studies.db",
            "ONECYCLE_CACHE": str(self.folder / "cache"),
            "ONECYCLE_CHECKPOINTS": str(self.folder / "checkpoints"),
        }

    def start(self, driver: str = DRIVER) -> "subprocess.Popen[str]":
        """Start the only worker, in a group of processes of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", driver, "run", *self.arguments, "--workers", "1"],
            cwd=ROOT,
            env={**os.environ, **self.places},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """Return what the database answers."""
        with closing(sqlite3.connect(self.folder / "studies.db")) as database:
            return database.execute(statement).fetchall()

    def n_claims(self) -> int:
        """Return how many runs were begun or taken over so far."""
        try:
            ((n_claims,),) = self.ask("SELECT coalesce(sum(token), 0) FROM work")
        except sqlite3.OperationalError:  # there is no table yet
            return 0
        return int(str(n_claims))

    def is_checkpointed(self) -> bool:
        """Whether there is a checkpoint of any run."""
        return any(self.folder.glob("checkpoints/*/*.pt"))

    def facts(self) -> dict[str, list[tuple[object, ...]]]:
        """Return all that must not depend on who trained when."""
        return {name: self.ask(statement) for name, statement in FACTS.items()}

    def disturbed(self, number: signal.Signals, after_s: float) -> str:
        """Work, and be sent a signal so long after training began; return what was said."""
        n_claims = self.n_claims()
        with killed_at_last(self.start()) as worker:
            while self.n_claims() == n_claims or not self.is_checkpointed():
                assert worker.poll() is None, worker.communicate()
                time.sleep(0.005)
            time.sleep(after_s)
            # As systemd and clusters do: all processes of the group are met, a loader's too.
            os.killpg(worker.pid, number)
            _, said = worker.communicate(timeout=300)
        assert worker.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 75}[number], said
        return said


@contextmanager
def killed_at_last(worker: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    try:
        yield worker
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.communicate()


def to_the_end(worker: "subprocess.Popen[str]") -> None:
    """Wait until nothing is left to do."""
    with killed_at_last(worker):
        _, said = worker.communicate(timeout=1000)
    assert worker.returncode == 0, said


def compare(tmp_path: Path, arguments: tuple[str, ...], seed: int, n_signals: int) -> None:
    """Bring one study to its end twice, undisturbed and disturbed, and compare every row."""
    draw = random.Random(seed)
    signals = [signal.SIGTERM, signal.SIGKILL, signal.SIGKILL] * n_signals
    later = draw.sample(signals[: n_signals - 1], n_signals - 1)
    plan = [(signal.SIGKILL, 0.0), *((number, draw.uniform(0.05, 0.8)) for number in later)]
    undisturbed, disturbed = (Search(tmp_path / name, arguments) for name in ("one", "many"))
    for search in (undisturbed, disturbed):
        (search.folder / "checkpoints").mkdir(parents=True)
    with killed_at_last(undisturbed.start()) as reference:
        told = [disturbed.disturbed(*plan[0])]  # as soon as there is a checkpoint
        assert disturbed.is_checkpointed()
        told += [disturbed.disturbed(number, after_s) for number, after_s in plan[1:]]
        for worker in (disturbed.start(), reference):
            to_the_end(worker)
    assert disturbed.n_claims() > undisturbed.n_claims(), plan
    expected, found = undisturbed.facts(), disturbed.facts()
    for name, rows in expected.items():
        assert rows or name == "point", name  # only sweeps store points, and a study may skip them
        assert found[name] == rows, (name, plan, told)
    for search in (undisturbed, disturbed):
        assert os.listdir(search.folder / "checkpoints") == [], plan
