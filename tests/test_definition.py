"""Definitions that cannot be wrong: every refusal names the field and the value got."""

import dataclasses
import math
import re
from typing import Any

import pytest

from studies.definition import Confirmation, RangeTest, Screening, Space, Study
from tests.table_study import STUDY
from trainers.data import Digits
from trainers.task import OwnLoop, Task


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (RangeTest, "n_sweeps", 0),
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
        (Screening, "n_trials", 0),
        (Screening, "n_trials", 1.5),
        (Screening, "n_trials", True),
        (Screening, "epochs", 0),
        (Screening, "epochs", "4"),
        (Screening, "epochs", ()),
        (Screening, "epochs", (4, 2)),
        (Screening, "epochs", (2, 2)),
        (Screening, "epochs", (2, 4.0)),
        (Screening, "share", (0.5,)),
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
