"""Anybody's training by our loop: its numbers, its resumption, and what it refuses."""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score, log_loss, mean_squared_error
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from studies.definition import Screening, Space, Study
from studies.protocol import declared
from tests.training_kinds import (
    KINDS,
    Noisy,
    classifier,
    cross_entropy,
    dice,
    numbers,
    plain,
    regression,
    segmentation,
    sgd,
    splits,
    stream,
    tagger,
)
from trainers.calls.audit import audit_batches, audit_run
from trainers.checkpoint import Checkpoint
from trainers.device import Site
from trainers.errors import TaskError
from trainers.onecycle import OneCycle
from trainers.run import Run, RunResult
from trainers.scored import named
from trainers.scores import score
from trainers.sweeps.sweep import Sweep
from trainers.training import Training

SITE = Site(device="cpu", data=None, cache=Path("unused"))
MANY = dataclasses.replace(SITE)


def cycle(training: Training, epochs: int = 3, *, max_lr: float = 0.1) -> OneCycle:
    return OneCycle(max_lr=max_lr, total_steps=epochs * training.steps_per_epoch)


def weights_of(training: Training, run: Run) -> tuple[RunResult, dict[str, Tensor]]:
    """Train, and return the result with the weights that the run offers."""
    kept: dict[str, Tensor] = {}

    def keep(save: Any) -> None:
        import io

        file = io.BytesIO()
        save(file)
        file.seek(0)
        kept.update(torch.load(file))

    run.on_trained = keep
    result = training.trainer(SITE).fit(run)
    run.look()
    audit_run(run.plan, run.points, result)
    return result, kept


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_is_scored_and_resumes_bit_for_bit(kind: str, tmp_path: Path) -> None:
    training = KINDS[kind]()
    whole = Run(plan=cycle(training), seed=7, sealed_split="test")
    result, weights = weights_of(training, whole)
    assert result.outcome == "completed"
    assert result.n_steps == whole.plan.total_steps
    assert result.score is not None
    assert result.sealed_score is not None
    assert len(whole.epochs) == 3
    assert whole.epochs[-1].validation_accuracy == result.score
    assert all(math.isfinite(epoch.validation_loss) for epoch in whole.epochs)

    # Stopped in the middle of an epoch and taken up by another process' objects.
    checkpoint = Checkpoint(tmp_path / "a.pt")
    n_middle = training.steps_per_epoch + 2
    first = Run(plan=whole.plan, seed=7, sealed_split="test", checkpoint=checkpoint)
    first.stop_asked = lambda: len(first.points) + len(first._pending) >= n_middle
    assert KINDS[kind]().trainer(SITE).fit(first).outcome == "stopped"
    torch.rand(3)  # another process has other generators
    second = Run(plan=whole.plan, seed=7, sealed_split="test", checkpoint=checkpoint)
    resumed, weights_after = weights_of(KINDS[kind](), second)
    assert (resumed.score, resumed.sealed_score) == (result.score, result.sealed_score)
    assert same(weights, weights_after)
    assert [p.loss for p in second.points] == [p.loss for p in whole.points]


def test_a_run_depends_on_its_seed_and_on_no_run_before() -> None:
    loaders = {n: DataLoader(d, batch_size=8, shuffle=True) for n, d in splits(Noisy).items()}
    training = plain(data=loaders, batch_size=None)
    loop = training.trainer(SITE)

    def losses(seed: int) -> list[float]:
        run = Run(plan=cycle(training), seed=seed)
        loop.fit(run)
        run.look()
        return [point.loss for point in run.points]

    first = losses(1)
    assert losses(2) != first
    assert losses(1) == first


