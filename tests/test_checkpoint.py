"""Checkpoints: whole or absent, whatever kills the writer or damages the files."""

import hashlib
import io
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers.checkpoint import Checkpoint
from trainers.errors import CheckpointError

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

# Saves two states, then forks once for each call to the file system that the third save makes; the
# child kills itself before that call. Prints what is loaded after each, and how a child ended that
# was not killed.
KILLED_AT_EACH_CALL = """
import json, logging, os, shutil, signal, sys
from pathlib import Path
import torch
from trainers.checkpoint import Checkpoint

kept, path, fsync = Path(sys.argv[1]), Path(sys.argv[2]), os.fsync
before = Checkpoint(kept / path.name)
for number in (0, 1):
    before.save({"number": number})

def killed_at(call):
    calls = 0
    def count(*_):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
    def hook(event, arguments):
        if event in ("open", "os.mkdir", "os.rename", "os.remove"):
            count()
    checkpoint = Checkpoint(path)
    assert checkpoint.load() == {"number": 1}
    os.fsync = lambda fd: (count(), fsync(fd))
    sys.addaudithook(hook)
    checkpoint.save({"number": 2})

logging.disable()
found, call, status = [], 0, 1
while status != 0:
    call += 1
    shutil.rmtree(path.parent, ignore_errors=True)
    shutil.copytree(kept, path.parent)
    child = os.fork()
    if child == 0:
        killed_at(call)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    loaded = Checkpoint(path).load()
    found.append([loaded and loaded["number"], path.exists()])
print(json.dumps(found))
"""

