"""Checkpoints: whole or absent, whatever kills the writer or damages the file."""

import hashlib
import io
import logging
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trainers.checkpoint import Checkpoint

# Saves ever new states of 4 MB and says so, until it is killed.
WRITER = """
import sys
from pathlib import Path
import torch
from trainers.checkpoint import Checkpoint
checkpoint, number = Checkpoint(Path(sys.argv[1])), 0
while True:
    checkpoint.save({"number": number, "weights": torch.full((1_000_000,), float(number))})
    print(number, flush=True)
    number += 1
"""

# Saves one state, then is killed in the middle of the second: half of its bytes are on disk.
KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
import torch
from trainers.checkpoint import Checkpoint
checkpoint = Checkpoint(Path(sys.argv[1]))
checkpoint.save({"number": 0, "weights": torch.zeros(100_000)})
os.fsync = lambda fd: (os.truncate(fd, 200_000), os.kill(os.getpid(), signal.SIGKILL))
checkpoint.save({"number": 1, "weights": torch.ones(100_000)})
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "study" / "17.pt")


def test_what_was_saved_last_is_loaded(checkpoint: Checkpoint) -> None:
    state = {
        "model": torch.nn.Linear(3, 2).state_dict(),
        "generator": torch.get_rng_state(),
        "points": [[0, 0.1, 2.3, None]],
        "seed": 2**63 - 1,
        "loss": torch.tensor(0.1, dtype=torch.bfloat16),
    }
    checkpoint.save({"seed": 1})
    checkpoint.save(state)
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded["model"][name], w) for name, w in state["model"].items())
    assert torch.equal(loaded["generator"], state["generator"])
    assert (loaded["points"], loaded["seed"]) == (state["points"], state["seed"])
    assert loaded["loss"].dtype == torch.bfloat16
    assert os.listdir(checkpoint.path.parent) == ["17.pt"]


def test_there_is_nothing_to_load_at_first(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    assert checkpoint.load() is None
    assert caplog.records == []


@pytest.mark.parametrize("round_", range(2))
def test_a_writer_killed_at_any_moment_leaves_a_whole_state(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture, round_: int
) -> None:
    command = [sys.executable, "-c", WRITER, str(checkpoint.path)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    try:
        assert select.select([writer.stdout], [], [], 60)[0], "the writer said nothing"
        time.sleep(0.05 + 0.013 * round_)
    finally:
        writer.send_signal(signal.SIGKILL)
        written, _ = writer.communicate()
    loaded = checkpoint.load()
    assert loaded is not None
    assert caplog.records == []
    last = int(written.split()[-1])
    assert loaded["number"] in (last, last + 1)  # replaced, and killed before it said so
    assert torch.equal(loaded["weights"], torch.full((1_000_000,), float(loaded["number"])))
    checkpoint.remove()
    assert os.listdir(checkpoint.path.parent) == []


def test_half_a_state_on_disk_leaves_the_one_before_whole(checkpoint: Checkpoint) -> None:
    command = [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(checkpoint.path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(os.listdir(checkpoint.path.parent)) == 2  # the draft is there, half written
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded["number"] == 0
    checkpoint.save({"number": 2})
    assert checkpoint.load() == {"number": 2}
    checkpoint.remove()
    assert os.listdir(checkpoint.path.parent) == []


def test_a_reader_of_the_old_file_is_not_disturbed_by_a_new_one(checkpoint: Checkpoint) -> None:
    checkpoint.save({"number": 0})
    before = checkpoint.path.read_bytes()
    with checkpoint.path.open("rb") as old:
        checkpoint.save({"number": 1})
        assert old.read() == before != checkpoint.path.read_bytes()


@pytest.mark.parametrize("damage", ["empty", "short", "truncated", "flipped", "longer", "text"])
def test_a_damaged_file_is_none_and_said_so(
    checkpoint: Checkpoint, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save({"weights": torch.arange(1000)})
    content = checkpoint.path.read_bytes()
    middle = len(content) // 2
    damaged = {
        "empty": b"",
        "short": content[:20],
        "truncated": content[:-1],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "longer": content + b"\0",
        "text": b"this was never a checkpoint, and is longer than a digest",
    }
    checkpoint.path.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING, logger="trainers.checkpoint"):
        assert checkpoint.load() is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(checkpoint.path) in record.getMessage()


class Touch:
    """What an attacker would pickle: loading it calls Path.touch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_file_with_pickled_objects_is_refused_and_runs_nothing(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    body = io.BytesIO()
    torch.save({"state": Touch(tmp_path / "owned")}, body)
    checkpoint.path.parent.mkdir()
    digest = hashlib.sha256(body.getvalue()).digest()
    checkpoint.path.write_bytes(digest + body.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load()
    assert not (tmp_path / "owned").exists()
    torch.load(io.BytesIO(body.getvalue()), weights_only=False)  # it would have been called
    assert (tmp_path / "owned").exists()


def test_remove_leaves_other_checkpoints_alone(checkpoint: Checkpoint) -> None:
    other = Checkpoint(checkpoint.path.with_name("171.pt"))
    checkpoint.save({"seed": 1})
    other.save({"seed": 2})
    (checkpoint.path.parent / "17.4711.tmp").write_bytes(b"what a killed writer left")
    checkpoint.remove()
    assert os.listdir(checkpoint.path.parent) == ["171.pt"]
    checkpoint.remove()  # nothing there is no error
    assert checkpoint.load() is None