def test_the_numbers_are_those_of_a_bare_loop() -> None:
    """The order is the loader's own, and nothing else is drawn: torch alone is the reference."""
    x = numbers(0, 64, 6)
    data = TensorDataset(x, (x[:, 0] > 0).long())
    loader = DataLoader(data, batch_size=16)
    training = plain(
        model=partial(classifier, dropout=0.0),
        data={"train": loader, "validation": loader},
        batch_size=None,
        clip_norm=0.5,
    )
    plan = cycle(training)
    result, weights = weights_of(training, Run(plan=plan, seed=3))

    torch.manual_seed(3)
    model = classifier(dropout=0.0)
    optimizer = sgd(model)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=12, final_div_factor=1e4
    )
    for step in range(12):
        chosen = slice(16 * (step % 4), 16 * (step % 4) + 16)
        optimizer.zero_grad()
        cross_entropy(model, data[chosen]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        if step < 11:
            scheduler.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(weights[name], value)
    model.eval()
    with torch.no_grad():
        assert result.score == float((model(x).argmax(1) == data.tensors[1]).float().mean())


def test_accumulated_parts_of_a_step_are_that_step() -> None:
    x = numbers(0, 64, 6)
    data = {"train": TensorDataset(x, (x[:, 0] > 0).long())}
    data["validation"] = data["train"]
    whole = plain(model=partial(classifier, dropout=0.0), data=data, batch_size=16)
    parts = dataclasses.replace(whole, accumulate=4)
    assert parts.steps_per_epoch == whole.steps_per_epoch == 4
    results = [weights_of(t, Run(plan=cycle(t), seed=3)) for t in (whole, parts)]
    assert results[0][0].n_images == results[1][0].n_images == 12 * 16
    for name, value in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], value)


