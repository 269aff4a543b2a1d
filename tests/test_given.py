"""Wrong types in a study file: taken where the meaning is plain, else told in one line."""

from pathlib import Path

import numpy as np
import pytest

from studies.definition import Confirmation, RangeTest, Screening, Space, Study
from studies.errors import StudyFileError
from studies.protocol import declared
from studies.registry import load
from tests.table_study import STUDY, Table
from trainers.task import OwnLoop, Task

HEAD = """
import numpy as np
import torch
from studies.definition import Confirmation, RangeTest, Screening, Space, Study
from trainers.data import Digits
from trainers.task import SGD, AdamW, OwnLoop, Task
from tests.table_study import Table

DATA = Digits(n_train=896, n_validation=400)
NET = torch.nn.Linear(2, 2)
SET = torch.utils.data.TensorDataset(torch.zeros(4, 2))
LOOP = OwnLoop(factory=Table, batch_size=10, steps_per_epoch=10)


def task(**given):
    return Task(**{"data": DATA, "model": lambda: NET, "batch_size": 64, **given})


def study(**given):
    parts = {"name": "x", "task": LOOP, "screening": Screening(n_trials=4, epochs=4)}
    return Study(**{**parts, "diverged_value": 0.1, **given})


"""


def refused(tmp_path: Path, code: str) -> str:
    file = tmp_path / "wrong.py"
    file.write_text(HEAD + code)
    with pytest.raises(StudyFileError) as told:
        load(str(file))
    text = str(told.value)
    assert text.startswith(f"{file}")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            "task(optimizer=torch.optim.RMSprop)",
            ["the class RMSprop", "torch.optim.RMSprop(model"],
        ),
        ("task(optimizer=torch.optim.SGD(NET.parameters()))", ["got a SGD", "Training(...)"]),
        ("task(optimizer=AdamW)", ["the class AdamW", "AdamW(...)"]),
        ("task(optimizer=None)", ["optimizer", "got None"]),
        ("task(model=NET)", ["got a Linear", "model=lambda: ..."]),
        ("task(data=SET)", ["got a TensorDataset", "Training(data=...)"]),
        ("task(data=torch.utils.data.DataLoader(SET))", ["got a DataLoader"]),
        ("task(data='images')", ["got 'images'", "ImageFolder"]),
        ("task(batch_size='64')", ["batch_size", "write 64 without quotes"]),
        ("task(batch_size=64.0)", ["batch_size", "write 64"]),
        ("task(label_smoothing='a lot')", ["label_smoothing", "the text 'a lot'"]),
        ("OwnLoop(factory=Table, batch_size=10.0, steps_per_epoch=10)", ["write 10"]),
        ("OwnLoop(factory=3, batch_size=10, steps_per_epoch=10)", ["factory", "got 3"]),
        ("study(task=NET)", ["got a Linear", "Training(model=lambda"]),
        ("study(task=Table)", ["got the class Table", "OwnLoop(...)"]),
        ("study(task=None)", ["got None"]),
        ("study(screening=12)", ["screening must be Screening(...), got 12"]),
        ("study(space={'pct_start': (0.1, 0.5)})", ["space must be Space(...)"]),
        ("study(diverged_value='0.1')", ["write 0.1 without quotes"]),
        ("study(name=3)", ["name must be a text, got 3"]),
        ("Screening(n_trials='12', epochs=4)", ["n_trials", "write 12 without quotes"]),
        ("Screening(n_trials=12, epochs=10.0)", ["epochs", "write 10"]),
        ("Screening(n_trials=None, epochs=4)", ["n_trials", "None", "leave it out"]),
        ("RangeTest(start_lr='1e-5')", ["start_lr", "write 1e-5 without quotes"]),
        ("RangeTest(n_steps=[200])", ["n_steps", "got [200]"]),
        ("Confirmation(n_seeds='five')", ["n_seeds", "the text 'five'"]),
        ("Space(pct_start=('0.1', 0.5))", ["pct_start", "the text '0.1'"]),
        (
            "Screening(n_trails=12, epochs=4)",
            ["'n_trails'", "n_trials", "It takes n_trials, epochs"],
        ),
        ("study(taks=LOOP)", ["Study has no argument 'taks'", "did you mean task?"]),
        ("Space(momentum=(0.8, 0.95))", ["Space has no argument 'momentum'", "extra"]),
    ],
)
def test_what_is_of_another_type_is_told_in_one_line(
    tmp_path: Path, call: str, words: list[str]
) -> None:
    text = refused(tmp_path, f"STUDY = {call}\n")
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("study_of_mine = study()", ["study_of_mine is one: call it STUDY"]),
        ("STUDY = [study(), study()]", ["a file holds one study"]),
        ("STUDY = study", ["got STUDY = a function"]),
    ],
)
def test_a_file_without_its_study_says_what_it_has(
    tmp_path: Path, code: str, words: list[str]
) -> None:
    text = refused(tmp_path, code)
    assert all(word in text for word in words), text


def test_lists_and_numbers_of_numpy_are_taken_as_the_plain_values_that_they_mean() -> None:
    def study(space: Space, *, n: object, epochs: object, worst: object) -> Study:
        return Study(
            name="x",
            task=OwnLoop(factory=Table, batch_size=n, steps_per_epoch=n),  # type: ignore[arg-type]
            screening=Screening(n_trials=n, epochs=epochs),  # type: ignore[arg-type]
            diverged_value=worst,  # type: ignore[arg-type]
            space=space,
            range_test=RangeTest(n_steps=n * 20),  # type: ignore[operator]
            confirmation=Confirmation(n_seeds=n),  # type: ignore[arg-type]
        )

    meant = study(Space(pct_start=(0.1, 0.5), batch_size=(5, 10)), n=10, epochs=4, worst=0.1)
    given = study(
        Space(pct_start=[0.1, np.float64(0.5)], batch_size=np.array([5, 10])),  # type: ignore[arg-type]
        n=np.int64(10),
        epochs=np.int32(4),
        worst=np.float64(0.1),
    )
    assert given == meant
    assert declared(given, "") == declared(meant, "")


def test_a_study_that_was_right_is_what_it_was() -> None:
    assert STUDY.space.pct_start == (0.05, 0.6)
    assert isinstance(STUDY.task, OwnLoop)
    assert not isinstance(STUDY.task, Task)
