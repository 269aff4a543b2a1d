"""The exported answer runs as pasted: each form trains at the rates of the plan."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.results.result import StudyResult, load_result
from search.starting.opening import opened
from tests.conftest import Ended, Finished
from trainers.onecycle import OneCycle

# Each loop trains 4 epochs of 10 steps after the pasted code and leaves what every step got.
TORCH = """
import torch

weight = torch.ones(1, requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
scheduler = onecycle(optimizer, 4 * 10)
seen = []
for step in range(40):
    weight.grad = torch.ones(1)
    seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
    optimizer.step()
    scheduler.step()
"""

LIGHTNING = """
import lightning
import torch

seen = []


class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, index):
        return self.layer(batch).mean() ** 2

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0, momentum=0.9)
        return onecycle(optimizer, int(self.trainer.estimated_stepping_batches))

    def on_before_optimizer_step(self, optimizer):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))


loader = torch.utils.data.DataLoader(torch.randn(40, 2), batch_size=4)
quiet = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
lightning.Trainer(max_epochs=4, accelerator="cpu", **quiet).fit(Net(), loader)
"""

TRANSFORMERS = """
import sys

import torch
from transformers import TrainerCallback, TrainingArguments

seen = []


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x):
        return {"loss": self.layer(x).mean() ** 2}


class Look(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, optimizer, **rest):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))


arguments = TrainingArguments(
    output_dir=sys.argv[1],
    num_train_epochs=4,
    per_device_train_batch_size=4,
    optim="sgd",
    optim_args="momentum=0.9",
    use_cpu=True,
    report_to=[],
    disable_tqdm=True,
    save_strategy="no",
)
data = [{"x": x} for x in torch.randn(40, 2)]
trainer = OneCycleTrainer(Net(), arguments, train_dataset=data, callbacks=[Look()])
trainer.train()
"""


@pytest.fixture
def result(finished: Finished) -> StudyResult:
    with opened(finished.storage) as engine:
        return load_result(engine, "table")


@pytest.mark.parametrize(
    ("form", "loop", "needs"),
    [
        ("torch", TORCH, "torch"),
        pytest.param("lightning", LIGHTNING, "lightning", marks=pytest.mark.slow),
        pytest.param("transformers", TRANSFORMERS, "transformers", marks=pytest.mark.slow),
    ],
)
def test_the_pasted_code_trains_at_the_rates_and_momenta_of_the_answer(
    form: str,
    loop: str,
    needs: str,
    main_here: Callable[..., Ended],
    finished: Finished,
    result: StudyResult,
    tmp_path: Path,
) -> None:
    if importlib.util.find_spec(needs) is None:
        reason = f"{needs} is not installed: pip install 'onecycle-search[{needs}]'"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    code = main_here(
        "export", "--study", "table", "--storage", finished.storage, "--format", form
    ).out
    script, seen = tmp_path / "pasted.py", tmp_path / "seen.json"
    leave = f"\nimport json, pathlib\npathlib.Path({str(seen)!r}).write_text(json.dumps(seen))\n"
    script.write_text(code + loop + leave)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out")],
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(seen.read_text())
    assert [lr for lr, _ in got] == pytest.approx(result.plan.lrs(), rel=1e-12)
    assert [m for _, m in got] == pytest.approx(result.plan.momenta(), rel=1e-12)


def test_the_code_says_what_it_rests_on(
    main_here: Callable[..., Ended], finished: Finished, result: StudyResult
) -> None:
    out = main_here("export", "--study", "table", "--storage", finished.storage).out
    n = result.recommended.validation.n
    assert out.startswith(f"# Study table, n = {n} fresh seeds: accuracy in % ")
    assert "# Measured at 4 epochs of 10 steps with batches of 10." in out
    assert "epochs * len(train_loader) (40 here: 4 epochs x 10)" in out
    assert max(map(len, out.splitlines())) <= 100


def test_json_holds_the_plan(
    main_here: Callable[..., Ended], finished: Finished, result: StudyResult
) -> None:
    flags = ("--study", "table", "--storage", finished.storage, "--format", "json")
    document = json.loads(main_here("export", *flags).out)
    call = document["onecycle_lr"]
    assert call.pop("final_div_factor") == result.plan.final_div_factor
    assert OneCycle(**call) == result.plan
    assert document["verdict"] == result.verdict()


def test_a_form_or_study_that_is_not_there_is_one_line(
    main_here: Callable[..., Ended], finished: Finished
) -> None:
    flags = ("--storage", finished.storage)
    assert main_here("export", "--study", "table", *flags, "--format", "keras").code == 2
    ended = main_here("export", "--study", "nope", *flags)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "nope" in ended.err