def test_a_step_that_the_scaler_skips_takes_none_of_the_plans(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def loud(model: nn.Module, batch: Any) -> Tensor:
        return 1e3 * cross_entropy(model, batch)  # overflows at the scaler's first scale of 65,536

    training = plain(loss=loud, precision="fp16")
    run = Run(plan=cycle(training, max_lr=1e-4), seed=0)
    with caplog.at_level("INFO"):
        result, _ = weights_of(training, run)  # audited: each rate of the plan was taken once
    assert result.outcome == "completed"
    assert result.n_skipped > 0
    assert f"skipped {result.n_skipped} step" in caplog.text
    audit_batches(8, result)


def test_gradients_that_no_scale_makes_finite_are_a_divergence() -> None:
    def endless(model: nn.Module, batch: Any) -> Tensor:
        loss = cross_entropy(model, batch)
        return loss + (loss - loss.detach()).sqrt()  # of 0, where its gradient is not finite

    training = plain(loss=endless, precision="fp16")
    run = Run(plan=cycle(training, 40), seed=0)
    result, _ = weights_of(training, run)
    assert result.outcome == "diverged"
    assert [point.finite for point in run.points] == [False]


def test_a_sweep_runs_through_the_same_steps_and_is_not_judged() -> None:
    training = plain(accumulate=2)
    plan = Sweep(start_lr=1e-5, end_lr=1.0, total_steps=60, adaptive=training.adaptive)
    run = Run(plan=plan, seed=0, split=None)
    result = training.trainer(SITE).fit(run)
    run.look()
    assert (result.score, len(run.points), run.epochs) == (None, 60, [])
    assert all(point.grad_norm for point in run.points)


def test_workers_of_a_loader_give_the_same_numbers_when_resumed(tmp_path: Path) -> None:
    training = plain(loader={"num_workers": 2})
    whole = Run(plan=cycle(training, 2), seed=5)
    result, weights = weights_of(training, whole)
    first = Run(plan=whole.plan, seed=5, checkpoint=Checkpoint(tmp_path / "a.pt"))
    first.stop_asked = lambda: len(first.points) + len(first._pending) >= 4
    training.trainer(SITE).fit(first)
    second = Run(plan=whole.plan, seed=5, checkpoint=Checkpoint(tmp_path / "a.pt"))
    resumed, again = weights_of(training, second)
    assert same(weights, again)
    assert resumed.score == result.score


def test_each_function_gets_the_parameters_that_it_names() -> None:
    told: dict[str, Any] = {}

    def model(dropout: float = 0.1) -> nn.Module:
        told["model"] = dropout
        return classifier(dropout)

    def optimizer(net: nn.Module, weight_decay: float = 0.01, **rest: Any) -> Any:
        told["optimizer"] = (weight_decay, rest)
        return sgd(net, weight_decay)

    training = plain(model=model, optimizer=optimizer)
    assert training.weight_decay == 0.01
    assert training.own_values() == {
        "dropout": 0.1,
        "weight_decay": 0.01,
        "label_smoothing": 0.0,
        "batch_size": 8,
    }
    params = {"dropout": 0.4, "weight_decay": 0.5, "label_smoothing": 0.1, "nesterov": True}
    training.trainer(SITE).fit(Run(plan=cycle(training), seed=0, params=params))
    # What another function names is not for **kwargs: torchvision's nets would refuse it.
    assert told["model"] == 0.4
    assert told["optimizer"] == (0.5, {"nesterov": True, "batch_size": 8})


def test_another_batch_size_takes_other_steps_of_that_size() -> None:
    training = plain()
    assert (training.steps_per_epoch, training.at(batch_size=24).steps_per_epoch) == (6, 2)
    run = Run(plan=cycle(training.at(batch_size=24), 6), seed=0, params={"batch_size": 24})
    result = training.trainer(SITE).fit(run)
    audit_batches(24, result)
    assert len(run.epochs) == 6


def test_the_functions_of_one_split_may_make_loaders_of_any_batch_size() -> None:
    def data(split: str, batch_size: int = 8) -> Any:
        return DataLoader(splits(Noisy)[split], batch_size=batch_size, shuffle=True)

    training = plain(data=data)
    assert training.at(batch_size=16).steps_per_epoch == 3
    run = Run(plan=cycle(training.at(batch_size=16)), seed=0, params={"batch_size": 16})
    audit_batches(16, training.trainer(SITE).fit(run))


@pytest.mark.parametrize("missing", ["left out", "None", "KeyError"])
def test_without_a_test_split_nothing_is_sealed(missing: str) -> None:
    two = splits(Noisy)
    del two["test"]
    data = {"left out": two, "None": two.get, "KeyError": lambda split: two[split]}[missing]
    training = plain(data=data)
    run = Run(plan=cycle(training), seed=0, sealed_split="test")
    result = training.trainer(SITE).fit(run)
    assert result.score is not None
    assert result.sealed_score is None


def test_the_validation_loss_has_no_parameter_of_the_run() -> None:
    training = plain(score="loss")
    results = [
        training.trainer(SITE).fit(
            Run(plan=cycle(training, max_lr=1e-9), seed=0, params={"label_smoothing": smoothing})
        )
        for smoothing in (0.0, 0.5)
    ]
    assert results[0].score == pytest.approx(results[1].score, rel=1e-6)


def test_frozen_parts_stay_in_eval_and_a_model_in_eval_is_trained() -> None:
    seen = []

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.out = nn.BatchNorm1d(6), nn.Linear(6, 2)
            self.norm.eval()

        def forward(self, x: Tensor) -> Tensor:
            seen.append((self.training, self.norm.training, torch.is_grad_enabled()))
            return self.out(self.norm(x))

    training = plain(model=Half)
    training.trainer(SITE).fit(Run(plan=cycle(training), seed=0))
    assert set(seen) == {(True, False, True), (False, False, False)}
    seen.clear()
    training = plain(model=lambda: Half().eval())
    training.trainer(SITE).fit(Run(plan=cycle(training), seed=0))
    assert (True, True, True) in seen


def test_the_facts_name_parameters_optimizer_precision_and_data() -> None:
    facts = (
        plain(optimizer=lambda m: torch.optim.RMSprop(m.parameters(), alpha=0.8))
        .trainer(SITE)
        .facts()
    )
    assert "0.weight (8, 6) torch.float32" in facts["parameters"]
    assert facts["optimizer"].startswith("RMSprop(alpha=0.8, ")
    assert facts["precision"] == "fp32"
    assert facts["data train"].startswith("Noisy of 48 samples, the first ")
    assert (
        facts
        == plain(optimizer=lambda m: torch.optim.RMSprop(m.parameters(), alpha=0.8))
        .trainer(SITE)
        .facts()
    )
    other = splits(Noisy)
    other["train"] = Noisy(48, 9)
    assert plain(data=other).trainer(SITE).facts()["data train"] != facts["data train"]
    assert stream().trainer(SITE).facts()["data train"] == "Counted"


def test_a_study_of_a_training_needs_no_more_than_epochs() -> None:
    space = Space(extra={"dropout": (0.0, 0.5)}, weight_decay=(1e-5, 1e-2))
    study = Study(name="mine", task=plain(), epochs=20, space=space)
    assert (study.metric, study.direction, study.diverged_value) == ("accuracy", "maximize", 0.0)
    assert (study.epochs, study.screening.epochs, study.screening.n_trials) == (20, 20, 24)
    fields = declared(study, "")
    assert fields["task.data"] == "train: Noisy, validation: Noisy, test: Noisy"
    assert not any(" at 0x" in text for text in fields.values())
    loader = declared(Study(name="mine", task=tagger(), epochs=20), "")["task.loader"]
    assert loader == "{'collate_fn': <function padded>}"
    minimised = Study(name="mine", task=regression(), epochs=20)
    assert (minimised.metric, minimised.direction) == ("mean squared error", "minimize")
    assert minimised.diverged_value is None
    own = Study(name="mine", task=segmentation(), epochs=20)
    assert (own.metric, own.direction) == ("Dice", "maximize")


def test_epochs_are_said_once() -> None:
    new = Study(name="mine", task=plain(), epochs=20)
    old = Study(name="mine", task=new.task, screening=Screening(n_trials=24, epochs=20))
    assert declared(new, "") == declared(old, "")
    assert dataclasses.replace(old, screening=Screening(epochs=30)).epochs == 30
    assert dataclasses.replace(new, epochs=30).screening.epochs == 30
    with pytest.raises(ValueError, match="epochs is 30 in the study and 20 in its screening"):
        dataclasses.replace(old, epochs=30)
    with pytest.raises(ValueError, match="epochs is needed"):
        Study(name="mine", task=plain())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"metric": "validation loss"}, "metric must be 'accuracy', which the task scores"),
        ({"direction": "minimize"}, "direction must be 'maximize', which the task scores"),
        ({"space": Space(extra={"depth": (1, 3)})}, r"'depth'.*model \(dropout\); optimizer"),
        ({"space": Space(extra={"dropout": (0.4, 0.5)})}, "must hold the task's own, 0.2"),
    ],
)
def test_a_study_refuses_what_its_training_has_not(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Study(name="mine", task=plain(), epochs=20, **fields)


NET = nn.Linear(6, 2)
LOADER = DataLoader(Noisy(48, 0), batch_size=8)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": NET}, "model must be a function.*got Linear: write model=lambda"),
        ({"model": "mine:net"}, "model must be a function.*got 'mine:net'"),
        ({"model": nn.Linear}, r"model is called as model\(\).*\(in_features, out_features"),
        ({"optimizer": torch.optim.RMSprop}, "optimizer must be.*RMSprop.*lambda model"),
        ({"optimizer": partial(torch.optim.AdamW, lr=1.0)}, "optimizer must be.*lambda model"),
        ({"optimizer": sgd(NET)}, "optimizer must be a function.*got SGD"),
        ({"optimizer": "adamw"}, "optimizer must be a function.*'adamw'"),
        ({"loss": functional.cross_entropy}, "loss must be a function.*got cross_entropy"),
        ({"loss": nn.CrossEntropyLoss()}, "loss must be.*got CrossEntropyLoss"),
        ({"loss": lambda batch: 1}, r"loss is called as loss\(model, batch\)"),
        ({"score": "accurracy"}, "score must be one of 'accuracy', .*got 'accurracy'"),
        ({"score": dice}, "direction must be 'maximize' or 'minimize' with a score of your own"),
        ({"score": "accuracy", "metric": "F1"}, "metric must be 'accuracy' with"),
        ({"data": LOADER}, "data must be data=.*got DataLoader"),
        ({"data": {"train": LOADER}}, "'validation' is missing"),
        ({"data": {**splits(Noisy), "val": LOADER}}, "got 'val'"),
        ({"data": {**splits(Noisy), "train": iter(LOADER)}}, "can be read only once|only once"),
        ({"data": {**splits(Noisy), "train": Noisy}}, "train.*got Noisy"),
        ({"data": {**splits(Noisy), "train": (numbers(0, 9, 6), 1)}}, "TensorDataset"),
        ({"data": {"train": LOADER, "validation": LOADER}, "batch_size": 16}, "batches of 8"),
        ({"batch_size": None}, "batch_size is needed"),
        ({"batch_size": 64}, "the train split has 48 samples, too few for one step"),
        ({"batch_size": 8, "accumulate": 3}, "multiple of accumulate"),
        ({"batch_size": 2.0}, "batch_size must be a whole number"),
        ({"precision": "fp8"}, "precision must be auto, fp32, bf16 or fp16, got 'fp8'"),
        ({"clip_norm": 0}, "clip_norm must be a number above 0"),
        ({"loader": {"shuffle": True}}, "shuffle is the training's own"),
        ({"model": lambda weight_decay=0.1: NET}, "weight_decay has two defaults, 0.1 in model"),
    ],
)
def test_what_is_no_training_is_refused_in_one_line(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        plain(**changed)
    assert "\n" not in str(refused.value)
    assert " at 0x" not in str(refused.value)


def test_a_stream_without_a_length_needs_its_steps() -> None:
    with pytest.raises(ValueError, match="steps_per_epoch is needed: the train split, Counted"):
        dataclasses.replace(stream(), steps_per_epoch=None)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"optimizer": lambda m: (sgd(m), sgd(m))}, "a tuple of 2: a cycle drives one.*OwnLoop"),
        ({"optimizer": lambda m: torch.optim.LBFGS(m.parameters())}, "LBFGS needs a closure"),
        ({"optimizer": lambda m: sgd(classifier())}, "none of the model's parameters"),
        ({"model": lambda: classifier().requires_grad_(False)}, "the model is frozen"),
        ({"model": lambda: 3}, r"model\(\) must return a torch.nn.Module, got int"),
        ({"loss": lambda m, b: m(b[0])}, r"loss.* got shape \(8, 2\): take its mean"),
        ({"loss": lambda m, b: cross_entropy(m, b).item()}, "loss.*float.*item"),
        ({"loss": lambda m, b: {"ce": cross_entropy(m, b)}}, "return one of its values"),
    ],
)
def test_what_a_function_gives_is_refused_in_one_line(changed: dict[str, Any], words: str) -> None:
    training = plain(**changed)
    with pytest.raises(TaskError, match=words):
        training.trainer(SITE).fit(Run(plan=cycle(training), seed=0))