# Saves a state, then finds the disk full in the middle of the next, then has room again.
DISK_FULL = """
import logging, resource, sys
from pathlib import Path
import torch
from trainers.checkpoint import Checkpoint

logging.basicConfig(format="%(message)s", stream=sys.stdout)
checkpoint = Checkpoint(Path(sys.argv[1]))
checkpoint.save({"number": 0})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
for number in (1, 2):
    checkpoint.save({"number": number, "weights": torch.zeros(100_000)})
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
    assert names(checkpoint) == ["17.previous.pt", "17.pt"]


@pytest.mark.parametrize("expected", [False, True])
def test_there_is_nothing_to_load_at_first(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture, expected: bool
) -> None:
    with caplog.at_level(logging.INFO, logger="trainers.checkpoint"):
        assert Checkpoint(checkpoint.path, expected=expected).load() is None
    said = f"no checkpoint at {checkpoint.path}: the run starts over"
    assert caplog.messages == [said] * expected


def names(checkpoint: Checkpoint) -> list[str]:
    return sorted(os.listdir(checkpoint.path.parent))


def sealed(body: bytes) -> bytes:
    return hashlib.sha256(body).digest() + body


def state_file(state: object) -> bytes:
    body = io.BytesIO()
    torch.save(state, body)
    return sealed(body.getvalue())


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
    newest = checkpoint.path.exists()
    loaded = checkpoint.load()
    assert loaded is not None
    assert len(caplog.records) == (not newest)
    last = int(written.split()[-1])
    assert loaded["number"] in (last, last + 1)  # replaced, and killed before it said so
    assert torch.equal(loaded["weights"], torch.full((1_000_000,), float(loaded["number"])))
    checkpoint.remove()
    assert not checkpoint.path.parent.exists()


def test_a_kill_before_any_call_to_the_file_system_leaves_a_whole_state(tmp_path: Path) -> None:
    folders = (str(tmp_path / "kept"), str(tmp_path / "study" / "17.pt"))
    command = [sys.executable, "-c", KILLED_AT_EACH_CALL, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    numbers = [number for number, _ in found]
    assert set(numbers) == {1, 2}
    assert numbers == sorted(numbers)
    assert [1, False] in found, "no kill between the two renames"
    assert len(found) >= 7  # mkdir, open, fsync, two renames, and the folder's open and fsync


def test_half_a_state_on_disk_leaves_the_one_before_whole(checkpoint: Checkpoint) -> None:
    command = [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(checkpoint.path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(names(checkpoint)) == 2  # the draft is there, half written
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded["number"] == 0
    checkpoint.save({"number": 2})
    assert checkpoint.load() == {"number": 2}
    checkpoint.remove()
    assert not checkpoint.path.parent.exists()


def test_a_reader_of_the_old_file_is_not_disturbed_by_a_new_one(checkpoint: Checkpoint) -> None:
    checkpoint.save({"number": 0})
    before = checkpoint.path.read_bytes()
    with checkpoint.path.open("rb") as old:
        checkpoint.save({"number": 1})
        assert old.read() == before != checkpoint.path.read_bytes()


DAMAGES = ["empty", "short", "truncated", "flipped", "longer", "text", "list", "torchless", "dir"]


def damage(file: Path, kind: str) -> None:
    """Put what is no state in the place of a checkpoint."""
    content = file.read_bytes()
    middle = len(content) // 2
    if kind == "dir":  # no bytes to be had: as from a disk that fails
        file.unlink()
        file.mkdir()
        return
    damaged = {
        "empty": b"",
        "short": content[:20],
        "truncated": content[:-1],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "longer": content + b"\0",
        "text": b"this was never a checkpoint, and is longer than a digest",
        "list": state_file([1, 2]),
        "torchless": sealed(b"not what torch wrote" * 9),
    }
    file.write_bytes(damaged[kind])


def loaded_with(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> tuple[dict[str, object] | None, list[str]]:
    """Load as another owner would; return the state and what was said."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="trainers.checkpoint"):
        loaded = Checkpoint(checkpoint.path, expected=True).load()
    return loaded, caplog.messages


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_gives_way_to_the_one_before_and_then_to_none(
    checkpoint: Checkpoint, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        checkpoint.save({"number": number, "weights": torch.arange(1000)})
    damage(checkpoint.path, kind)
    loaded, (said,) = loaded_with(checkpoint, caplog)
    assert loaded is not None
    assert loaded["number"] == 1
    assert said.startswith(f"checkpoint {checkpoint.path} ")
    assert said.endswith(": the run resumes from the one before")
    damage(checkpoint.previous, kind)
    loaded, (said,) = loaded_with(checkpoint, caplog)
    assert loaded is None
    assert str(checkpoint.path) in said
    assert str(checkpoint.previous) in said
    assert said.endswith(": the run starts over")
    checkpoint.previous.rmdir() if kind == "dir" else checkpoint.previous.unlink()
    loaded, (said,) = loaded_with(checkpoint, caplog)
    assert loaded is None
    assert str(checkpoint.previous) not in said
    assert said.endswith(": the run starts over")


def test_a_damaged_file_never_takes_the_place_of_the_one_before(checkpoint: Checkpoint) -> None:
    for number in (1, 2):
        checkpoint.save({"number": number})
    damage(checkpoint.path, "flipped")
    owner = Checkpoint(checkpoint.path)
    assert owner.load() == {"number": 1}
    owner.save({"number": 3})
    damage(checkpoint.path, "flipped")
    assert Checkpoint(checkpoint.path).load() == {"number": 1}
    owner.save({"number": 4})
    assert Checkpoint(checkpoint.path).load() == {"number": 4}


@pytest.mark.parametrize("kind", ["file", "loop"])
def test_a_folder_out_of_reach_stops_nothing_and_is_told_once(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.write_text("") if kind == "file" else folder.symlink_to("folder")
    checkpoint = Checkpoint(folder / "study" / "17.pt")
    loaded, (said,) = loaded_with(checkpoint, caplog)
    assert loaded is None
    assert said.startswith(f"checkpoint {checkpoint.path} cannot be read (")
    assert said.endswith(": the run starts over")
    caplog.clear()
    for number in range(3):
        checkpoint.save({"number": number})
    checkpoint.remove()
    (said,) = caplog.messages
    assert said.startswith(f"checkpoint folder {folder}/study cannot be written: ")
    assert said.endswith("; training continues without, a new owner starts over")
    Checkpoint(checkpoint.path).remove()
    assert "cannot be removed" in caplog.messages[1]


def test_a_full_disk_costs_the_new_state_alone(checkpoint: Checkpoint) -> None:
    command = [sys.executable, "-c", DISK_FULL, str(checkpoint.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (said,) = done.stdout.splitlines()
    assert "File too large; training continues without" in said
    assert names(checkpoint) == ["17.pt"]
    assert checkpoint.load() == {"number": 0}


class Touch:
    """What an attacker would pickle: loading it calls Path.touch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_file_with_pickled_objects_is_refused_and_runs_nothing(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.path.parent.mkdir()
    content = state_file({"state": Touch(tmp_path / "owned")})
    checkpoint.path.write_bytes(content)
    loaded, (said,) = loaded_with(checkpoint, caplog)
    assert loaded is None
    assert said.endswith("holds no state (UnpicklingError): the run starts over")
    assert not (tmp_path / "owned").exists()
    torch.load(io.BytesIO(content[32:]), weights_only=False)  # it would have been called
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        (Path("somewhere"), "pathlib."),
        (np.float64(0.5), "numpy._core.multiarray.scalar"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (torch.Generator(), "torch._C.Generator"),
        (lambda: 1, "<lambda>"),
        (open, "io.open"),
        (threading.Lock(), "cannot pickle '_thread.lock' object"),
    ],
)
def test_what_could_not_be_read_back_is_refused_at_the_first_save(
    checkpoint: Checkpoint, content: object, culprit: str
) -> None:
    with pytest.raises(CheckpointError, match=r"allowed: tensors, numbers, text, .*dicts") as info:
        checkpoint.save({"state": {"best": content}})
    assert culprit in str(info.value)
    assert "\n" not in str(info.value)
    assert not checkpoint.path.parent.exists()


def test_remove_leaves_other_checkpoints_alone(tmp_path: Path) -> None:
    checkpoint, *others = (Checkpoint(tmp_path / "a" / f"{name}.pt") for name in ("1*", "17", "1"))
    for number, each in enumerate((checkpoint, *others, checkpoint, *others)):
        each.save({"number": number})
    for draft in ("1*.4711.tmp", "17.4711.tmp", "1.4711.tmp"):
        (tmp_path / "a" / draft).write_bytes(b"what a killed writer left")
    checkpoint.remove()
    assert names(checkpoint) == sorted(
        f"{name}.{end}" for name in ("1", "17") for end in ("pt", "previous.pt", "4711.tmp")
    )
    checkpoint.remove()  # nothing there is no error
    assert checkpoint.load() is None
    for other in others:
        other.remove()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_another_runs_end_took_away_is_made_again(checkpoint: Checkpoint) -> None:
    checkpoint.save({"number": 1})
    Checkpoint(checkpoint.path).remove()
    checkpoint.save({"number": 2})
    assert checkpoint.load() == {"number": 2}


def test_two_owners_who_write_at_once_leave_whole_states(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    def write(number: int) -> None:
        owner = Checkpoint(checkpoint.path)
        for _ in range(40):
            owner.save({"number": number, "weights": torch.full((1000,), number)})

    write(4)
    owners = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for owner in owners:
        owner.start()
    while any(owner.is_alive() for owner in owners):
        loaded = Checkpoint(checkpoint.path).load()
        assert loaded is not None
        assert set(loaded["weights"].tolist()) == {loaded["number"]}
    assert names(checkpoint) == ["17.previous.pt", "17.pt"]
    assert [said for said in caplog.messages if "is not there" not in said] == []
