"""What must not change within a study, and how a change is named."""

import re
from dataclasses import replace

import pytest

from studies.definition import Confirmation, RangeTest, Screening, Space, Study
from studies.errors import ProtocolError
from studies.protocol import compare, declared
from trainers.augment import Augment
from trainers.data import Cifar10, Digits
from trainers.task import SGD, AdamW, OwnLoop, Task

TASK = Task(
    data=Digits(n_train=896, n_validation=400), model="trainers.models:digits_net", batch_size=64
)
STUDY = Study(
    name="mine", task=TASK, screening=Screening(n_trials=16, epochs=10), diverged_value=0.1
)
SOURCE = '"""Mine."""\n\nA = 1\nB = [A, 2]\n'


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("diverged_value", {"diverged_value": 0.2}),
        ("screening.epochs", {"screening": Screening(n_trials=16, epochs=11)}),
        ("screening.n_trials", {"screening": Screening(n_trials=17, epochs=10)}),
        ("range_test.n_steps", {"range_test": RangeTest(n_steps=201)}),
        ("space.div_factor", {"space": Space(div_factor=(3, 100))}),
        ("confirmation.n_seeds", {"confirmation": Confirmation(n_seeds=6)}),
        ("task.batch_size", {"task": replace(TASK, batch_size=32)}),
        ("task.label_smoothing", {"task": replace(TASK, label_smoothing=0.1)}),
        ("task.model", {"task": replace(TASK, model="trainers.models:small_cnn")}),
        ("task.precision", {"task": replace(TASK, precision="fp32")}),
        ("task.augment.crop", {"task": replace(TASK, augment=Augment(crop=1))}),
        ("task.optimizer.momentum", {"task": replace(TASK, optimizer=SGD(momentum=0.8))}),
        ("task.optimizer", {"task": replace(TASK, optimizer=AdamW(weight_decay=5e-4))}),
        ("task.data", {"task": replace(TASK, data=Cifar10(n_train=896, n_validation=400))}),
        ("task.data.n_train", {"task": replace(TASK, data=Digits(n_train=900, n_validation=400))}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_changed_field_is_named_with_both_values(field: str, changed: dict[str, object]) -> None:
    stored, now = declared(STUDY, SOURCE), declared(replace(STUDY, **changed), SOURCE)
    assert stored[field] != now[field]
    words = f"study 'mine' was made with {field} = {stored[field]}, now it is {now[field]}; "
    with pytest.raises(ProtocolError, match=re.escape(words)):
        compare("mine", stored, now)


def test_a_changed_direction_is_named() -> None:
    loop = OwnLoop(factory="a:b", batch_size=1, steps_per_epoch=9)
    up = Study(name="mine", task=loop, epochs=9, diverged_value=0.1)
    with pytest.raises(ProtocolError, match="direction = 'maximize', now it is 'minimize'"):
        compare("mine", declared(up, ""), declared(replace(up, direction="minimize"), ""))


WIDE = replace(STUDY, space=Space(weight_decay=(1e-5, 1e-2), batch_size=(32, 64)))


def test_a_study_that_searches_neither_has_the_protocol_that_it_always_had() -> None:
    fields = declared(STUDY, SOURCE)
    assert [name for name in fields if name.startswith(("space", "baseline"))] == [
        "space",
        "space.pct_start",
        "space.div_factor",
    ]
    assert fields["task.batch_size"] == "64"
    assert fields["task.optimizer.weight_decay"] == "0.0005"
    loop = replace(STUDY, task=OwnLoop(factory="a:b", batch_size=1, steps_per_epoch=9))
    assert [name for name in declared(loop, SOURCE) if name.startswith("task.")] == [
        "task.factory",
        "task.batch_size",
        "task.steps_per_epoch",
        "task.adaptive",
    ]


def test_what_the_space_holds_is_no_field_of_the_task() -> None:
    fields = declared(WIDE, SOURCE)
    assert fields["space.batch_size"] == "(32, 64)"
    assert fields["space.weight_decay"] == "(1e-05, 0.01)"
    assert not {"task.batch_size", "task.optimizer.weight_decay"} & fields.keys()
    assert (fields["baseline.batch_size"], fields["baseline.weight_decay"]) == ("64", "0.0005")
    own = OwnLoop(factory="a:b", batch_size=64, steps_per_epoch=9, weight_decay=1e-3)
    fields = declared(replace(WIDE, task=own), SOURCE)
    assert (fields["baseline.batch_size"], fields["baseline.weight_decay"]) == ("64", "0.001")
    assert not {"task.batch_size", "task.weight_decay"} & fields.keys()


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("baseline.batch_size", {"task": replace(TASK, batch_size=32)}),
        ("baseline.weight_decay", {"task": replace(TASK, optimizer=SGD(weight_decay=1e-3))}),
        ("space.batch_size", {"space": replace(WIDE.space, batch_size=(32, 64, 128))}),
        ("space.batch_size", {"space": replace(WIDE.space, batch_size=None)}),
    ],
)
def test_another_baseline_or_another_set_is_another_study(
    field: str, changed: dict[str, object]
) -> None:
    stored, now = declared(WIDE, SOURCE), declared(replace(WIDE, **changed), SOURCE)
    with pytest.raises(ProtocolError, match=f"was made with {re.escape(field)} = "):
        compare("mine", stored, now)


def test_the_name_is_not_part_of_the_protocol() -> None:
    compare("x", declared(STUDY, SOURCE), declared(replace(STUDY, name="other"), SOURCE))


@pytest.mark.parametrize(
    "source",
    [
        '"""Mine."""\n# said\nA = 1  # one\n\n\nB = [\n    A,\n    2,\n]\n',
        SOURCE.replace(" = ", "="),
    ],
)
def test_comments_and_layout_do_not_count(source: str) -> None:
    assert source != SOURCE
    compare("mine", declared(STUDY, SOURCE), declared(STUDY, source))


def test_code_counts() -> None:
    with pytest.raises(ProtocolError, match="code of the study file"):
        compare("mine", declared(STUDY, SOURCE), declared(STUDY, SOURCE.replace("A, 2", "A, 3")))


def test_versions_of_torch_are_compared_to_the_minor() -> None:
    now = declared(STUDY, SOURCE)
    assert re.fullmatch(r"\d+\.\d+", now["torch"])
    with pytest.raises(ProtocolError, match=r"torch = 1\.0, now it is"):
        compare("mine", {**now, "torch": "1.0"}, now)


def test_fields_that_came_or_went_are_named() -> None:
    with pytest.raises(ProtocolError, match="b = 2, now it is nothing"):
        compare("mine", {"a": "1", "b": "2"}, {"a": "1"})
    with pytest.raises(ProtocolError, match="b = nothing, now it is 2"):
        compare("mine", {"a": "1"}, {"a": "1", "b": "2"})


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ProtocolError) as caught:
        compare("mine", {"a": "x" * 500}, {"a": "y" * 500})
    assert len(str(caught.value)) < 300
