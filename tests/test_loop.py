"""The bundled loop on real digits: exact, repeatable, resumable, and honest about its splits."""

import logging
import math
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.conftest import ROOT
from trainers import loop
from trainers.augment import Augment
from trainers.calls.audit import audit_run
from trainers.checkpoint import Checkpoint
from trainers.data import Digits
from trainers.device import Precision, Site, cache_folder
from trainers.loop import Classifier
from trainers.models import digits_net
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Plan, Run, RunResult
from trainers.sweeps.sweep import Sweep
from trainers.task import SGD, AdamW, Task

DIGITS = Digits(n_train=200, n_validation=150)
STEPS_PER_EPOCH, N_STEPS = 6, 18  # batches of 32
CYCLE = OneCycle(max_lr=0.1, total_steps=N_STEPS)
SWEEP = Sweep(start_lr=1e-4, end_lr=0.5, total_steps=N_STEPS)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

# Gives one run to one process after another, each forked from here; nothing is trained here.
OWNERS = """
import os, sys
from tests.test_loop import CYCLE, own
CYCLE.lrs()  # what torch imports late is imported once, and no optimizer steps for this in `own`
folder, cache, interval_s, *lives = sys.argv[1:]
for life in lives:
    owner = os.fork()
    if owner == 0:
        own(folder, cache, float(interval_s), int(life))
        os._exit(0)
    print(os.waitpid(owner, 0)[1])
"""


def net() -> nn.Module:
    """Everything with a state: batch norm, and dropout that draws from the global generator."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@dataclass
class Maker:
    """A model factory that remembers what it made; the last one is that of the last fit."""

    build: Callable[[], nn.Module]
    made: list[nn.Module] = field(default_factory=list)

    def __call__(self) -> nn.Module:
        self.made.append(self.build())
        return self.made[-1]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def make_classifier(cache: Path, device: str = "cpu", **fields: Any) -> Classifier:
    """Make a Classifier; the fields of its Task can be given."""
    default: dict[str, Any] = {"model": net, "batch_size": 32, "precision": "fp32"}
    task = Task(data=DIGITS, **default | {"augment": Augment(crop=1)} | fields)
    site = Site(device=device, data=None, cache=cache)  # type: ignore[arg-type]
    return Classifier(replace(task, model=Maker(task.model)), site)  # type: ignore[arg-type]


@pytest.fixture
def classify(cache: Path) -> Callable[..., Classifier]:
    """Make Classifiers that share their decoded data."""
    return partial(make_classifier, cache)


@dataclass
class Trained:
    """All that a run leaves behind, without what a clock said."""

    result: RunResult
    run: Run
    rows: list[EpochRow]
    weights: dict[str, Tensor]

    def facts(self) -> tuple[object, ...]:
        rows = [replace(row, seconds=0.0, images_per_s=0.0) for row in self.rows]
        return replace(self.result, seconds=0.0), self.run.points, rows


def model_of(classifier: Classifier) -> nn.Module:
    made: list[nn.Module] = classifier.task.model.made  # type: ignore[union-attr]
    return made[-1]


def train(classifier: Classifier, *, plan: Plan = CYCLE, seed: int = 7, **fields: Any) -> Trained:
    rows: list[EpochRow] = []
    run = Run(plan=plan, seed=seed, **{"on_epoch": rows.append} | fields)
    result = classifier.fit(run)
    audit_run(plan, run.points, result)
    weights = {name: w.clone() for name, w in model_of(classifier).state_dict().items()}
    return Trained(result, run, rows, weights)


def same_weights(one: Trained, other: Trained) -> bool:
    assert one.weights.keys() == other.weights.keys()
    return all(torch.equal(w, other.weights[name]) for name, w in one.weights.items())


@contextmanager
def every_step() -> Iterator[list[list[dict[str, Any]]]]:
    """The param groups at each step of any torch optimizer, as torch's own hook sees them."""
    seen: list[list[dict[str, Any]]] = []

    def record(optimizer: torch.optim.Optimizer, *_: object) -> None:
        groups = optimizer.param_groups
        seen.append([{k: v for k, v in group.items() if k != "params"} for group in groups])

    hook = register_optimizer_step_pre_hook(record)
    yield seen
    hook.remove()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", [SGD(), AdamW()], ids=["sgd", "adamw"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(
    classify: Callable[..., Classifier], optimizer: SGD | AdamW, device: str
) -> None:
    once = train(classify(device, optimizer=optimizer))
    torch.rand(11)  # what the caller draws makes no difference
    classifier = classify(device, optimizer=optimizer)
    other = train(classifier, seed=8)
    again = train(classifier)  # nor does what the same object trained before
    assert once.result.outcome == "completed"
    assert same_weights(once, again)
    assert once.facts() == again.facts()
    assert not same_weights(once, other)
    assert once.run.points != other.run.points


