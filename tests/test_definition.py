"""Definitions that cannot be wrong: every refusal names the field and the value got."""

import dataclasses
import math
import re
from dataclasses import replace
from typing import Any

import pytest

from studies.definition import Confirmation, RangeTest, Screening, Space, Study
from tests.table_study import STUDY
from trainers.data import Digits
from trainers.task import SGD, AdamW, OwnLoop, Task


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (RangeTest, "n_sweeps", -1),
        (RangeTest, "required", 1),
        (RangeTest, "n_sweeps", 2.0),
        (RangeTest, "n_steps", 49),
        (RangeTest, "n_steps", "200"),
        (RangeTest, "start_lr", 0.0),
        (RangeTest, "start_lr", 11.0),
        (RangeTest, "start_lr", math.nan),
        (RangeTest, "end_lr", 1e-6),
        (RangeTest, "end_lr", math.inf),
        (Space, "pct_start", (0.0, 0.5)),
        (Space, "pct_start", (0.5, 0.5)),
        (Space, "pct_start", (0.5, 1.0)),
        (Space, "pct_start", (0.1, 0.2, 0.3)),
        (Space, "pct_start", 0.3),
        (Space, "div_factor", (1.0, 10.0)),
        (Space, "div_factor", (10.0, 2.0)),
        (Space, "div_factor", (2.0, math.inf)),
        (Space, "div_factor", (2.0,)),
        (Space, "weight_decay", (0.0, 0.01)),
        (Space, "weight_decay", (0.01, 0.001)),
        (Space, "weight_decay", 5e-4),
        (Space, "batch_size", (64,)),
        (Space, "batch_size", (64, 64)),
        (Space, "batch_size", (128, 64)),
        (Space, "batch_size", (0, 64)),
        (Space, "batch_size", (64, 128.0)),
        (Screening, "n_trials", 0),
        (Screening, "n_trials", 1.5),
        (Screening, "n_trials", True),
        (Screening, "epochs", 0),
        (Screening, "epochs", "4"),
        (Screening, "epochs", ()),
        (Screening, "epochs", (4, 2)),
        (Screening, "epochs", (2, 2)),
        (Screening, "epochs", (2, 4.0)),
        (Screening, "epochs", (2, 4)),
        (Screening, "sampler", "tpee"),
        (Screening, "n_initial", -1),
        (Confirmation, "n_finalists", 0),
        (Confirmation, "n_seeds", 1),
    ],
)
def test_a_bad_value_is_refused_by_name(kind: Any, field: str, value: object) -> None:
    fields = {"n_trials": 12, "epochs": 4} if kind is Screening else {}
    with pytest.raises(ValueError, match=field) as caught:
        kind(**{**fields, field: value})
    got = f"{value:g}" if isinstance(value, float) and field.endswith("_lr") else repr(value)
    assert got in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a/b"),
        ("name", "mine.py"),
        ("name", " mine"),
        ("name", "two\nlines"),
        ("name", "n" * 201),
        ("direction", "up"),
        ("diverged_value", math.nan),
        ("diverged_value", math.inf),
    ],
)
def test_a_study_refuses_a_bad_value_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}") as caught:
        dataclasses.replace(STUDY, **{field: value})
    assert repr(value) in str(caught.value)


def test_a_cycle_too_short_to_warm_up_is_refused_with_the_numbers() -> None:
    words = "a cycle of 30 steps leaves 1.5 warm-up steps at pct_start=0.05; at least 2"
    with pytest.raises(ValueError, match=re.escape(words)):
        dataclasses.replace(STUDY, screening=Screening(n_trials=12, epochs=3))
    longer = Space(pct_start=(0.1, 0.6))
    shorter = dataclasses.replace(STUDY, screening=Screening(n_trials=12, epochs=3), space=longer)
    assert shorter.cycle_steps == 30


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 897),
        ("precision", "fp16"),
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
    ],
)
def test_a_task_refuses_a_bad_value_by_name(field: str, value: object) -> None:
    fields: dict[str, Any] = {"batch_size": 64, field: value}
    with pytest.raises(ValueError, match=f"^{field}.*got {re.escape(repr(value))}$"):
        Task(data=Digits(n_train=896, n_validation=400), model="a:b", **fields)


@pytest.mark.parametrize("field", ["batch_size", "steps_per_epoch"])
def test_an_own_loop_refuses_a_bad_value_by_name(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} .*got 0$"):
        OwnLoop(**{"factory": "a:b", "batch_size": 1, "steps_per_epoch": 1, field: 0})


DIGITS = Task(data=Digits(n_train=896, n_validation=400), model="a:b", batch_size=64)


