"""Optimizers, groups with rates of their own and torch's own parameters, from sweep to export."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import make_url

from search.results.result import StudyResult, load_result
from search.starting.opening import opened
from studies.definition import Space, Study
from studies.params import Choice, Range
from tests import grouped_study
from tests.conftest import ROOT, Ended
from tests.rows import query
from tests.table_study import STUDY as TABLE

pytestmark = pytest.mark.slow

Main = Callable[..., Ended]


def ended(name: str, folder: Path) -> str:
    """Bring a study of tests/ to its end; return its database."""
    url = f"sqlite:///{folder}/a.db"
    run = ("run", "--study", str(ROOT / "tests" / f"{name}_study.py"), "--storage", url)
    done = subprocess.run(
        [sys.executable, "-m", "search", *run, "--workers", "1"],
        cwd=ROOT,
        env={**os.environ, "ONECYCLE_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "out").write_text(done.stdout)
    return url


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ended("grouped", tmp_path_factory.mktemp("grouped"))


@pytest.fixture(scope="module")
def anything(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ended("any", tmp_path_factory.mktemp("any"))


def result(url: str, name: str) -> StudyResult:
    with opened(url) as engine:
        return load_result(engine, name)


def rates(scheduler: Any, n_steps: int) -> list[list[float]]:
    """Return the rate of every group at every step."""
    seen = []
    for step in range(n_steps):
        seen.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        if step + 1 < n_steps:
            scheduler.step()
    return seen


def optimizer() -> torch.optim.Optimizer:
    """Return the one that the grouped study searched with."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    return grouped_study.optimizer_of(net)


def test_groups_have_the_rates_of_the_search_in_every_pasted_call(
    grouped: str, main_here: Main
) -> None:
    found = result(grouped, "grouped")
    steps = found.plan.total_steps
    searched = rates(found.plan.scheduler(optimizer()), steps)
    assert searched[10] == pytest.approx([searched[10][0], searched[10][0] / 10])
    stored = ("--study", "grouped", "--storage", grouped)
    out = main_here("report", *stored).out
    call = out[out.index("scheduler = ") : out.index("# total_steps")].removeprefix("scheduler = ")
    names = {"torch": torch, "optimizer": optimizer(), "epochs": 8, "train_loader": range(8)}
    assert rates(eval(call, names), steps) == [pytest.approx(lrs, rel=1e-4) for lrs in searched]
    for form in ("torch", "lightning"):
        space: dict[str, Any] = {}
        exec(main_here("export", *stored, "--format", form).out, space)
        made = space["onecycle"](optimizer(), steps)
        made = made["lr_scheduler"]["scheduler"] if form == "lightning" else made
        assert rates(made, steps) == [pytest.approx(lrs, rel=1e-12) for lrs in searched]
    document = json.loads(main_here("export", *stored, "--format", "json").out)
    made = torch.optim.lr_scheduler.OneCycleLR(optimizer(), **document["onecycle_lr"])
    assert rates(made, steps) == [pytest.approx(lrs, rel=1e-12) for lrs in searched]


def test_what_the_optimizer_is_stands_with_the_call(grouped: str, main_here: Main) -> None:
    stored = ("--study", "grouped", "--storage", grouped)
    for said in (main_here("report", *stored).out, main_here("export", *stored).out):
        assert "# The param groups keep the ratio of their rates (1 : 0.1 in the search)." in said
        assert "# Adagrad has no momentum to cycle: cycle_momentum=False." in said
    rows = query(make_url(grouped), "SELECT DISTINCT optimizer FROM work")
    assert [json.loads(text) for (text,) in rows] == [
        {
            "name": "Adagrad",
            "adaptive": True,
            "has_momentum": False,
            "lr_ratios": [1.0, pytest.approx(0.1)],
        }
    ]


def test_each_optimizer_has_a_range_test_and_its_own_share_of_the_edge(anything: str) -> None:
    found = result(anything, "any")
    assert list(found.proposals) == ["optimizer sgd", "optimizer rmsprop"]
    shares = {key: each.max_lr / each.edge for key, each in found.proposals.items()}
    assert shares["optimizer rmsprop"] == pytest.approx(0.033)
    # That of SGD is in proportion to the cycle, and 64 steps count as the shortest measured.
    assert shares["optimizer sgd"] == pytest.approx(0.16 * 76 / 312)
    rows = query(make_url(anything), "SELECT params FROM work WHERE stage = 'search'")
    for params in (json.loads(text) for (text,) in rows):
        proposal = found.proposals[f"optimizer {params['optimizer']}"]
        assert proposal.low * 0.999 <= params["max_lr"] <= proposal.high * 1.001
        assert params["held"] == 0.25