@pytest.mark.parametrize("optimizer", [SGD(), AdamW()], ids=["sgd", "adamw"])
def test_a_run_with_another_batch_size_and_weight_decay_is_that_of_a_task_with_them(
    classify: Callable[..., Classifier], optimizer: SGD | AdamW
) -> None:
    tried = train(classify(optimizer=optimizer), params={"batch_size": 50, "weight_decay": 0.1})
    own = train(classify(optimizer=replace(optimizer, weight_decay=0.1), batch_size=50))
    assert same_weights(tried, own)
    assert tried.facts() == own.facts()
    assert tried.result.n_images == 50 * N_STEPS
    assert [row.epoch for row in tried.rows] == [1, 2, 3, 4, 5], "4 steps of 50 of 200 images"
    assert not same_weights(tried, train(classify(optimizer=optimizer), params={"batch_size": 50}))


def test_a_run_with_another_label_smoothing_trains_so_and_is_judged_as_the_task_is(
    classify: Callable[..., Classifier],
) -> None:
    plain, smoothed = classify(), classify(label_smoothing=0.2)
    tried = train(plain, params={"label_smoothing": 0.2})
    own = train(smoothed)
    assert same_weights(tried, own)
    assert [row.train_loss for row in tried.rows] == [row.train_loss for row in own.rows]
    assert tried.result.score == own.result.score
    model = model_of(plain)
    loss, _ = plain.evaluate(model, "validation")
    assert tried.rows[-1].validation_loss == loss, "losses of one search compare"
    assert own.rows[-1].validation_loss == smoothed.evaluate(model, "validation")[0] > loss
    assert not same_weights(tried, train(plain))


@pytest.mark.parametrize("fails", [False, True])
def test_generators_and_threads_of_the_caller_are_left_alone(
    classify: Callable[..., Classifier], fails: bool
) -> None:
    def broken(row: EpochRow) -> None:
        raise RuntimeError("the database went away")

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before, numpys = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
        classifier = classify()
        if fails:
            with pytest.raises(RuntimeError, match="went away"):
                train(classifier, on_epoch=broken)
        else:
            train(classifier)
        assert torch.equal(torch.get_rng_state(), before)
        assert np.random.get_state()[1].tolist() == numpys  # type: ignore[index,union-attr]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("plan", [CYCLE, SWEEP], ids=["cycle", "sweep"])
@pytest.mark.parametrize("optimizer", [SGD(), AdamW()], ids=["sgd", "adamw"])
def test_each_optimizer_step_gets_the_planned_rate_and_momentum(
    classify: Callable[..., Classifier], plan: Plan, optimizer: SGD | AdamW
) -> None:
    planned = plan.lrs()
    with every_step() as seen:
        trained = train(classify(optimizer=optimizer), plan=plan, split=None)
    assert len(seen) == N_STEPS == trained.result.n_steps
    assert [[group["lr"] for group in groups] for groups in seen] == [[lr, lr] for lr in planned]
    assert [point.lr for point in trained.run.points] == list(planned)
    momenta = [g[0]["momentum"] if "momentum" in g[0] else g[0]["betas"][0] for g in seen]
    assert min(momenta) == pytest.approx(0.85, abs=1e-3)
    assert max(momenta) == pytest.approx(0.95 if plan is CYCLE else 0.85)
    assert [point.momentum for point in trained.run.points] == momenta == list(plan.momenta())


def test_weight_decay_reaches_matrices_only(classify: Callable[..., Classifier]) -> None:
    with every_step() as seen:
        classifier = classify(optimizer=SGD(weight_decay=0.25))
        train(classifier)
    assert [group["weight_decay"] for group in seen[0]] == [0.25, 0.0]
    assert {p.ndim for p in model_of(classifier).parameters()} == {1, 2, 4}


