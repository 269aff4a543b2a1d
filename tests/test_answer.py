"""What a study ended with, as it is stored, in this version's form and in earlier ones."""

import json
from typing import Any

import pytest

from studies.answer import (
    Answer,
    Comparison,
    Estimate,
    NoAnswer,
    Noise,
    ending_from_json,
    ending_to_json,
)

SHOWN = Comparison(Estimate(0.02, 0.01, 0.03, 5), 0.011)
NOT_SHOWN = Comparison(Estimate(-0.01, -0.03, 0.01, 5), 0.022)
FULL = Answer(
    winner=3,
    comparisons=(NOT_SHOWN, SHOWN),
    compared=True,
    test={3: (0.97, 0.98), 0: (0.95, 0.96)},
    search_noise=Noise(0.004, 4, "neighbours"),
    schedules={0: ((0, 0.01), (30, 0.2), (99, 1e-6)), 3: ((0, 0.02),)},
    versions={"torch": "2.99"},
    importances={"max_lr": 0.7, "dropout": 0.3},
)
BARE = Answer(
    winner=0,
    comparisons=(),
    compared=False,
    test={},
    search_noise=None,
    schedules={},
    versions={},
)


def through_json(value: object) -> Any:
    """Return a value as a database gives it back."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("answer", [FULL, BARE], ids=["full", "bare"])
def test_an_answer_comes_back_from_the_database_as_it_was(answer: Answer) -> None:
    back = ending_from_json(through_json(ending_to_json(answer)))
    assert back == answer
    assert isinstance(back, Answer)
    assert back.to_json() == answer.to_json()


def test_a_reason_comes_back_from_the_database_as_it_was() -> None:
    ending = NoAnswer('the baseline was given up; "quoted"')
    assert ending_from_json(through_json(ending_to_json(ending))) == ending
    assert ending_to_json(ending) == {"reason": ending.reason}


@pytest.mark.parametrize(
    ("gone", "changed"),
    [
        ("compared", {}),
        ("versions", {"versions": {}}),
        ("search_noise", {"search_noise": None}),
        ("importances", {"importances": None}),
    ],
)
def test_an_answer_of_before_a_field_is_read(gone: str, changed: dict[str, Any]) -> None:
    stored = through_json(FULL.to_json())
    del stored[gone]
    expected = {name: getattr(FULL, name) for name in Answer.__slots__}
    assert Answer.from_json(stored) == Answer(**{**expected, **changed})


def test_an_answer_of_the_first_version_is_read() -> None:
    """Before `compared` each round compared, so no comparison says that the baseline won."""
    first = {"winner": 0, "comparisons": [], "test": {}, "schedules": {}}
    assert Answer.from_json(first) == BARE
    stored = through_json(FULL.to_json())
    for name in ("compared", "versions", "search_noise", "importances"):
        del stored[name]
    assert Answer.from_json(stored).compared


def test_importances_not_computed_differ_from_nothing_to_explain() -> None:
    computed = through_json(FULL.to_json()) | {"importances": {}}
    assert Answer.from_json(computed).importances == {}
    assert Answer.from_json(computed | {"importances": None}).importances is None


def test_what_is_read_is_made_of_values_that_do_not_change() -> None:
    back = Answer.from_json(through_json(FULL.to_json()))
    assert isinstance(back.comparisons, tuple)
    assert back.test[3] == (0.97, 0.98)
    assert back.schedules[0][1] == (30, 0.2)
    with pytest.raises(AttributeError):
        back.winner = 1  # type: ignore[misc]


@pytest.mark.parametrize(("comparison", "shown"), [(SHOWN, True), (NOT_SHOWN, False)])
def test_a_difference_is_shown_where_its_interval_excludes_zero(
    comparison: Comparison, shown: bool
) -> None:
    assert comparison.shown is shown
    assert comparison.difference.half_width == pytest.approx(0.01 if shown else 0.02)