def test_a_score_that_is_no_number_is_refused() -> None:
    training = plain(score=lambda model, loader: None, direction="maximize")
    with pytest.raises(TaskError, match="must return a number, got NoneType"):
        training.trainer(SITE).fit(Run(plan=cycle(training), seed=0))


class Fixed(nn.Module):
    """A model that returns its input."""

    def forward(self, x: Tensor, **rest: Any) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (numbers(0, 40, 5), torch.arange(40) % 4),
        (numbers(0, 10, 5, 4), (torch.arange(40) % 5).reshape(10, 4)),  # (N, C, L)
        (numbers(0, 10, 4, 5), (torch.arange(40) % 5).reshape(10, 4)),  # (N, L, C)
        (numbers(0, 4, 3, 6, 6), (torch.arange(144) % 3).reshape(4, 6, 6)),
        (numbers(0, 40), (torch.arange(40) % 2).float()),
        (numbers(0, 40, 1), (torch.arange(40) % 2).float()),
        (numbers(0, 40, 1), torch.arange(40) % 2),
    ],
    ids=["classes", "classes second", "classes last", "masks", "yes or no", "column", "whole"],
)
def test_named_scores_are_those_of_scikit_learn(logits: Tensor, targets: Tensor) -> None:
    batches = [(logits[k : k + 3], targets[k : k + 3]) for k in range(0, len(logits), 3)]
    flat, wanted = _flat(logits, targets), targets.flatten().long()
    chosen = flat.argmax(1)
    found = {name: score(name, Fixed(), batches) for name in ("accuracy", "macro F1")}
    assert found["accuracy"] == pytest.approx(float((chosen == wanted).double().mean()))
    assert found["macro F1"] == pytest.approx(f1_score(wanted, chosen, average="macro"))
    shares = flat.double().softmax(1)
    labels = range(shares.shape[1])
    assert score("cross-entropy", Fixed(), batches) == pytest.approx(
        log_loss(wanted, shares / shares.sum(1, keepdim=True), labels=labels), rel=1e-5
    )


