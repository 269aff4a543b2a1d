"""A training step waits for nothing that the device computes, and its numbers are as before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset

from tests.far_device import FAR, FarGenerator, Waits
from tests.training_kinds import plain
from trainers.augment import Augment
from trainers.batches import moved
from trainers.calls.applied import Applied
from trainers.data import Digits
from trainers.device import Site, sent
from trainers.loop import Classifier, Fit
from trainers.onecycle import OneCycle
from trainers.run import Plan, Run
from trainers.seeding import seed_for
from trainers.streams import loader_of
from trainers.sweeps.sweep import Sweep
from trainers.task import SGD, AdamW, Task
from trainers.training_fit import Fit as TrainingFit
from trainers.training_loop import TrainingLoop

HERE = Site(device="cpu", data=None, cache=Path("unused"))
N_STEPS, STEPS_PER_EPOCH = 50, 20
CYCLE = OneCycle(max_lr=0.1, total_steps=N_STEPS)
SWEEP = Sweep(start_lr=1e-4, end_lr=0.5, total_steps=N_STEPS)
MOST_STEPS_UNREAD = 50


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.1), nn.Flatten(), nn.Linear(144, 10)
    )


def make_classifier(cache: Path, **fields: Any) -> Classifier:
    task = Task(
        data=Digits(n_train=200, n_validation=100),
        model=net,
        batch_size=200 // STEPS_PER_EPOCH,
        augment=Augment(crop=1, flip=True),
        precision="fp32",
        **fields,
    )
    return Classifier(task, Site(device="cpu", data=None, cache=cache))


@pytest.fixture
def classify(tmp_path: Path) -> Callable[..., Classifier]:
    def make(**fields: Any) -> Classifier:
        return make_classifier(tmp_path, **fields)

    return make


def sent_away(classifier: Classifier) -> Classifier:
    """Put a classifier's data on the far device; its models follow."""
    classifier.device = FAR
    for name in ("images", "labels", "mean", "std"):
        setattr(classifier, name, getattr(classifier, name).to(FAR))
    return classifier


def read_at(waits: Waits) -> list[int]:
    """Return the numbers of the steps at whose end something was read, counted from 1."""
    return [number for number, names in enumerate(waits.steps) if "read" in names]


