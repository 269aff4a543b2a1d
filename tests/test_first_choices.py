"""The configurations before any result, in spaces of every kind; and a budget that ends there."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from search.params import Params
from search.stages.first import FACTORS, SHAPE, first_choices
from search.stages.search import given
from search.stages.space import Ranges
from studies.definition import Screening
from studies.params import Choice, Parameter, Range, parameter
from tests.conftest import TABLE_STUDY, Ended
from tests.rows import query

Main = Callable[..., Ended]
PCT_START = dataclasses.replace(parameter("pct_start"), domain=Range(0.05, 0.6))
DIV_FACTOR = dataclasses.replace(parameter("div_factor"), domain=Range(2.0, 100.0, log=True))


def ranges(
    *others: Parameter, bracket: tuple[float, float] = (0.025, 0.4), **changes: object
) -> Ranges:
    settings = {"others": others or (PCT_START, DIV_FACTOR), "bracket": bracket, **changes}
    return Ranges(proposed_max_lr=0.1, **settings)  # type: ignore[arg-type]


def test_torchs_defaults_come_first_and_then_multiples_of_the_proposal() -> None:
    baseline, *others = first_choices(ranges())
    assert baseline == ranges().baseline()
    assert [each.max_lr for each in others] == pytest.approx([0.1 * factor for factor in FACTORS])
    assert all((each["pct_start"], each["div_factor"]) == (0.45, 15.0) for each in others)


def test_each_lies_within_the_studys_own_space() -> None:
    narrow = dataclasses.replace(PCT_START, domain=Range(0.1, 0.3))
    chosen = dataclasses.replace(DIV_FACTOR, domain=Choice((4.0, 10.0, 25.0)))
    own = ranges(narrow, chosen, bracket=(0.08, 0.2))
    _, *others = first_choices(own)
    assert [each.max_lr for each in others] == pytest.approx([0.15, 0.08, 0.2])
    assert all((each["pct_start"], each["div_factor"]) == (0.3, 10.0) for each in others)


def test_what_is_held_fixed_stays_and_what_else_is_searched_has_the_baselines_value() -> None:
    dropout = Parameter(name="dropout", domain=Range(0.0, 0.5), baseline=0.1)
    held = ranges(DIV_FACTOR, dropout, fixed={"pct_start": 0.2})
    for each in first_choices(held):
        assert (each["pct_start"], each["dropout"]) == (0.2, 0.1)


def test_those_that_are_the_same_are_one() -> None:
    tiny = ranges(bracket=(0.0999, 0.1001))
    choices = first_choices(tiny)
    assert [each.max_lr for each in choices] == pytest.approx([0.1, 0.1001, 0.0999])
    held = ranges(bracket=(0.0999, 0.1001), fixed={"pct_start": 0.3, "div_factor": 25.0})
    assert len({tuple(each.items()) for each in first_choices(held)}) == len(first_choices(held))


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_a_search_begins_with_them_and_then_takes_its_sobol_points(sampler: str) -> None:
    def at(slot: int, space: Ranges) -> Params | None:
        screening = Screening(n_trials=12, n_initial=2, sampler=sampler)
        return given(slot, screening=screening, study_seed=0, ranges=space)

    space, before = ranges(), dataclasses.replace(ranges(), first_choices=False)
    first = first_choices(space)
    assert [at(slot, space) for slot in range(4)] == first
    assert [at(slot, space) for slot in (4, 5)] == [at(slot, before) for slot in (1, 2)]
    assert (at(6, space) is None) == (at(3, before) is None) == (sampler == "tpe")
    assert at(0, before) == first[0]


# --budget range-test


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ONECYCLE_STORAGE", f"sqlite:///{tmp_path}/studies.db")
    return f"sqlite:///{tmp_path}/studies.db"


def test_a_budget_of_the_range_test_answers_unconfirmed_and_the_search_goes_on_from_it(
    storage: str, main_here: Main
) -> None:
    run = ("run", "--study", str(TABLE_STUDY), "--workers", "1")
    ended = main_here(*run, "--budget", "range-test")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("first choice, unconfirmed: no cycle was trained: max_lr ")
    assert "in 80 % of families" in ended.out
    assert "OneCycleLR(" in ended.out
    told = json.loads(main_here(*run, "--budget", "range-test", "--json").out)
    assert (told["confirmed"], told["n_cycles"]) == (False, 0)
    assert told["params"]["max_lr"] == pytest.approx(FACTORS[0] * told["range_test"]["max_lr"])
    assert {name: told["params"][name] for name in SHAPE} == SHAPE
    stored = ("--study", "table")
    assert json.loads(main_here("report", *stored, "--json").out) == told
    exported = main_here("export", *stored)
    assert exported.code == 0
    assert "unconfirmed: no cycle was trained" in exported.out
    compile(exported.out, "exported", "exec")
    assert main_here("status", *stored).code == 0
    train = main_here("train", "--name", "table", "--out", "never.pt")
    assert train.code == 1
    assert "has had its range test alone" in train.err
    sweeps = query(make_url(storage), "SELECT count(*), sum(token) FROM work WHERE token > 0")
    small = main_here(*run, "--trials", "5", "--json")
    assert small.code == 0, small.err
    claims = "SELECT count(*), sum(token) FROM work WHERE stage = 'range_test'"
    assert query(make_url(storage), claims) == sweeps == [(2, 2)], "no sweep was made again"
    searched = "SELECT count(*) FROM work WHERE stage = 'search'"
    assert query(make_url(storage), searched) == [(5,)]
    assert "winner" in json.loads(main_here(*run, "--budget", "range-test", "--json").out)
    assert main_here(*run, "--trials", "6").code == 2


def test_a_budget_of_the_range_test_is_refused_once_the_search_has_begun(
    storage: str, main_here: Main
) -> None:
    run = ("run", "--study", str(TABLE_STUDY), "--workers", "1")
    assert main_here(*run, "--budget", "range-test").code == 0
    refused = main_here(*run, "--budget", "3epochs")
    assert refused.code == 2, "it does not pay for the confirmation"
    assert main_here(*run, "--budget", "range-test").code == 0
    from sqlalchemy import create_engine, text

    engine = create_engine(storage)
    with engine.begin() as connection:
        connection.execute(text("UPDATE work SET token = 1 WHERE stage = 'search' AND slot = 0"))
    engine.dispose()
    late = main_here(*run, "--budget", "range-test")
    assert late.code == 2
    assert "the search of study 'table' has begun" in late.err
    other = main_here(*run, "--trials", "5")
    assert other.code == 2
    assert "is being searched with a target of 12" in other.err