def test_the_rows_of_the_epochs_tell_what_the_steps_did(
    classify: Callable[..., Classifier],
) -> None:
    trained = train(classify())
    lrs, losses = CYCLE.lrs(), [point.loss for point in trained.run.points]
    assert [row.epoch for row in trained.rows] == [1, 2, 3]
    for row in trained.rows:
        steps = slice((row.epoch - 1) * STEPS_PER_EPOCH, row.epoch * STEPS_PER_EPOCH)
        assert (row.lr_first, row.lr_last) == (lrs[steps][0], lrs[steps][-1])
        assert row.train_loss == pytest.approx(np.mean(losses[steps]), rel=1e-6)
        assert 0 <= row.train_accuracy <= 1
        assert row.seconds > 0
        assert row.images_per_s > 32 * STEPS_PER_EPOCH / row.seconds
    assert trained.rows[-1].train_loss < trained.rows[0].train_loss
    assert trained.result.n_images == 32 * N_STEPS
    assert trained.result.seconds >= sum(row.seconds for row in trained.rows)


def test_the_first_loss_is_that_of_the_seeded_model_before_any_update(
    classify: Callable[..., Classifier],
) -> None:
    classifier = classify(model=linear, label_smoothing=0.2, augment=Augment())
    images, labels = classifier.batch(7, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        logs = linear()(images).log_softmax(1).detach()
    smoothed = 0.8 * nn.functional.one_hot(labels, 10) + 0.2 / 10
    expected = -(smoothed * logs).sum(1).mean()
    assert train(classifier).run.points[0].loss == pytest.approx(float(expected), rel=1e-5)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss and accuracy of a trained model on raw images, worked out image by image."""
    splits_mean, splits_std = model.mean, model.std  # type: ignore[attr-defined]
    model.eval()
    losses, correct = [], 0
    for image, label in zip(images, labels, strict=True):
        x = ((image.double() - splits_mean) / splits_std).permute(2, 0, 1).float()
        scores = model(x[None])[0].detach()
        losses.append(-float(scores.log_softmax(0)[label]))
        correct += int(scores.argmax() == label)
    return float(np.mean(losses)), correct / len(labels)


def test_scores_equal_an_evaluation_by_hand(classify: Callable[..., Classifier]) -> None:
    classifier = classify()
    trained = train(classifier, sealed_split="test")
    model, splits = model_of(classifier), classifier.splits
    model.mean, model.std = splits.mean.double(), splits.std.double()  # type: ignore[assignment]
    chosen = splits.validation
    loss, score = accuracy(model, splits.images[chosen], splits.labels[chosen])
    assert trained.result.score == trained.rows[-1].validation_accuracy == score
    assert trained.rows[-1].validation_loss == pytest.approx(loss, rel=1e-4)
    _, sealed = accuracy(model, splits.test_images, splits.test_labels)
    assert trained.result.sealed_score == sealed
    assert len(splits.test_labels) == 1797 - 350
    assert score > 0.3


def test_a_search_run_never_opens_the_test_split(classify: Callable[..., Classifier]) -> None:
    whole, without = classify(), classify()
    without.splits = replace(without.splits, test_images=None, test_labels=None)  # type: ignore[arg-type]
    expected, trained = train(whole), train(without)
    assert trained.facts() == expected.facts()
    assert trained.result.sealed_score is None
    with pytest.raises(TypeError):
        train(without, sealed_split="test")


def test_the_sealed_score_changes_nothing_else(classify: Callable[..., Classifier]) -> None:
    open_, sealed = train(classify()), train(classify(), sealed_split="test")
    assert same_weights(open_, sealed)
    assert replace(sealed.result, seconds=0.0, sealed_score=None) == open_.facts()[0]


def test_a_sweep_is_judged_by_nothing(classify: Callable[..., Classifier]) -> None:
    trained = train(classify(), plan=SWEEP, split=None)
    assert trained.result.score is None
    assert trained.rows == []
    assert len(trained.run.points) == N_STEPS


def test_a_cycle_that_ends_within_an_epoch_is_scored_at_its_end(
    classify: Callable[..., Classifier],
) -> None:
    for n_steps, epochs in ((4, [1]), (15, [1, 2, 3])):
        classifier, plan = classify(), OneCycle(max_lr=0.1, total_steps=n_steps, pct_start=0.5)
        trained = train(classifier, plan=plan)
        _, expected = classifier.evaluate(model_of(classifier), "validation")
        assert trained.result.score == expected > 0
        assert [row.epoch for row in trained.rows] == epochs
        assert trained.rows[-1].lr_last == plan.lrs()[-1]


def test_a_rate_that_explodes_is_a_result_with_step_and_rate(
    classify: Callable[..., Classifier],
) -> None:
    plan = OneCycle(max_lr=1e12, total_steps=60)
    trained = train(classify(), plan=plan, sealed_split="test")
    broken = trained.run.diverged_at
    assert trained.result.outcome == "diverged"
    assert (trained.result.score, trained.result.sealed_score) == (None, None)
    assert broken is not None
    assert broken.lr == plan.lrs()[broken.step]
    assert trained.run.points[-1] == broken
    assert all(math.isfinite(point.loss) for point in trained.run.points[:-1])
    assert broken.step < trained.result.n_steps <= broken.step + 16
    assert all(math.isfinite(row.validation_loss) for row in trained.rows)


class BrokenInside(nn.Module):
    """Trains, but evaluates to nothing: like running statistics that overflowed."""

    def __init__(self) -> None:
        super().__init__()
        self.body = linear()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.body(x)
        return scores if self.training else scores * math.nan


def test_a_model_that_cannot_be_evaluated_has_diverged(
    classify: Callable[..., Classifier],
) -> None:
    trained = train(classify(model=BrokenInside))
    assert trained.result.outcome == "diverged"
    assert trained.rows == []
    assert trained.run.diverged_at == trained.run.points[STEPS_PER_EPOCH - 1]


def stopping_after(n_steps: int) -> Callable[[], bool]:
    """Asked once before each step, says yes when `n_steps` were taken."""
    asked = iter(range(10_000))
    return lambda: next(asked) >= n_steps


def in_pieces(
    classifier: Classifier, checkpoint: Checkpoint, pieces: list[int], plan: Plan
) -> Trained:
    """Train with a new owner after each of `pieces` steps."""
    done = 0
    for n_steps in pieces:
        done += n_steps
        stopped = train(
            classifier,
            plan=plan,
            checkpoint=checkpoint,
            stop_asked=stopping_after(n_steps),
        )
        assert (stopped.result.outcome, stopped.result.n_steps) == ("stopped", done)
        assert stopped.result.score is None
        assert stopped.result.sealed_score is None
    return train(classifier, plan=plan, checkpoint=checkpoint)


@pytest.mark.parametrize("plan", [CYCLE, SWEEP], ids=["cycle", "sweep"])
@pytest.mark.parametrize("optimizer", [SGD(), AdamW()], ids=["sgd", "adamw"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_run_that_changed_owners_ends_in_the_same_bits(
    classify: Callable[..., Classifier],
    tmp_path: Path,
    optimizer: SGD | AdamW,
    plan: Plan,
    device: str,
) -> None:
    classifier = classify(device, optimizer=optimizer)
    expected = train(classifier, plan=plan)
    assert expected.result.outcome == "completed"
    for pieces in ([0], [1], [5], [6], [9], [17], [2, 3, 0, 6, 4]):
        checkpoint = Checkpoint(tmp_path / "run.pt")
        trained = in_pieces(classifier, checkpoint, pieces, plan)
        assert same_weights(trained, expected), pieces
        assert trained.facts() == expected.facts(), pieces
        checkpoint.remove()


def test_the_time_of_all_owners_is_counted(
    classify: Callable[..., Classifier], tmp_path: Path
) -> None:
    classifier, checkpoint = classify(), Checkpoint(tmp_path / "run.pt")
    train(classifier, checkpoint=checkpoint, stop_asked=stopping_after(10))
    kept = checkpoint.load()
    assert kept is not None
    kept["state"]["seconds"] += 1000
    checkpoint.save(kept)
    last = train(classifier, checkpoint=checkpoint)
    assert last.result.seconds > kept["state"]["seconds"] > 1000


def test_an_owner_killed_without_warning_loses_what_came_after_its_checkpoint(
    classify: Callable[..., Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill_before_step(number: int) -> Callable[[], bool]:
        asked = iter(range(10_000))

        def stop_asked() -> bool:
            if next(asked) == number:
                raise Killed
            return False

        return stop_asked

    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    classifier, checkpoint = classify(), Checkpoint(tmp_path / "run.pt")
    expected = train(classifier)
    with pytest.raises(Killed):
        train(classifier, checkpoint=checkpoint, stop_asked=kill_before_step(8))
    kept = checkpoint.load()
    assert kept is not None
    assert kept["state"]["step"] == 8
    resumed = train(classifier, checkpoint=checkpoint)
    assert same_weights(resumed, expected)
    assert resumed.facts() == expected.facts()
    with every_step() as seen:  # killed after its last step: nothing is left but to say so
        late = train(classifier, checkpoint=checkpoint)
    assert late.facts() == expected.facts()
    assert seen == []


def own(folder: str, cache: str, interval_s: float, life: int) -> None:
    """Be one owner of a run: die of SIGKILL within the step after `life` steps, or end the run.

    The kill comes between the gradient and the update, so a step is lost that was half done.
    """
    steps = iter(range(life + 1))

    def count(*_: object) -> None:
        if next(steps) == life:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_pre_hook(count)
    loop._SECONDS_BETWEEN_CHECKPOINTS = interval_s
    checkpoint = Checkpoint(Path(folder) / "run.pt", expected=True)
    trained = train(make_classifier(Path(cache)), checkpoint=checkpoint, sealed_split="test")
    out = (trained.facts(), trained.weights, next(steps))
    (Path(folder) / "out").write_bytes(pickle.dumps(out))


@pytest.mark.parametrize(
    ("number", "interval_s"),
    [
        pytest.param(0, 0.0, marks=pytest.mark.long),
        (1, 0.0),
        pytest.param(2, 0.002, marks=pytest.mark.long),
    ],
)
@pytest.mark.slow
def test_a_run_whose_owners_are_killed_at_random_steps_ends_in_the_same_bits(
    classify: Callable[..., Classifier],
    cache: Path,
    tmp_path: Path,
    number: int,
    interval_s: float,
) -> None:
    lives = random.Random(number).choices(range(1, 5), k=4)
    expected = train(classify(), sealed_split="test")
    command = [sys.executable, "-c", OWNERS, str(tmp_path), str(cache), str(interval_s)]
    done = subprocess.run(
        [*command, *map(str, lives), str(N_STEPS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = (number, lives, done)
    assert done.stdout.split() == [str(int(signal.SIGKILL))] * len(lives) + ["0"], told
    facts, weights, n_steps_of_the_last = pickle.loads((tmp_path / "out").read_bytes())
    assert n_steps_of_the_last < N_STEPS, told
    assert facts == expected.facts(), told
    assert weights.keys() == expected.weights.keys()
    assert all(torch.equal(w, weights[name]) for name, w in expected.weights.items()), told


def test_a_checkpoint_of_another_device_kind_is_not_taken_over_and_said_so(
    classify: Callable[..., Classifier], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classifier, checkpoint = classify(), Checkpoint(tmp_path / "run.pt")
    expected = train(classifier)
    train(classifier, checkpoint=checkpoint, stop_asked=stopping_after(10))
    kept = checkpoint.load()
    assert kept is not None
    assert kept["state"]["device"] == "cpu"
    kept["state"]["device"] = "cuda"
    checkpoint.save(kept)
    with caplog.at_level(logging.WARNING, logger="trainers.loop"):
        again = train(classifier, checkpoint=checkpoint, on_epoch=lambda row: None)
    assert caplog.messages == ["the checkpoint is of a run on cuda, not cpu: it starts over"]
    assert same_weights(again, expected)
    assert again.facts()[:2] == expected.facts()[:2]
    assert [row.epoch for row in again.run.epochs] == [1, 2, 3]


def test_a_diverged_run_breaks_at_the_same_step_for_its_next_owner(
    classify: Callable[..., Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    classifier, checkpoint = classify(), Checkpoint(tmp_path / "run.pt")
    plan = OneCycle(max_lr=1e12, total_steps=60)
    first = train(classifier, plan=plan, checkpoint=checkpoint)
    again = train(classifier, plan=plan, checkpoint=checkpoint)
    assert first.result.outcome == again.result.outcome == "diverged"
    assert first.run.diverged_at is not None
    assert again.run.diverged_at is not None
    assert again.run.diverged_at.step == first.run.diverged_at.step
    assert again.run.points[:-1] == first.run.points[:-1]


def test_a_checkpoint_of_another_seed_is_not_taken_over(
    classify: Callable[..., Classifier], tmp_path: Path
) -> None:
    classifier, checkpoint = classify(), Checkpoint(tmp_path / "run.pt")
    train(classifier, checkpoint=checkpoint, stop_asked=stopping_after(10))
    other = train(classifier, checkpoint=checkpoint, seed=8)
    assert same_weights(other, train(classifier, seed=8))


def test_a_stop_without_a_checkpoint_is_still_a_stop(
    classify: Callable[..., Classifier],
) -> None:
    trained = train(classify(), stop_asked=stopping_after(5))
    assert (trained.result.outcome, trained.result.n_steps) == ("stopped", 5)
    assert len(trained.run.points) == 5


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_the_forward_pass_runs_in_the_precision_asked_for_and_weights_stay_fp32(
    classify: Callable[..., Classifier], precision: str, dtype: torch.dtype
) -> None:
    outputs: set[torch.dtype] = set()

    def watched() -> nn.Module:
        model = net()
        for module in (model[0], model[-1]):  # type: ignore[index]
            module.register_forward_hook(lambda _, __, out: outputs.add(out.dtype))
        return model

    classifier = classify(model=watched, precision=precision)
    trained = train(classifier)
    assert outputs == {dtype}
    assert {w.dtype for w in model_of(classifier).parameters()} == {torch.float32}
    assert classifier.facts()["precision"] == precision
    assert trained.result.outcome == "completed"


def test_a_net_with_convolutions_runs_in_channels_last(
    classify: Callable[..., Classifier],
) -> None:
    seen: set[bool] = set()

    def watched() -> nn.Module:
        model = net()
        model[0].register_forward_hook(  # type: ignore[index,operator]
            lambda _, __, out: seen.add(
                out.is_contiguous(memory_format=torch.channels_last) and not out.is_contiguous()
            )
        )
        return model

    classifier = classify(model=watched)
    train(classifier)
    assert seen == {True}
    assert classifier.facts()["memory format"] == "channels_last"
    assert classify(model=linear).facts()["memory format"] == "contiguous_format"
    deep = classify(model=digits_net)
    train(deep)
    weight = model_of(deep)[2][0].weight  # type: ignore[index]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_an_epoch_visits_each_train_image_at_most_once(
    classify: Callable[..., Classifier],
) -> None:
    classifier = classify()
    classifier.labels = torch.arange(len(classifier.labels))  # so that labels name their images

    def visited(seed: int, epoch: int) -> list[int]:
        steps = range(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH)
        return [i for step in steps for i in classifier.batch(seed, step)[1].tolist()]

    for epoch in range(3):
        assert len(set(visited(7, epoch))) == 32 * STEPS_PER_EPOCH
        assert set(visited(7, epoch)) < set(classifier.splits.train.tolist())
    assert visited(7, 0) == visited(7, 0)
    assert len({tuple(visited(seed, epoch)) for seed in (7, 8) for epoch in (0, 1)}) == 4
    reached = set().union(*(visited(7, epoch) for epoch in range(10)))
    assert reached == set(classifier.splits.train.tolist())  # nobody is always left over


def test_each_step_augments_in_its_own_way(classify: Callable[..., Classifier]) -> None:
    classifier = classify()
    classifier.images = classifier.images[:1].expand_as(classifier.images)  # all are one image
    first, again, second = (classifier.batch(7, step)[0] for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, classifier.batch(8, 0)[0])


def test_the_train_split_is_normalised_to_mean_zero_and_deviation_one(
    classify: Callable[..., Classifier],
) -> None:
    classifier = classify()
    pixels = classifier.normalised(classifier.images[classifier.splits.train])
    assert pixels.shape == (200, 1, 8, 8)
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-5)
    assert float(pixels.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_the_facts_of_a_task_name_data_and_parameters(
    classify: Callable[..., Classifier],
) -> None:
    facts = classify(model=linear).facts()
    assert facts["parameters"] == "1.weight (10, 64) torch.float32; 1.bias (10,) torch.float32"
    assert len(facts["data checksum"]) == 64


@pytest.mark.parametrize("stored", ["bf16", "fp32"])
def test_a_stored_study_keeps_its_precision_on_any_device(stored: Precision) -> None:
    task = Task(
        data=Digits(n_train=128, n_validation=64),
        model="trainers.models:digits_net",
        batch_size=64,
        precision="auto",
    )
    site = Site(device="cpu", data=None, cache=cache_folder(), precision=stored)
    trainer = task.trainer(site)
    assert isinstance(trainer, Classifier)
    assert trainer.facts()["precision"] == stored