def _flat(logits: Tensor, targets: Tensor) -> Tensor:
    """Return logits (M, C) as this test knows them to lie; two of a yes or no."""
    if logits.ndim == 1 or logits.shape[1] == 1:
        yes = logits.reshape(-1, 1)
        return torch.cat([torch.zeros_like(yes), yes], 1)
    if logits.ndim == 3 and logits.shape[:2] == targets.shape:
        return logits.reshape(-1, logits.shape[-1])
    return logits.movedim(1, -1).reshape(-1, logits.shape[1])


def test_padding_counts_nowhere_and_a_square_batch_is_read_as_the_others_are() -> None:
    logits, targets = numbers(0, 6, 4, 5), torch.arange(24).reshape(6, 4) % 5
    targets[:, 3] = -100
    square = (numbers(1, 6, 5, 5), torch.arange(30).reshape(6, 5) % 5)
    for order in ([(logits, targets), square], [square, (logits, targets)]):
        right = (logits.argmax(2) == targets)[:, :3].sum() + (
            square[0].argmax(2) == square[1]
        ).sum()
        assert score("accuracy", Fixed(), order) == pytest.approx(int(right) / (18 + 30))


def test_squared_error_does_not_spread_a_column_over_a_row() -> None:
    outputs, targets = numbers(0, 40, 1), numbers(1, 40)
    expected = mean_squared_error(targets, outputs[:, 0])
    assert score("mean squared error", Fixed(), [(outputs, targets)]) == pytest.approx(expected)
    with pytest.raises(TaskError, match=r"\(40, 1\) do not fit targets of shape \(41,\)"):
        score("mean squared error", Fixed(), [(outputs, numbers(1, 41))])