@pytest.mark.parametrize(
    ("optimizer", "plan"), [(SGD(), CYCLE), (AdamW(), SWEEP)], ids=["sgd-cycle", "adamw-sweep"]
)
def test_a_step_of_the_bundled_loop_waits_for_nothing(
    classify: Callable[..., Classifier],
    optimizer: SGD | AdamW,
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier = sent_away(classify(optimizer=optimizer, label_smoothing=0.1))
    waits = Waits()
    split: Any = None if plan is SWEEP else "validation"
    run = Run(plan=plan, seed=7, split=split, stop_asked=waits.begin_step)
    monkeypatch.setattr(torch, "Generator", FarGenerator)
    with waits:
        assert Fit(classifier, run).to_the_end().n_steps == N_STEPS
    begins = range(1, N_STEPS + 1, STEPS_PER_EPOCH)
    ends = {*range(0, N_STEPS + 1, STEPS_PER_EPOCH), N_STEPS}
    assert [waits.steps[number] for number in begins] == [["_to_copy"]] * len(begins), "an order"
    reads = read_at(waits)
    inside = set(range(1, N_STEPS + 1)) - set(begins) - ends - set(reads)
    assert len(inside) > 0.7 * N_STEPS
    assert {number: waits.steps[number] for number in inside if waits.steps[number]} == {}
    gaps = [b - a for a, b in zip([0, *reads], reads, strict=False)]
    assert max(gaps) <= MOST_STEPS_UNREAD, "a divergence is seen within so many steps"


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_a_step_of_anybodys_training_waits_for_its_batch_alone(clip_norm: float | None) -> None:
    training = plain(clip_norm=clip_norm)
    loop = TrainingLoop(training, HERE)
    loop.device = FAR
    waits, n_steps = Waits(), 20
    plan = OneCycle(max_lr=0.1, total_steps=n_steps)
    run = Run(plan=plan, seed=7, stop_asked=waits.begin_step)
    with waits:
        fit = TrainingFit(loop, run, training.data.get("train", {}))
        waits.steps = [[]]
        while fit.step < n_steps:
            waits.begin_step()
            fit._took_a_step()
    for number, names in enumerate(waits.steps[1:], 1):
        reads = [name for name in names if name == "read"]
        assert names == ["_to_copy"] * 2 + reads, number
    assert len(read_at(waits)) == 1


class Kept(TorchDispatchMode):
    """Keeps the options of each copy between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[dict[str, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name == "aten::_to_copy":
            self.copies.append(kwargs)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_a_batch_goes_to_a_gpu_without_a_wait(kind: str) -> None:
    with FakeTensorMode(), Kept() as kept:
        batch = {"x": torch.zeros(3), "y": (torch.zeros(2), [torch.zeros(1)])}
        there = moved(batch, torch.device(kind))
    assert there["y"][1][0].device.type == kind
    assert [copy["non_blocking"] for copy in kept.copies] == ([True] * 3 if kind == "cuda" else [])


def test_our_loaders_pin_their_batches_for_a_gpu_where_nobody_says_otherwise() -> None:
    data = TensorDataset(torch.zeros(4))
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert loader_of(data, {}, gpu, batch_size=2).pin_memory
    assert not loader_of(data, {"pin_memory": False}, gpu, batch_size=2).pin_memory
    assert not loader_of(data, {}, cpu, batch_size=2).pin_memory


def former_batch(classifier: Classifier, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Return a batch as it was computed before orders and draws moved to the device."""
    size, n = classifier.task.batch_size, len(classifier.splits.train)
    epoch, position = divmod(step, n // size)
    generator = torch.Generator().manual_seed(seed_for(seed, "order", epoch))
    order = torch.randperm(n, generator=generator)
    index = classifier.splits.train[order[position * size : (position + 1) * size]]
    generator = torch.Generator().manual_seed(seed_for(seed, "augment", step))
    shift = torch.randint(-1, 2, (2, size, 1), generator=generator)
    rows, columns = ((torch.arange(8) + each).abs() for each in shift)
    rows, columns = (7 - (each - 7).abs() for each in (rows, columns))
    mirrored = torch.rand((size, 1), generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    images = classifier.images[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    return classifier.normalised(images), classifier.labels[index]


@pytest.mark.parametrize("step", [0, 1, STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH])
def test_on_a_cpu_the_batches_are_those_of_before(
    classify: Callable[..., Classifier], step: int
) -> None:
    classifier = classify()
    images, labels = classifier.batch(7, step)
    before, labels_before = former_batch(classifier, 7, step)
    assert torch.equal(images, before)
    assert torch.equal(labels, labels_before)


class Reads(TorchDispatchMode):
    """Counts the single values that the host reads."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func._schema.name == "aten::_local_scalar_dense"
        return func(*args, **(kwargs or {}))


def test_in_fp16_each_step_waits_once() -> None:
    training = plain(precision="fp16")
    loop, n_steps = TrainingLoop(training, HERE), 8
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=n_steps), seed=7)
    fit = TrainingFit(loop, run, training.data.get("train", {}))
    counts = []
    for _ in range(n_steps):
        with Reads() as reads:
            fit._took_a_step()
        counts.append(reads.n)
    assert fit.n_skipped == 0
    every = training.steps_per_epoch
    expected = [1 + (number % every == 0) for number in range(n_steps)]
    assert counts == expected, "a loader draws a seed of its own at each reading"


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_a_scaler_skips_is_known_of_any_optimizer(fused: bool) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    applied, scaler = Applied(optimizer), torch.amp.GradScaler("cpu")
    seen = []
    for factor in (1.0, float("inf"), 1.0, 1.0):
        before, n_before = weight.detach().clone(), len(applied)
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append(applied.was_skipped(n_before))
        assert seen[-1] == torch.equal(weight, before)
    assert seen == [False, True, False, False]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("plan", [CYCLE, SWEEP], ids=["cycle", "sweep"])
def test_on_a_gpu_no_step_waits(tmp_path: Path, plan: Plan) -> None:
    task = make_classifier(tmp_path).task
    classifier = Classifier(task, Site(device="cuda", data=None, cache=tmp_path))
    split: Any = None if plan is SWEEP else "validation"
    fit = Fit(classifier, Run(plan=plan, seed=7, split=split))
    fit._one_step()  # what is loaded once
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            fit._one_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_is_sent_within_a_cpu_is_the_same_tensor() -> None:
    tensor = torch.arange(3)
    assert sent(tensor, torch.device("cpu")) is tensor