@pytest.mark.parametrize(
    ("task", "space", "words"),
    [
        (DIGITS, {"batch_size": (32, 128)}, "batch_size must hold the task's own, 64"),
        (
            DIGITS,
            {"batch_size": (64, 1024)},
            "batch_size must be a whole number from 1 to n_train (896), got 1024",
        ),
        (
            STUDY.task,
            {"batch_size": (10, 101)},
            "batch_size must be at most batch_size x steps_per_epoch (100), got 101",
        ),
        (DIGITS, {"batch_size": (64, 512)}, "a cycle of 4 steps leaves 0.2 warm-up steps"),
        (
            DIGITS,
            {"weight_decay": (1e-5, 0.1)},
            "weight_decay must be at most 0.02 with an SGD-type optimizer, got (1e-05, 0.1)",
        ),
        (
            dataclasses.replace(DIGITS, optimizer=AdamW()),
            {"weight_decay": (1e-5, 0.2)},
            "weight_decay must be at most 0.1 with an Adam-type optimizer",
        ),
        (
            dataclasses.replace(DIGITS, optimizer=SGD(weight_decay=0)),
            {"weight_decay": (1e-5, 0.01)},
            "weight_decay must hold the task's own, 0,",
        ),
        (STUDY.task, {"weight_decay": (1e-5, 0.01)}, "OwnLoop(weight_decay=...) says it"),
    ],
    ids=lambda value: "" if isinstance(value, Task | OwnLoop) else None,
)
def test_a_space_that_does_not_suit_the_task_is_refused(
    task: Task | OwnLoop, space: dict[str, Any], words: str
) -> None:
    screening = Screening(n_trials=12, epochs=4)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        dataclasses.replace(STUDY, task=task, screening=screening, space=Space(**space))
    assert "\n" not in str(caught.value)


def test_each_batch_size_has_its_number_of_steps_and_the_tasks_own_comes_first() -> None:
    space = Space(batch_size=(32, 64, 128))
    screening = Screening(n_trials=12, epochs=10)
    study = dataclasses.replace(STUDY, task=DIGITS, space=space, screening=screening)
    assert study.batch_sizes == (64, 32, 128)
    steps = {size: study.steps_of(10, batch_size=size) for size in study.batch_sizes}
    assert steps == {64: 140, 32: 280, 128: 70}
    assert study.cycle_steps == 140
    loop = OwnLoop(factory="a:b", batch_size=32, steps_per_epoch=16)
    assert loop.at(batch_size=100).steps_per_epoch == 5, "5 full batches of 512 images"
    assert STUDY.batch_sizes == (10,)


def test_steps_are_counted_in_full_batches() -> None:
    data = Digits(n_train=130, n_validation=100)
    task = Task(data=data, model="a:b", batch_size=64)
    study = Study(
        name="x", task=task, screening=Screening(n_trials=1, epochs=20), diverged_value=0.1
    )
    assert task.steps_per_epoch == 2
    assert study.cycle_steps == 40


@pytest.mark.parametrize("thing", [STUDY, STUDY.range_test, STUDY.space, STUDY.screening])
def test_a_definition_cannot_be_changed(thing: Any) -> None:
    field = dataclasses.fields(thing)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(thing, field, None)


def test_a_space_with_a_broken_cycle_at_a_corner_is_refused_before_a_trial_is_spent() -> None:
    with pytest.raises(ValueError, match="a corner of the space is no cycle: error: no-anneal"):
        dataclasses.replace(STUDY, space=Space(pct_start=(0.1, 0.97)))
    assert (
        dataclasses.replace(STUDY, space=Space(pct_start=(0.1, 0.95))).space.pct_start[1] == 0.95
    )


@pytest.mark.parametrize(
    "max_lr",
    [(0.1,), (0.1, 0.1), (0.2, 0.1), (0.0, 0.1), (0.1, math.inf), ("a", 1), 0.1, (1, True)],
)
def test_a_range_of_max_lr_is_two_numbers_that_rise_above_0(max_lr: object) -> None:
    with pytest.raises(ValueError, match=r"max_lr must (be two|hold) numbers.*got"):
        Space(max_lr=max_lr)  # type: ignore[arg-type]
    assert Space(max_lr=[1, 2]) == Space(max_lr=(1.0, 2.0))  # type: ignore[arg-type]


def test_a_study_without_sweeps_needs_a_range_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"n_sweeps=0 .* give Space\(max_lr=\(low, high\)\)"):
        replace(STUDY, range_test=RangeTest(n_sweeps=0))
    with pytest.raises(ValueError, match="required=True needs sweeps"):
        RangeTest(n_sweeps=0, required=True)
    own = Space(max_lr=(0.01, 1.0))
    assert replace(STUDY, range_test=RangeTest(n_sweeps=0), space=own).swept_settings == ()