def test_a_score_by_name_reads_dicts_and_outputs_with_logits() -> None:
    logits, labels = numbers(0, 6, 3), torch.arange(6) % 3

    class Output(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Any:
            return {"logits": x}

    batch = {"x": logits, "mask": labels, "labels": labels}
    expected = float((logits.argmax(1) == labels).float().mean())
    assert score("accuracy", Output(), [batch]) == pytest.approx(expected)
    with pytest.raises(TaskError, match="finds no target in a batch of 'x'"):
        score("accuracy", Output(), [{"x": logits}])
    with pytest.raises(TaskError, match="do not fit targets"):
        score("accuracy", Fixed(), [(logits, torch.rand(6, 3))])


def test_names_of_scores_have_other_spellings() -> None:
    assert named("MSE") is named("mean-squared_error")
    assert named("Cross_Entropy").direction == "minimize"


def test_the_training_of_the_docs_is_a_study_that_trains() -> None:
    page = (Path(__file__).parent.parent / "docs" / "your-own-loop.md").read_text()
    source = page.partition("```python\n")[2].partition("```")[0]
    pasted: dict[str, Any] = {}
    exec(source, pasted)
    study = pasted["STUDY"]
    assert [p.baseline for p in study.parameters if p.name == "dropout"] == [0.1]
    run = Run(plan=cycle(study.task, 4, max_lr=0.02), seed=0, sealed_split="test")
    result = study.task.trainer(SITE).fit(run)
    assert result.score is not None
    assert result.sealed_score is not None
    assert min(result.score, result.sealed_score) > 0.8
    losses = [point.loss for point in run.points]
    per_epoch = len(losses) // len(run.epochs)
    for row, n in zip(run.epochs, range(0, len(losses), per_epoch), strict=True):
        mean = sum(losses[n : n + per_epoch]) / per_epoch
        assert row.train_loss == pytest.approx(mean, rel=1e-5)
        assert math.isfinite(row.validation_loss)
    assert run.epochs[-1].validation_accuracy == result.score


def test_texts_one_after_the_other_count_as_samples_and_not_as_words() -> None:
    def bags(samples: list[Any]) -> Any:
        words = [words for words, _ in samples]
        starts = torch.tensor([0, *map(len, words[:-1])]).cumsum(0)
        return torch.cat(words), starts, torch.tensor([topic for _, topic in samples])

    def texts(n: int, seed: int) -> list[Any]:
        return [(torch.arange(2 + k % 5) + seed, k % 2) for k in range(n)]

    class Bag(nn.EmbeddingBag):
        def __init__(self) -> None:
            super().__init__(20, 2)

    training = plain(
        model=Bag,
        data=splits(texts),
        loss=lambda model, batch: functional.cross_entropy(model(*batch[:2]), batch[2]),
        score="macro F1",
        loader={"collate_fn": bags},
    )
    run = Run(plan=cycle(training), seed=0, params={"batch_size": 4})
    result = training.trainer(SITE).fit(run)
    assert result.outcome == "completed"
    audit_batches(4, result)
