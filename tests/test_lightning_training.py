"""LightningTraining: real modules through Lightning's own Trainer, from sweep to answer."""

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from search import api
from search.final.loading import loading_lines
from studies.definition import Confirmation, RangeTest, Screening, Space, Study
from studies.protocol import declared
from tests.adapters import Searched, trained
from tests.conftest import ROOT, Ended, unavailable
from tests.killed import Search, compare, killed_at_last
from tests.learned import check_learned
from trainers.adapters.lightning import LightningTraining
from trainers.device import Site
from trainers.errors import DataError, TaskError
from trainers.final import facts_file
from trainers.run import Run, Trainer
from trainers.sweeps.sweep import Sweep

try:
    import lightning
except ModuleNotFoundError:
    unavailable("lightning is not installed")

HERE = Site(device="cpu", data=None, cache=Path())


def samples(n: int, seed: int) -> TensorDataset:
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, :3].sum(1) > 0).long())


class Data(lightning.LightningDataModule):
    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        self.parts = {
            name: samples(n, n) for name, n in (("train", 200), ("val", 96), ("test", 97))
        }

    def train_dataloader(self) -> Any:
        return DataLoader(self.parts["train"], self.hparams["batch_size"], shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.parts["val"], 48)

    def test_dataloader(self) -> Any:
        return DataLoader(self.parts["test"], 97)


class Net(lightning.LightningModule):
    def __init__(self, dropout: float = 0.2, form: str = "lists") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.form = form
        self.net = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.log("train_loss", loss, on_epoch=True)
        return {"loss": loss, "size": len(x)}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_acc", (self.net(x).argmax(1) == y).float().mean(), on_epoch=True)

    def configure_optimizers(self) -> Any:
        first, *rest = self.net.parameters()
        groups = [{"params": [first], "lr": 1e-3}, {"params": rest, "lr": 1e-2}]
        optimizer = torch.optim.AdamW(groups)
        if self.form == "bare":
            return optimizer
        rates = torch.optim.lr_scheduler
        steps = int(self.trainer.estimated_stepping_batches)
        if self.form == "dict":
            warm_up = rates.LambdaLR(optimizer, lambda step: step / steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warm_up}}
        return [optimizer], [rates.OneCycleLR(optimizer, [1e-3, 1e-2], total_steps=steps)]


def task(**changes: Any) -> LightningTraining:
    given: dict[str, Any] = {
        "module": lambda dropout=0.2: Net(dropout),
        "data": lambda batch_size=16: Data(batch_size),
        "monitor": "val_acc",
        "trainer": {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0},
    }
    return LightningTraining(**{**given, **changes})


