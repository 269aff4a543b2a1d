"""A search in one process and on the command line: the same configurations, scores, finalists."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url

from benchmarks.simulate import Simulator
from studies.definition import Screening
from studies.registry import load
from tests.conftest import Ended
from tests.rows import query
from tests.table_study import STUDY, Formula

SEARCHED = """
from dataclasses import replace

from studies.definition import Screening
from tests.table_study import STUDY as TABLE

STUDY = replace(
    TABLE,
    name="searched",
    screening=Screening(
        n_trials=14, epochs=4, n_initial=2, sampler={sampler!r}, exact={exact}
    ),
)
"""


@pytest.mark.parametrize(
    ("sampler", "exact"), [("kg", False), ("kg", True), ("tpe", True), ("qmc", False)]
)
def test_the_command_line_with_one_worker_does_what_the_simulation_says(
    sampler: str, exact: bool, main_here: Callable[..., Ended], tmp_path: Path
) -> None:
    path, storage = tmp_path / "searched.py", f"sqlite:///{tmp_path}/a.db"
    path.write_text(SEARCHED.format(sampler=sampler, exact=exact))
    run = ("run", "--study", str(path), "--storage", storage, "--workers", "1", "--seed", "5")
    ended = main_here(*run, "--json")
    assert ended.code == 0, ended.err
    said = Simulator(load(str(path)).study, Formula(), seed=5).run(14, ends=not exact)
    assert said is not None
    rows = query(
        make_url(storage),
        "SELECT slot, epochs, params, score FROM work WHERE stage = 'search' ORDER BY id",
    )
    stored = [(slot, epochs, json.loads(params), score) for slot, epochs, params, score in rows]
    assert stored == [(c.slot, 4, dict(c.params), c.score) for c in said.cycles]
    assert len(stored) == 14 or not exact
    answer = json.loads(ended.out)
    assert {c["slot"] for c in answer["candidates"]} == said.finalists
    winner = next(c for c in answer["candidates"] if c["slot"] == answer["winner"])
    assert winner["params"]["max_lr"] == said.winner.max_lr
    assert sum(stage["n_images"] for stage in answer["spent"]) == said.images


def test_the_simulated_search_finds_the_optimum_of_the_formula() -> None:
    said = Simulator(STUDY, Formula(), seed=0).run(30)
    assert said is not None
    assert 0.1 < said.winner.max_lr < 0.4


def test_a_search_of_more_configurations_begins_as_one_of_fewer_and_changes_nothing() -> None:
    screening = Screening(n_trials=1, epochs=4, n_initial=4)
    study = replace(STUDY, screening=screening)
    shared = Simulator(study, Formula(), seed=3)
    for n_trials in (20, 8, 14):
        assert shared.run(n_trials) == Simulator(study, Formula(), seed=3).run(n_trials)