def test_torchs_own_parameters_reach_the_plan_and_the_call(anything: str, main_here: Main) -> None:
    found = result(anything, "any")
    for candidate in found.candidates:
        plan = candidate.params.plan(64)
        for name in ("anneal_strategy", "three_phase", "final_div_factor", "base_momentum"):
            assert getattr(plan, name) == pytest.approx(candidate.params[name]), name
        assert plan.max_momentum == 0.93
        weight = [torch.ones(1, requires_grad=True)]
        names = {"torch": torch, "optimizer": torch.optim.SGD(weight, lr=1.0, momentum=0.9)}
        assert rates(eval(plan.call(), names), 64) == [
            [pytest.approx(lr, rel=1e-4)] for lr in plan.lrs()
        ]
    baseline = found.baseline.params
    assert (baseline["anneal_strategy"], baseline["three_phase"]) == ("cos", False)
    assert (baseline["final_div_factor"], baseline["base_momentum"]) == (1e4, 0.85)
    code = main_here("export", "--study", "any", "--storage", anything).out
    assert "max_momentum=0.93" in code


def test_the_baseline_and_what_is_fixed_are_said(anything: str, main_here: Main) -> None:
    folder = Path(make_url(anything).database or "").parent
    out = (folder / "out").read_text()
    own = "optimizer sgd, width 64, anneal_strategy cos, three_phase False"
    assert (
        "baseline: torch's default 1cycle at the max_lr that the range test proposed: max_lr"
        in out
    )
    assert own in out
    assert "held fixed in all of them: held 0.25, max_momentum 0.93" in out
    page = (folder / "a-any.html").read_text()
    assert "Held fixed in all of them: held 0.25" in page
    assert page.count(">held fixed</dd>") == 2
    assert "…" not in out, "no column is cut"


def test_choices_are_told_as_choices_though_they_are_numbers(anything: str) -> None:
    found = result(anything, "any")
    assert found.choices is not None
    assert {"optimizer", "width", "three_phase", "held"} <= set(found.choices)
    assert "final_div_factor" not in found.choices
    assert set(found.region.spans["width"]) <= {64, 128}
    assert "width 64 to 128" not in str(found.region)
    assert found.importances is None
    assert "too few" in found.no_importances


def extra(**domains: Any) -> Study:
    return replace(TABLE, space=Space(extra=domains))


@pytest.mark.parametrize(
    ("domains", "words"),
    [
        ({"anneal_strategy": ("cos", "exp")}, "extra['anneal_strategy'] must be"),
        ({"three_phase": (0, 1)}, "extra['three_phase'] must be True or False, got 0 to 1"),
        ({"base_momentum": "high"}, "extra['base_momentum'] must be numbers, got high"),
        ({"base_momentum": (0.5, 0.7)}, "must hold torch's default, 0.85"),
        ({"base_momentum": 0.97}, "base_momentum and max_momentum must rise"),
        ({"final_div_factor": 0.5}, "final_div_factor must be a number above 1, got 0.5"),
        ({"dropout": None}, "extra['dropout'] must be two numbers that rise, two choices"),
    ],
)
def test_what_torch_could_not_take_is_refused_by_name(domains: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        extra(**domains)
    assert words in str(refused.value)


def test_a_fixed_value_needs_no_baseline_and_moves_no_edge() -> None:
    study = extra(dropout=0.1, optimizer=("adamw",), cycle_momentum=False)
    assert study.space.fixed() == {"dropout": 0.1, "optimizer": "adamw", "cycle_momentum": False}
    assert study.settings == ({},)
    assert not study.may_move_edge
    assert study.told_outside() == {"dropout": 0.1, "optimizer": "adamw"}
    assert study.sweep_momentum is None
    assert extra(base_momentum=0.8).sweep_momentum == 0.8


def test_what_may_move_the_edge_is_searched_beside_the_proposal() -> None:
    assert not extra(anneal_strategy=("cos", "linear")).may_move_edge
    for name in ("dropout", "width", "momentum"):
        assert extra(**{name: Range(0.1, 0.5, baseline=0.2)}).may_move_edge
    study = extra(optimizer=Choice(("a", "b", "c"), baseline="b"))
    assert study.settings == ({"optimizer": "b"}, {"optimizer": "a"}, {"optimizer": "c"})


def test_three_phases_end_the_default_of_pct_start_where_they_have_room() -> None:
    table = replace(TABLE, screening=replace(TABLE.screening, epochs=10))
    study = replace(table, space=Space(extra={"three_phase": (True, False)}))
    assert study.space.domains()["pct_start"] == Range(0.05, 0.45)
    assert Space(extra={"three_phase": False}).domains()["pct_start"] == Range(0.05, 0.6)
    with pytest.raises(ValueError, match="no cycle"):
        replace(table, space=Space(pct_start=(0.1, 0.6), extra={"three_phase": True}))
