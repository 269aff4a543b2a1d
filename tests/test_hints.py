"""What to try next: when it is said, and that its commands are commands."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, make_url

from search.params import Params
from search.results.provenance import Shell, free_name, storage_flag
from search.stages.statistics import Comparison, Estimate
from search.starting import catalog
from search.views.findings import Findings, findings
from search.views.hints import Hint, hints
from studies.answer import OneMoreHour, SearchEnd
from studies.database import open_engine
from studies.urls import default_url
from tests.commands import parsed
from tests.finished_rows import NAME, put
from trainers.run import Point
from trainers.sweeps.result import RangeTestResult, concluded
from trainers.sweeps.sweep import Sweep

SHELL = Shell("digits", "digits", "digits-2", ())
PLAN = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=200)
SHOWN = Comparison(Estimate(0.02, 0.01, 0.03, 5), 0.012)
NOT_SHOWN = Comparison(Estimate(0.01, -0.01, 0.03, 5), 0.04)


def swept(*edges: float, plan: Sweep = PLAN) -> RangeTestResult:
    """Return sweeps that break at these rates; above the last rate they do not break."""
    rises = np.array([[1 / (1 + (edge / lr) ** 4) for lr in plan.lrs()] for edge in edges])
    points = tuple(
        tuple(
            Point(step, lr, float(2.3 - 2 / (1 + (0.01 / lr) ** 2) + 4 * rise))
            for step, (lr, rise) in enumerate(zip(plan.lrs(), row, strict=True))
        )
        for row in rises
    )
    return concluded(plan, points, None, seconds=1.0)


SURE = swept(1.0, 1.1, 0.9, 1.05, 0.95)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Findings]:
    folder = tmp_path_factory.mktemp("hints")
    engine: Engine = open_engine(make_url(f"sqlite:///{folder}/studies.db"))
    put(engine)
    yield findings(engine, catalog.find(engine, NAME))
    engine.dispose()


def told(found: Findings, measured: RangeTestResult = SURE, **changes: Any) -> dict[str, Hint]:
    """Return the hints for a study of 24 configurations, 3 of them tied, with these changes."""
    region = replace(found.result.region, slots=(1, 2, 3), n_cycles=24)
    usual = {"n_trials": 24, "n_diverged": 0, "region": region, "comparison": SHOWN}
    result = replace(found.result, **{**usual, **changes})
    return {hint.about: hint for hint in hints(result, measured, SHELL)}


def flags_of(command: str) -> tuple[str, dict[str, object]]:
    """Return what the command line makes of a command to paste."""
    words = shlex.split(command)
    assert words[:2] == ["python", "-m"]
    if words[2] == "search.run":
        return parsed(["run", *words[3:]])
    assert words[2] == "search"
    return parsed(words[3:])


def test_where_nothing_is_in_doubt_nothing_is_said(found: Findings) -> None:
    assert told(found) == {}


@pytest.mark.parametrize(("max_lr", "side"), [(0.026, "lower"), (0.39, "upper")])
def test_a_winner_at_a_bound_of_the_bracket(found: Findings, max_lr: float, side: str) -> None:
    winner = found.result.winner
    there = replace(winner, params=Params(**{**winner.params, "max_lr": max_lr}))
    hint = told(found, winner=there)["bound"]
    assert f"lies at the {side} bound of the bracket 0.025 to 0.4" in hint.text
    flags = flags_of(hint.commands[0])[1]
    around = f"space.max_lr=({max_lr / 4:.3g},{max_lr * 4:.3g})"
    assert (flags["name"], flags["settings"]) == ("digits-2", [around])
    both = {"64": found.result.proposal, "128": found.result.proposal}
    several = told(found, winner=there, proposals=both)["bound"]
    assert flags_of(several.commands[0])[1]["seed"] == 1
    assert "bound" not in told(found, winner=replace(winner, params=winner.params))


def test_an_edge_above_the_last_rate_asks_for_a_greater_one(found: Findings) -> None:
    measured = swept(1.0, 1.1, 0.9, 100.0, 1.0)
    hint = told(found, measured)["range test"]
    assert "In 1 of 5 sweeps training broke nowhere up to 10" in hint.text
    first, *others = [flags_of(command) for command in hint.commands]
    assert first[0] == "range-test"
    assert (first[1]["end_lr"], first[1]["name"]) == (100.0, "digits-2")
    assert [(command, flags["study"], flags["name"]) for command, flags in others] == [
        ("run", "digits", "digits-2")
    ]


def test_an_edge_that_is_not_sure_asks_for_more_sweeps(found: Findings) -> None:
    hint = told(found, swept(0.3, 1.0, 3.0))["range test"]
    assert "(n = 3 sweeps), spans a factor of " in hint.text
    assert flags_of(hint.commands[0])[1]["sweeps"] == 6


def test_an_edge_at_another_batch_size_counts_too(found: Findings) -> None:
    said = hints(found.result, replace(SURE, others={"128": swept(1.0, 1.0, 100.0)}), SHELL)
    (hint,) = (hint for hint in said if hint.about == "range test")
    assert hint.text.startswith("At batch_size 128: in 1 of 3 sweeps training broke nowhere")
    assert flags_of(hint.commands[0])[1]["end_lr"] == 100.0


def test_short_sweeps_and_a_single_one_ask_for_more(found: Findings) -> None:
    hint = told(found, swept(1.0, plan=replace(PLAN, total_steps=80)))["range test"]
    flags = flags_of(hint.commands[0])[1]
    assert (flags["sweeps"], flags["steps"]) == (5, 200)


def test_a_flat_optimum_says_stop_and_more_configurations_are_not_asked_for(
    found: Findings,
) -> None:
    region = replace(found.result.region, slots=tuple(range(12)), n_cycles=24)
    said = told(found, region=region, comparison=NOT_SHOWN)
    assert "12 of 24 configurations at 4 epochs lie within" in said["flat"].text
    assert "stop the search here" in said["flat"].text
    assert said["flat"].commands == ()
    assert "trials" not in said


def test_an_optimum_that_is_not_flat_asks_for_more_configurations(found: Findings) -> None:
    hint = told(found, comparison=None)["trials"]
    assert "Only 3 of 24" in hint.text
    assert flags_of(hint.commands[0])[1]["trials"] == "+24"


def test_few_configurations_ask_for_more_even_when_all_are_tied(found: Findings) -> None:
    region = replace(found.result.region, slots=(1, 2, 3), n_cycles=3)
    said = told(found, region=region, n_trials=12, n_diverged=9)
    assert "3 configurations that did not diverge say little" in said["trials"].text
    assert "flat" not in said


@pytest.mark.parametrize("n_tied", [3, 7])
@pytest.mark.parametrize("comparison", [SHOWN, NOT_SHOWN, None])
def test_after_a_search_that_ended_by_itself_no_rule_asks_for_more(
    found: Findings, n_tied: int, comparison: Comparison | None
) -> None:
    region = replace(found.result.region, slots=tuple(range(n_tied)), n_cycles=7)
    few = {"region": region, "comparison": comparison, "n_trials": 7, "one_more_hour": None}
    end = SearchEnd(n_cycles=7, at_most=24, gain=3e-4)
    assert {"flat", "trials"} & told(found, **few).keys()
    assert not {"flat", "trials"} & told(found, **few, search_end=end).keys()


def test_after_a_search_that_ended_by_itself_an_hour_that_pays_is_told(found: Findings) -> None:
    end = SearchEnd(n_cycles=7, at_most=24, gain=3e-4)
    hour = OneMoreHour(n_cycles=80, gain=4e-3)
    hint = told(found, n_trials=7, search_end=end, one_more_hour=hour, margin=2e-3)["trials"]
    assert "(about 80 cycles) is expected to gain about 0.40 points" in hint.text
    assert flags_of(hint.commands[0])[1]["trials"] == "+80"


def test_a_difference_that_is_not_shown_tells_how_many_seeds_half_of_it_takes(
    found: Findings,
) -> None:
    hint = told(found, comparison=NOT_SHOWN)["seeds"]
    assert "A true difference of 4.00 points would have shown with n = 5 seeds" in hint.text
    assert "one of 2.00 points matters, it takes about 20 seeds" in hint.text
    command, flags = flags_of(hint.commands[0])
    assert (command, flags["study"], flags["settings"]) == ("run", "digits", ["n_seeds=20"])
    assert flags["name"] == "digits-2"


def test_a_study_of_an_object_has_no_commands(found: Findings) -> None:
    nameless = replace(SHELL, spec="")
    said = hints(replace(found.result, comparison=None), swept(0.3, 1.0, 3.0), nameless)
    assert said
    assert not any(hint.commands for hint in said)


def test_the_command_of_provenance_repeats_the_study_in_its_database(found: Findings) -> None:
    assert found.provenance.command is not None
    command, flags = flags_of(found.provenance.command)
    assert command == "run"
    assert (flags["study"], flags["seed"], flags["trials"]) == ("digits", 7, "3")
    assert flags["name"] == f"{NAME}-2"
    assert flags["storage"] == found.provenance.database


@pytest.mark.parametrize(
    ("name", "taken", "free"),
    [
        ("digits", [], "digits-2"),
        ("digits", ["digits-2", "digits-3"], "digits-4"),
        ("digits-2", ["digits"], "digits-3"),
        ("-1", [], "-1-2"),
    ],
)
def test_a_new_study_gets_a_name_that_is_free(name: str, taken: list[str], free: str) -> None:
    assert free_name(name, taken) == free


def test_a_database_is_named_unless_it_is_the_default_or_holds_a_password(tmp_path: Path) -> None:
    assert storage_flag(default_url()) == ()
    assert storage_flag(make_url("postgresql+psycopg://me:secret@host/studies")) == ()
    assert storage_flag(make_url("postgresql+psycopg://me@host/studies")) == (
        "--storage",
        "postgresql://me@host/studies",
    )
    file = f"sqlite:///{tmp_path}/studies.db"
    assert storage_flag(make_url(file)) == ("--storage", file)
