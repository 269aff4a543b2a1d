"""Tasks as plain values: checked when made, and known without torch."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainers.augment import Augment
from trainers.data import Digits
from trainers.device import Site
from trainers.errors import TaskError
from trainers.models import digits_net, resnet9, small_cnn
from trainers.task import SGD, AdamW, OwnLoop, Task, load_factory

GOOD = {
    "data": Digits(n_train=100, n_validation=50),
    "model": "trainers.models:digits_net",
    "batch_size": 32,
}


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("batch_size", 0, "0"),
        ("batch_size", -1, "-1"),
        ("batch_size", 101, "101"),
        ("batch_size", 32.0, "32.0"),
        ("precision", "fp16", "'fp16'"),
        ("label_smoothing", -0.1, "-0.1"),
        ("label_smoothing", 1.0, "1.0"),
        ("label_smoothing", math.nan, "nan"),
    ],
)
def test_a_bad_task_is_refused_by_name_and_value(field: str, value: Any, shown: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must ") as refused:
        Task(**GOOD | {field: value})
    assert shown in str(refused.value).split("got")[1]


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (SGD, "weight_decay", -1e-4),
        (SGD, "weight_decay", math.inf),
        (AdamW, "weight_decay", math.nan),
        (lambda **field: Augment(**field), "crop", -2),
        (
            lambda **field: OwnLoop(**{"factory": "m:f", "batch_size": 1} | field),
            *("steps_per_epoch", 0),
        ),
        (
            lambda **field: OwnLoop(**{"factory": "m:f", "steps_per_epoch": 1} | field),
            *("batch_size", -3),
        ),
    ],
)
def test_what_a_task_is_made_of_is_checked_too(
    make: Callable[..., object], field: str, value: float
) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must .*got {value}"):
        make(**{field: value})


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(1, 100), (32, 3), (33, 3), (34, 2), (50, 2), (51, 1), (100, 1)]
)
def test_an_epoch_is_the_full_batches(batch_size: int, expected: int) -> None:
    assert Task(**GOOD | {"batch_size": batch_size}).steps_per_epoch == expected


def test_a_factory_is_a_callable_or_the_name_of_one() -> None:
    assert load_factory("trainers.models:digits_net") is digits_net
    assert load_factory(digits_net) is digits_net


def test_a_loop_of_your_own_is_made_at_its_site(tmp_path: Path) -> None:
    site = Site(device="cpu", data=None, cache=tmp_path)
    made: list[Site] = []

    class Loop:
        def __init__(self, site: Site) -> None:
            made.append(site)

        def fit(self, run: object) -> None: ...

    own = OwnLoop(factory=Loop, batch_size=8, steps_per_epoch=5)  # type: ignore[arg-type]
    assert isinstance(own.trainer(site), Loop)
    assert made == [site]


@pytest.mark.parametrize("optimizer", [SGD(weight_decay=0.1), AdamW(weight_decay=0.1)])
def test_weight_decay_is_for_tensors_of_two_or_more_dimensions(optimizer: SGD | AdamW) -> None:
    model = digits_net()
    built = optimizer.build(model)
    decay = {id(p): group["weight_decay"] for group in built.param_groups for p in group["params"]}
    parameters = list(model.parameters())
    assert {p.ndim for p in parameters} == {1, 2, 4}
    assert [decay[id(p)] for p in parameters] == [0.1 if p.ndim >= 2 else 0.0 for p in parameters]
    assert sum(len(group["params"]) for group in built.param_groups) == len(parameters)


@pytest.mark.parametrize("model", [nn.Linear(3, 2, bias=False), nn.BatchNorm1d(3)])
def test_a_model_of_one_kind_of_tensor_has_one_group(model: nn.Module) -> None:
    assert len(SGD().build(model).param_groups) == 1


@pytest.mark.parametrize(
    ("factory", "shape"),
    [(digits_net, (1, 8, 8)), (small_cnn, (3, 32, 32)), (resnet9, (3, 32, 32))],
)
def test_the_bundled_nets_turn_images_into_ten_scores(
    factory: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    scores = factory()(torch.zeros(2, *shape))
    assert scores.shape == (2, 10)
    assert torch.isfinite(scores).all()


def test_what_a_study_file_imports_does_not_import_torch() -> None:
    modules = [
        "task",
        "run",
        "onecycle",
        "sweeps.sweep",
        "data",
        "device",
        "sweeps.judgement",
        "audit",
    ]
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules}: importlib.import_module('trainers.' + name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = set(json.loads(out.stdout))
    assert {f"trainers.{name}" for name in modules} < loaded
    assert not {"torch", "torchvision", "optuna", "sqlalchemy"} & loaded


def test_a_task_under_parameters_is_the_task_with_these_values() -> None:
    task = Task(**GOOD, label_smoothing=0.1, optimizer=AdamW(weight_decay=0.02))
    changed = task.under({"label_smoothing": 0.2, "weight_decay": 0.03, "batch_size": 50})
    assert changed.own_values() == {"batch_size": 50, "weight_decay": 0.03, "label_smoothing": 0.2}
    assert changed.optimizer == AdamW(weight_decay=0.03)
    assert changed.steps_per_epoch == 2
    assert task.under({}) == task


@pytest.mark.parametrize("name", ["dropout", "max_lr", "momentum"])
def test_a_parameter_that_a_task_has_not_is_refused_by_name(name: str) -> None:
    allowed = "it takes batch_size, weight_decay, label_smoothing"
    with pytest.raises(TaskError, match=rf"no parameter '{name}'; {allowed}"):
        Task(**GOOD).under({"batch_size": 10, name: 0.5})


def test_a_loop_of_ones_own_knows_what_it_was_told_of_itself() -> None:
    loop = OwnLoop(factory="a:b", batch_size=8, steps_per_epoch=5)
    assert loop.own_values() == {"batch_size": 8}
    known = OwnLoop(factory="a:b", batch_size=8, steps_per_epoch=5, weight_decay=0.0)
    assert known.own_values() == {"batch_size": 8, "weight_decay": 0.0}, "zero is known"