def weights_in(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = Net.load_from_checkpoint(path, weights_only=False).state_dict()
    return state


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The study of the documents, on a small module, brought to its end."""
    folder = tmp_path_factory.mktemp("lightning")
    page = (ROOT / "docs" / "lightning-transformers.md").read_text()
    source = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    project = type(sys)("my_project")
    vars(project).update(MyModule=Net, MyData=Data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "my_project", project)
        patch.setenv("ONECYCLE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        names: dict[str, Any] = {}
        exec(source, names)
        study = dataclasses.replace(
            names["STUDY"],
            range_test=RangeTest(n_sweeps=1, n_steps=50),
            screening=Screening(n_trials=3, n_initial=2),
            confirmation=Confirmation(n_finalists=1, n_seeds=2),
        )
        storage = f"sqlite:///{folder}/a.db"
        result = api.run(study, storage=storage)
    left = {each.name for each in folder.iterdir()}
    assert {name for name in left if not name.startswith("a.db")} == {"cache"}
    return Searched(study, storage, result)


def test_the_study_of_the_documents_runs_to_its_answer(searched: Searched) -> None:
    answer = searched.answer
    assert answer.n_trials == 3
    # 200 samples in batches of 32 accumulated by 2: 7 batches, the last alone in its step.
    assert (answer.batch_size, answer.steps_per_epoch) == (64, 4)
    assert answer.metric.name == "val_acc"
    assert {"dropout"} <= answer.winner.params.keys()
    assert all(0.5 < each.validation.mean <= 1 for each in answer.candidates)
    check_learned(answer)


def test_the_final_model_is_a_checkpoint_that_scores_what_was_said(
    searched: Searched, tmp_path: Path
) -> None:
    final = api.train(searched.study, tmp_path / "net.ckpt", storage=searched.storage)
    (model,) = final.models
    assert final.loading == (f"model = YourModule.load_from_checkpoint({str(model.path)!r})",)
    net = Net.load_from_checkpoint(model.path).eval()
    assert net.hparams["dropout"] == searched.answer.recommended.params["dropout"]
    splits = {"validation": samples(96, 96).tensors, "test": samples(97, 97).tensors}
    scores = {
        name: float((net.net(x).argmax(1) == y).float().mean()) for name, (x, y) in splits.items()
    }
    assert model.facts.scores == pytest.approx(scores, abs=1e-6)
    # A module that saved no arguments is told those that were searched.
    bare = tmp_path / "bare.ckpt"
    content = torch.load(model.path, weights_only=True)
    del content["hyper_parameters"]
    torch.save(content, bare)
    facts_file(bare).write_text(model.facts.text())
    (line,) = loading_lines(bare, searched.study.task, "")
    names: dict[str, Any] = {"YourModule": Net}
    exec(line, names)
    assert names["model"].hparams == net.hparams


def test_what_is_read_of_module_and_loader() -> None:
    made = task()
    assert (made.batch_size, made.steps_per_epoch, made.adaptive) == (32, 7, True)
    assert made.direction == "maximize"
    assert made.own_values() == {"dropout": 0.2, "batch_size": 32}
    assert made.at(batch_size=64).steps_per_epoch == 4
    assert task(trainer={}).steps_per_epoch == 13
    with pytest.raises(ValueError, match="multiple of accumulate_grad_batches \\(2\\)"):
        made.at(batch_size=33)


def is_resumed(trainer: Trainer, folder: Path, *, total_steps: int, stop_after: int) -> None:
    """Check that a cycle that was stopped ends as one that was not, bit for bit."""
    for name in ("whole", "parts"):
        (folder / name).mkdir()
    whole = trained(trainer, weights_in, folder / "whole", total_steps=total_steps)
    first = trained(
        trainer, weights_in, folder / "parts", total_steps=total_steps, stop_after=stop_after
    )
    assert (first.result.outcome, first.result.n_steps) == ("stopped", stop_after)
    rest = trained(trainer, weights_in, folder / "parts", total_steps=total_steps)
    assert rest.result.outcome == "completed"
    assert rest.result.score == whole.result.score
    assert rest.is_that_of(whole)


@pytest.mark.parametrize(
    "stop_after",
    [3, pytest.param(7, marks=pytest.mark.long), pytest.param(13, marks=pytest.mark.long)],
)
def test_a_stopped_run_resumes_bit_for_bit(stop_after: int, tmp_path: Path) -> None:
    """Within an epoch, at its end, before the last step."""
    is_resumed(task().trainer(HERE), tmp_path, total_steps=14, stop_after=stop_after)


# The command line, killed in its second cycle, two steps after the last checkpoint.
DIES_WITHIN_A_CYCLE = """
import os, signal, sys
from search.__main__ import main
from trainers.adapters import progress
from trainers.checkpoint import Checkpoint
from trainers.final import facts_file
from trainers.run import Run, Trainer

progress._SECONDS_BETWEEN_CHECKPOINTS = 0.0
save, report, cycles = Checkpoint.save, Run.report, set()

def save_at_first(self, state):
    if state["state"]["step"] <= 7:
        save(self, state)

def report_and_die(self, step, *values, **named):
    report(self, step, *values, **named)
    cycles.add(self.seed)
    if len(cycles) == 2 and step == 9:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.save, Run.report = save_at_first, report_and_die
sys.argv[0] = "onecycle"
main()
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_worker_killed_within_a_cycle_is_resumed_exactly(
    tmp_path: Path, main_here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ("--study", str(ROOT / "tests" / "lightning_study.py"))
    killed, whole = (Search(tmp_path / name, study) for name in ("killed", "whole"))
    for search in (killed, whole):
        (search.folder / "checkpoints").mkdir(parents=True)
    with killed_at_last(killed.start(DIES_WITHIN_A_CYCLE)) as worker:
        _, said = worker.communicate(timeout=300)
    assert worker.returncode == -9, said
    assert killed.is_checkpointed()
    for search in (killed, whole):
        for name, place in search.places.items():
            monkeypatch.setenv(name, place)
        ended = main_here("run", *study, "--workers", "1")
        assert ended.code == 0, ended.err
    assert killed.n_claims() == whole.n_claims() + 1
    assert killed.facts() == whole.facts()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_study_with_loader_processes_killed_and_stopped_ends_in_the_same_rows(
    tmp_path: Path,
) -> None:
    file = tmp_path / "study.py"
    file.write_text(
        "from tests.lightning_study import study\n"
        "STUDY = study(epochs=4, n_workers=2, batch_sizes=(32, 64))\n"
    )
    compare(tmp_path, ("--study", str(file)), seed=1, n_signals=2)


def test_a_reported_loss_is_the_mean_of_the_batches_accumulated() -> None:
    """Held against the same steps by hand, the last of an epoch with a single batch."""
    x, y = (tensor[:112] for tensor in samples(112, 0).tensors)
    data = TensorDataset(x, y)
    loaders = {name: DataLoader(data, 16) for name in ("train", "validation", "test")}
    made = task(
        module=lambda: Net(0.0, "bare"), data=loaders, trainer={"accumulate_grad_batches": 2}
    )
    run = Run(plan=Sweep(start_lr=1e-12, end_lr=1e-11, total_steps=4), seed=0, split=None)
    made.trainer(HERE).fit(run)
    torch.manual_seed(0)
    net = Net(0.0)
    losses = [
        float(nn.functional.cross_entropy(net.net(x[i : i + 16]), y[i : i + 16]).detach())
        for i in range(0, 112, 16)
    ]
    pairs = [losses[0:2], losses[2:4], losses[4:6], losses[6:]]
    expected = [sum(pair) / len(pair) for pair in pairs]
    assert [point.loss for point in run.points] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", ["bare", "lists", "dict"])
def test_the_plan_takes_the_place_of_any_scheduler_and_groups_keep_their_ratio(form: str) -> None:
    made = task(module=lambda: Net(0.2, form), trainer={})
    run = Run(plan=Sweep(start_lr=1e-4, end_lr=1e-1, total_steps=20), seed=1, split=None)
    result = made.trainer(HERE).fit(run)
    assert (result.outcome, result.n_steps, result.score) == ("completed", 20, None)
    assert [p.lr for p in run.points] == pytest.approx(run.plan.lrs())
    ratios = {round(p.other_lrs[0] / p.lr, 6) for p in run.points}
    assert ratios == {10.0}
    assert all(p.momentum == pytest.approx(0.85) for p in run.points)
    assert all(p.grad_norm is not None for p in run.points)


class ByHand(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Two(Net):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([parameter], lr=0.1) for parameter in self.net[0].parameters()]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"module": ByHand}, TaskError, "ByHand optimizes by hand .*OwnLoop"),
        ({"module": Two}, TaskError, "returned 2 optimizers.*OwnLoop"),
        ({"module": Net()}, ValueError, r"module=lambda: Net\(\.\.\.\)"),
        ({"module": lambda dropout: Net(dropout)}, ValueError, "need a default"),
        ({"monitor": "val_thing"}, ValueError, "direction="),
        ({"trainer": {"max_epochs": 3}}, ValueError, "'max_epochs'.*epochs decide"),
        ({"trainer": {"devices": 2}}, ValueError, "one device"),
        ({"data": {"train": []}}, DataError, '"train", "validation" and "test"|train, validation'),
    ],
)
def test_what_cannot_be_searched_is_refused_with_a_way_on(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        task(**changes)


def test_a_monitor_that_is_not_logged_is_named_before_anything_is_trained() -> None:
    with pytest.raises(TaskError, match=r"monitor='val_f1' is not logged.*val_acc"):
        task(monitor="val_f1").trainer(HERE)


def test_data_without_a_test_split_is_found_at_the_start() -> None:
    loaders = {name: DataLoader(samples(64, 0), 16) for name in ("train", "validation")}
    with pytest.raises(DataError, match="test split"):
        task(data=loaders).trainer(HERE)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        x, y = samples(64, 5).tensors
        while True:
            yield from zip(x, y, strict=True)


def test_a_loader_without_a_length_needs_the_steps_and_then_trains(tmp_path: Path) -> None:
    fixed = DataLoader(samples(64, 0), 16)
    loaders = {"train": DataLoader(Endless(), 16), "validation": fixed, "test": fixed}
    with pytest.raises(ValueError, match="steps_per_epoch="):
        task(data=loaders)
    made = task(data=loaders, steps_per_epoch=5, trainer={})
    assert (made.batch_size, made.steps_per_epoch) == (16, 5)
    is_resumed(made.trainer(HERE), tmp_path, total_steps=10, stop_after=7)


def test_the_protocol_is_the_same_in_every_process() -> None:
    callback = lightning.pytorch.callbacks.LambdaCallback()
    study = Study(
        name="same",
        task=task(trainer={"callbacks": [callback]}),
        epochs=10,
        space=Space(extra={"dropout": (0.0, 0.5)}),
    )
    fields = declared(study, "")
    assert fields["task.options"] == "'callbacks=[LambdaCallback]'"
    assert " at 0x" not in str(fields)


def test_a_parameter_that_no_function_takes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'width'; they take: module \(dropout\)"):
        Study(name="x", task=task(), epochs=2, space=Space(extra={"width": (8, 16)}))
