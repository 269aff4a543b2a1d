"""TransformersTraining: a tiny random BERT through Transformers' own Trainer, to the answer."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset

from search import api
from studies.definition import Confirmation, RangeTest, Screening
from tests.adapters import Searched, trained
from tests.conftest import ROOT, unavailable
from tests.killed import compare
from tests.learned import check_learned
from trainers.adapters.transformers import TransformersTraining
from trainers.device import Site
from trainers.errors import DataError, TaskError
from trainers.run import Run, Trainer
from trainers.sweeps.sweep import Sweep

try:
    import accelerate  # noqa: F401
    import transformers
except ModuleNotFoundError:
    unavailable("transformers and accelerate are not installed")

HERE = Site(device="cpu", data=None, cache=Path())


def config(**changes: Any) -> Any:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return transformers.BertConfig(vocab_size=20, intermediate_size=16, **sizes, **changes)


def model(dropout: float = 0.1) -> Any:
    return transformers.BertForSequenceClassification(config(hidden_dropout_prob=dropout))


def sentences(n: int, seed: int) -> list[dict[str, Any]]:
    words = torch.randint(1, 20, (n, 6), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": each, "labels": int(each[0] > 9)} for each in words]


SPLITS = {"validation": sentences(64, 1), "test": sentences(65, 2)}


def accuracy(predicted: Any) -> dict[str, float]:
    return {"accuracy": (predicted.predictions.argmax(-1) == predicted.label_ids).mean()}


def task(**changes: Any) -> TransformersTraining:
    given: dict[str, Any] = {
        "model": model,
        "args": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
        "train": sentences(96, 0),
        "evaluation": SPLITS,
        "metrics": accuracy,
        "monitor": "accuracy",
    }
    return TransformersTraining(**{**given, **changes})


def weights_in(folder: Path) -> dict[str, Any]:
    read = transformers.BertForSequenceClassification.from_pretrained(folder)
    state: dict[str, Any] = read.state_dict()
    return state


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The study of the documents, on a tiny model, brought to its end."""
    folder = tmp_path_factory.mktemp("transformers")
    page = (ROOT / "docs" / "lightning-transformers.md").read_text()
    source = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[1]
    project = type(sys)("my_project")
    vars(project).update(model=model, train_set=sentences(480, 0))
    vars(project).update(validation_set=SPLITS["validation"], test_set=SPLITS["test"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "my_project", project)
        patch.setenv("ONECYCLE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        names: dict[str, Any] = {}
        exec(source, names)
        study = dataclasses.replace(
            names["STUDY"],
            range_test=RangeTest(n_sweeps=1, n_steps=50),
            screening=Screening(n_trials=2, n_initial=1),
            confirmation=Confirmation(n_finalists=1, n_seeds=2),
        )
        storage = f"sqlite:///{folder}/a.db"
        result = api.run(study, storage=storage)
    left = {each.name for each in folder.iterdir() if not each.name.startswith("a.db")}
    assert left == {"cache"}, "Transformers wrote files of its own"
    return Searched(study, storage, result)


@pytest.mark.slow
def test_the_study_of_the_documents_runs_to_its_answer(searched: Searched) -> None:
    answer = searched.answer
    assert answer.n_trials == 2
    assert (answer.batch_size, answer.steps_per_epoch) == (32, 15)
    assert answer.metric.name == "eval_accuracy"
    assert "dropout" in answer.winner.params
    assert all(0 < each.validation.mean <= 1 for each in answer.candidates)
    check_learned(answer)


@pytest.mark.slow
def test_the_final_model_is_a_folder_that_scores_what_was_said(
    searched: Searched, tmp_path: Path
) -> None:
    final = api.train(searched.study, tmp_path / "bert", storage=searched.storage)
    (model,) = final.models
    assert final.loading[-1] == (
        f"model = BertForSequenceClassification.from_pretrained({str(model.path)!r})"
    )
    net = transformers.BertForSequenceClassification.from_pretrained(model.path).eval()
    dropout = searched.answer.recommended.params["dropout"]
    assert net.config.hidden_dropout_prob == pytest.approx(dropout)
    assert model.facts.scores == pytest.approx({name: share(net, SPLITS[name]) for name in SPLITS})


@torch.no_grad()
def share(net: Any, samples: list[dict[str, Any]]) -> float:
    """Return the share of sentences that a model labels right."""
    logits = net(input_ids=torch.stack([each["input_ids"] for each in samples])).logits
    labels = torch.tensor([each["labels"] for each in samples])
    return float((logits.argmax(-1) == labels).double().mean())


def test_what_is_read_of_arguments_and_data() -> None:
    made = task()
    assert (made.batch_size, made.steps_per_epoch, made.adaptive) == (16, 6, True)
    assert made.own_values() == {"dropout": 0.1, "batch_size": 16}
    assert made.at(batch_size=32).steps_per_epoch == 3
    sgd = task(args=lambda weight_decay=0.01: {"optim": "sgd", "weight_decay": weight_decay})
    assert (sgd.adaptive, sgd.weight_decay, sgd.batch_size) == (False, 0.01, 8)


def test_training_arguments_are_read_as_what_they_change(tmp_path: Path) -> None:
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=4, use_cpu=True
    )
    made = task(args=arguments)
    assert made.batch_size == 4
    assert "per_device_train_batch_size=4" in made.args
    assert str(tmp_path) not in made.args


def is_resumed(trainer: Trainer, folder: Path, *, stop_after: int) -> None:
    """Check that a cycle that was stopped ends as one that was not, bit for bit."""
    for name in ("whole", "parts"):
        (folder / name).mkdir()
    whole = trained(trainer, weights_in, folder / "whole", total_steps=12, sealed_split="test")
    assert whole.result.sealed_score is not None
    first = trained(trainer, weights_in, folder / "parts", total_steps=12, stop_after=stop_after)
    assert (first.result.outcome, first.result.n_steps) == ("stopped", stop_after)
    rest = trained(trainer, weights_in, folder / "parts", total_steps=12)
    assert rest.result.outcome == "completed"
    assert rest.result.score == whole.result.score
    assert rest.is_that_of(whole)


@pytest.mark.parametrize("stop_after", [4, pytest.param(6, marks=pytest.mark.long)])
def test_a_stopped_run_resumes_bit_for_bit(stop_after: int, tmp_path: Path) -> None:
    """Within an epoch, and at its end."""
    is_resumed(task().trainer(HERE), tmp_path, stop_after=stop_after)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_study_with_loader_processes_killed_and_stopped_ends_in_the_same_rows(
    tmp_path: Path,
) -> None:
    file = tmp_path / "study.py"
    file.write_text("from tests.transformers_study import study\n\nSTUDY = study(n_workers=2)\n")
    compare(tmp_path, ("--study", str(file)), seed=1, n_signals=2)


def tokens(n: int) -> list[dict[str, Any]]:
    return [{**each, "labels": (each["input_ids"] > 9).long()} for each in sentences(n, 3)]


def numbers(n: int) -> list[dict[str, Any]]:
    return [{**each, "labels": float(each["input_ids"][0])} for each in sentences(n, 4)]


KINDS = {
    "tokens": (lambda: transformers.BertForTokenClassification(config()), tokens),
    "regression": (
        lambda: transformers.BertForSequenceClassification(config(num_labels=1)),
        numbers,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_heads_are_swept_at_the_rates_of_the_plan(kind: str) -> None:
    made_model, made_data = KINDS[kind]
    splits = {"validation": made_data(16), "test": made_data(16)}
    made = TransformersTraining(model=made_model, train=made_data(40), evaluation=splits)
    assert (made.monitor, made.direction, made.steps_per_epoch) == ("eval_loss", "minimize", 5)
    trainer = made.trainer(HERE)
    assert trainer.untrained_score({}) > 0
    run = Run(plan=Sweep(start_lr=1e-5, end_lr=1e-2, total_steps=12), seed=1, split=None)
    assert trainer.fit(run).outcome == "completed"
    assert [point.lr for point in run.points] == pytest.approx(run.plan.lrs())


class Stream(IterableDataset[Any]):
    def __init__(self, *, is_endless: bool) -> None:
        self.is_endless = is_endless

    def __iter__(self) -> Any:
        yield from sentences(96, 0)
        while self.is_endless:
            yield from sentences(96, 0)


@pytest.mark.long
@pytest.mark.parametrize("is_endless", [False, True])
def test_a_stream_needs_the_steps_of_an_epoch_and_resumes_bit_for_bit(
    is_endless: bool, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="steps_per_epoch="):
        task(train=Stream(is_endless=is_endless))
    made = task(train=Stream(is_endless=is_endless), steps_per_epoch=6)
    is_resumed(made.trainer(HERE), tmp_path, stop_after=4)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"metrics": None}, ValueError, "without metrics="),
        ({"monitor": "thing"}, ValueError, "direction="),
        ({"model": "bert-base-uncased"}, ValueError, "bert-base-uncased: write model=lambda"),
        ({"args": {"fsdp": "full_shard"}}, ValueError, "several devices"),
        ({"trainer": {"model": 1}}, ValueError, "allowed: data_collator"),
        ({"args": {"per_device_train_batch_size": 0}}, ValueError, "at least 1, got 0"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_a_way_on(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        task(**changes)


def test_what_is_missing_is_named_before_anything_is_trained() -> None:
    with pytest.raises(TaskError, match=r"monitor='eval_f1' is not among.*eval_accuracy"):
        task(monitor="f1").trainer(HERE)
    with pytest.raises(DataError, match="test split"):
        task(evaluation=SPLITS["validation"]).trainer(HERE)
