"""Every command and every piece of code in the README does what it says."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.main import get_command

from search.__main__ import app
from tests.commands import parsed
from tests.conftest import ROOT, Ended, FinishedStudy, plain
from trainers.onecycle import OneCycle

PAGE = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CODE = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    part.strip()
    for language, text in BLOCKS
    if language == ""
    for line in text.splitlines()
    for part in line.partition("  #")[0].split("&&")
]
OURS = [line for line in COMMANDS if re.match(r"onecycle |python -m search", line)]

# What a reader has: a small net, and three splits of points in a square.
PROJECT = """
import lightning
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset


def points(n, seed):
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 0] > 0).long())


train_set, val_set, test_set = points(256, 0), points(128, 1), points(128, 2)


class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(8, 2))


class MyModule(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def training_step(self, batch, batch_idx):
        return cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())


class MyData(lightning.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(train_set, batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(val_set, batch_size=32)

    def test_dataloader(self):
        return DataLoader(test_set, batch_size=32)
"""
# The same for Transformers: rows of tokens, and a BERT of one layer.
TEXTS = """
from transformers import BertConfig, BertForSequenceClassification


def rows(n, seed):
    return [
        {"input_ids": [2 + (each * 7 + 2 * seed + at) % 40 for at in range(8)], "labels": each % 2}
        for each in range(n)
    ]


train_set, val_set, test_set = rows(256, 0), rows(64, 1), rows(64, 2)


def model():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=50, intermediate_size=32, num_labels=2, **sizes)
    return BertForSequenceClassification(config)


def metrics(told):
    return {"accuracy": float((told.predictions.argmax(-1) == told.label_ids).mean())}
"""


def started(folder: Path, command: str, *, more: tuple[str, ...] = ()) -> Ended:
    """Run a command of the README in a folder, by this checkout, with a database of its own."""
    line = re.sub(r"^(onecycle|python -m search(\.run)?) ", "", command)
    words = [*(["run"] if command.startswith("python -m search.run") else []), *shlex.split(line)]
    places = {
        "ONECYCLE_CACHE": str(folder / "cache"),
        "ONECYCLE_STORAGE": f"sqlite:///{folder}/studies.db",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "search", *words, *more],
        cwd=folder,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_the_page_is_short_enough_to_be_read() -> None:
    assert len(PAGE.splitlines()) <= 150


def test_the_commands_to_install_name_extras_that_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = re.findall(r"pip install -e '?\.(?:\[([\w,]+)\])?", "\n".join(COMMANDS))
    assert len(wanted) == 2
    for names in wanted:
        assert set(filter(None, names.split(","))) <= extras["optional-dependencies"].keys()


def test_what_is_a_command_of_ours_has_the_flags_that_are_there() -> None:
    lines = [*OURS, *re.findall(r"`(onecycle [^`]+)`", PAGE)]
    assert len(lines) >= 8
    for line in lines:
        command = line.replace("python -m search.run", "onecycle run")
        parsed(shlex.split(command)[1:])
    of_run = {flag for each in get_command(app).commands["run"].params for flag in each.opts}
    assert set(re.findall(r"`(--[\w-]+)", PAGE)) <= of_run


def test_the_study_of_the_first_command_ends_and_another_start_answers_at_once(
    finished_digits: FinishedStudy, onecycle: Callable[..., Ended]
) -> None:
    assert "python -m search.run --study digits" in COMMANDS
    assert finished_digits.ended.code == 0, finished_digits.ended.err
    first = json.loads(finished_digits.ended.out)
    again = onecycle(
        "run",
        *("--study", "digits", "--json"),
        ONECYCLE_STORAGE=plain(finished_digits.url),
        ONECYCLE_CACHE=str(finished_digits.cache),
    )
    assert again.code == 0, again.err
    assert json.loads(again.out)["recommended"] == first["recommended"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("code", "project"), list(zip(CODE, (PROJECT, PROJECT, TEXTS), strict=True))
)
def test_a_study_file_as_pasted_runs_to_its_answer(
    code: str, project: str, tmp_path: Path
) -> None:
    (tmp_path / "my_project.py").write_text(project)
    (tmp_path / "mine.py").write_text(code)
    (command,) = [line for line in re.findall(r"`(onecycle run[^`]+)`", PAGE) if "mine" in line]
    ended = started(tmp_path, command, more=("--trials", "3", "--json"))
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["onecycle_lr"]["max_lr"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_folder_of_images_needs_no_code(tmp_path: Path) -> None:
    for split, n in (("train", 24), ("val", 8), ("test", 8)):
        for label, brightness in (("dark", 60), ("light", 180)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for each in range(n):
                Image.new("RGB", (12, 12), (brightness + each, 90, 4 * each)).save(
                    folder / f"{each}.png"
                )
    (command,) = [line for line in OURS if "--data photos" in line]
    few = ("--budget", "range-test", "--set", "n_sweeps=1", "--set", "n_steps=60", "--json")
    ended = started(tmp_path, command, more=few)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["onecycle_lr"]["max_lr"] > 0


@pytest.mark.slow
def test_what_comes_after_a_study_works_on_it(
    finished_digits: FinishedStudy, tmp_path: Path
) -> None:
    (tmp_path / "studies.db").write_bytes(Path(str(finished_digits.url.database)).read_bytes())
    (tmp_path / "cache").symlink_to(finished_digits.cache)
    lrs = OneCycle(max_lr=0.1, total_steps=3910).lrs()
    (tmp_path / "train.log").write_text(
        "".join(f"epoch {n} lr {lrs[391 * n - 1]:.3e}\n" for n in range(1, 11))
    )
    after = [line for line in OURS if " run " not in line and "search.run" not in line]
    assert [line.split()[1] for line in after] == ["train", "export", "schedule", "diagnose"]
    told = {line.split()[1]: started(tmp_path, line) for line in after}
    assert {name: ended.code for name, ended in told.items()} == dict.fromkeys(told, 0), told
    assert (tmp_path / "model.pt").is_file()
    compile(told["export"].out, "export", "exec")
    assert "follows the plan" in told["diagnose"].out
