"""The search benchmark counts all compute, keeps what it has done, and says what came out."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import search
from benchmarks.replay import Synthetic
from benchmarks.search import KEPT, SEARCHES, main
from benchmarks.search_report import BUDGETS, OURS, RIVAL, Kept, Regrets, Row, samplers, tables
from search.params import Params
from tests.conftest import ROOT

BUDGET = 12


class Counted(Synthetic):
    """Remembers every cycle that a strategy asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.curves: list[tuple[Params, float]] = []

    def curve(self, params: Params, *, seed: int) -> list[float]:
        found = list(super().curve(params, seed=seed))
        self.curves.append((params, found[-1]))
        return found


def test_plain_optuna_answers_with_the_best_trial_that_the_budget_paid_for() -> None:
    world = Counted()
    found = SEARCHES["b without pruner"](world, 1, budgets=(2, BUDGET))
    for budget, said in found.answers["b without pruner"].items():
        assert said == max(world.curves[:budget], key=lambda pair: pair[1])[0]
    assert found.n_configurations == len(world.curves) == BUDGET


def test_what_a_pruner_stops_costs_the_epochs_that_it_had() -> None:
    world = Counted()
    found = SEARCHES["a plain Optuna"](world, 1, budgets=(BUDGET,))
    assert found.n_configurations == len(world.curves) > BUDGET


def test_ours_spends_no_more_than_the_budget_and_the_rest_would_not_pay_for_one_more() -> None:
    world = Synthetic()
    images = BUDGET * world.study.cycle_steps * world.study.task.batch_size
    spent = []

    class Table(Synthetic):
        def scores(self, cycle, *, epochs, seed):  # type: ignore[no-untyped-def]
            spent.append(epochs / world.study.epochs)
            return super().scores(cycle, epochs=epochs, seed=seed)

    world.table = Table()
    found = SEARCHES[RIVAL](world, 1, budgets=(BUDGET,))
    sweeps = search.costs(world.study, n_trials=1)[0].n_images
    assert sum(spent) == found.n_configurations
    assert images - 1 < sweeps + (sum(spent) + 1) * images / BUDGET
    assert sweeps + sum(spent) * images / BUDGET <= images


def test_the_range_test_alone_answers_with_its_proposal() -> None:
    said = SEARCHES[RIVAL](Synthetic(), 1, budgets=(1,)).answers[RIVAL]
    assert said[1] is not None
    assert (said[1]["pct_start"], said[1]["div_factor"]) == (0.3, 25.0)


def test_a_start_resumes_where_another_ended_and_refuses_what_is_of_another_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, plain = tmp_path / "kept.jsonl", "b without pruner"
    asked = ["--task", "synthetic", "--only", plain, "--workers", "1", "--save", str(path)]
    assert main([*asked, "--repetitions", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"| {plain} |" in printed
    assert "made-up landscape" in printed
    kept = path.read_text()
    assert main([*asked, "--repetitions", "3"]) == 0
    assert path.read_text().startswith(kept)
    assert [json.loads(line)["repetition"] for line in path.read_text().splitlines()[1:]] == [
        *(0, 1, 2)
    ]
    path.write_text('{"world": "another"}\n')
    capsys.readouterr()
    assert main([*asked, "--repetitions", "2"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def regrets(strategy: str, points: np.ndarray) -> Regrets:
    return Regrets(strategy, dict(enumerate(points.tolist())))


def test_no_answer_is_worse_than_any_and_a_target_is_reached_at_the_first_budget() -> None:
    row = [None, 0.25, *[0.1] * (len(BUDGETS) - 2)]
    said = Regrets("x", dict.fromkeys(range(5), row))
    assert said.median(BUDGETS[0]) == np.inf
    assert [said.reaches(target) for target in (0.5, 0.2, 0.05)] == [*BUDGETS[1:3], None]


def test_a_strategy_behind_another_is_told_with_an_interval_over_pairs() -> None:
    better = np.random.default_rng(0).normal(1.0, 0.5, size=(60, len(BUDGETS)))
    middle, low, high = regrets("x", better + 0.2).behind(regrets("y", better), BUDGETS[3])
    assert middle == pytest.approx(0.2)
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.2))


def test_only_repetitions_of_both_are_compared() -> None:
    points = np.random.default_rng(0).uniform(0, 1, size=(40, len(BUDGETS)))
    some = Regrets("x", {r: points[r].tolist() for r in range(30, 10, -1)})
    assert some.behind(regrets("y", points), BUDGETS[3]) == (0, 0, 0)


def test_the_tables_set_ours_against_the_two_rivals() -> None:
    random = np.random.default_rng(0)
    names = ("b without pruner", RIVAL, OURS, "e qmc", "e qmc, expected")
    found = [regrets(name, random.uniform(0, 1, size=(4, len(BUDGETS)))) for name in names]
    text = tables(found)
    assert text.count(f"| {OURS} |") == text.count("| e qmc, expected |") == 3
    assert "| e qmc |" not in text
    assert f"Median regret minus that of {RIVAL} [" in text
    assert f"| {OURS} | 4 |" in text


def test_samplers_are_set_against_tpe_with_their_time() -> None:
    rows = [
        Row(
            search=search,
            repetition=repetition,
            points={f"{search}, expected": [points] * len(BUDGETS)},
            n_configurations=10,
            cpu_seconds=seconds,
        )
        for search, points, seconds in ((OURS, 0.2, 1.0), ("e qmc", 0.5, 3.0))
        for repetition in range(4)
    ]
    text = samplers(Kept("made up", rows), list(SEARCHES))
    cells = " | ".join(["+0.30 [+0.30, +0.30]"] * 4)
    assert text.splitlines()[-1] == f"| e qmc | 4 | {cells} | 3.0 |"


def test_the_page_of_long_tables_is_what_the_kept_searches_say(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert main(["--write", str(page)]) == 0
    assert (ROOT / "docs/benchmarks/search.md").read_text() == page.read_text()


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_ours_is_nowhere_more_than_a_tenth_of_a_point_behind_its_rivals(kept: Path) -> None:
    found = {each.strategy: each for each in Kept.read(kept).regrets(SEARCHES)}
    behind = [
        found[f"{OURS}, expected, confirmed"].behind(found[rival], budget)[0]
        for rival in ("b without pruner", RIVAL)
        for budget in BUDGETS
    ]
    most = max(points for points in behind if np.isfinite(points))
    assert most <= 0.1
    (goal,) = re.findall(
        r"^\| nowhere more than 0.1 .*", (ROOT / "docs/log.md").read_text(), re.MULTILINE
    )
    assert f"met: at most {most:+.2f} |" in goal
