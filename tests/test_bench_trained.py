"""The searches with real cycles: what they answer, what is trained again, what the table says."""

import json
from pathlib import Path

import pytest

from benchmarks import trained
from benchmarks.replay import Synthetic
from benchmarks.search import OURS
from trainers.device import Site
from trainers.errors import UserError

HERE = Site(device="cpu", data=None, cache=Path("unused"))
PARAMS = {"max_lr": 0.2, "pct_start": 0.3, "div_factor": 25.0}


@pytest.fixture(autouse=True)
def looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look cycles up instead of training them."""
    monkeypatch.setattr(trained, "Trained", lambda _: Synthetic())
    monkeypatch.setattr(trained, "world_of", lambda _: Synthetic())


@pytest.mark.parametrize("name", trained.COMPARED)
def test_a_search_answers_with_a_whole_configuration(name: str) -> None:
    answer = trained.search(HERE, name, 0, budget=20, replayed=False)
    assert answer.keys() == PARAMS.keys()


def test_a_replayed_search_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = trained.search(HERE, OURS, 0, budget=8, replayed=False)
    monkeypatch.delattr(trained, "Trained")
    assert trained.search(HERE, OURS, 0, budget=8, replayed=True) == answer


def test_a_budget_that_gives_no_answer_is_refused() -> None:
    with pytest.raises(UserError, match="a budget of 1 full cycles is too small"):
        trained.search(HERE, OURS, 0, budget=1, replayed=True)


def test_an_answer_is_trained_again_with_fresh_seeds_on_both_splits() -> None:
    scores = trained.again(HERE, PARAMS)
    assert len(scores) == len(set(scores)) == trained.N_FRESH
    assert all(len(pair) == 2 for pair in scores)


def double(number: int) -> int:
    return 2 * number


def test_what_was_trained_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    trained.Saved(path).do({"one": (double, 1)}, workers=1)
    with path.open("a") as file:
        file.write('["two", ')  # a kill
    saved = trained.Saved(path)
    saved.do({"one": (double, 100), "two": (double, 2)}, workers=1)
    assert saved.found == {"one": 2, "two": 4}
    assert path.read_text() == '["one",2]\n["two",4]\n'


def test_the_table_has_the_mean_of_the_answers_with_an_interval_over_searches() -> None:
    answers = [{**PARAMS, "max_lr": rate} for rate in (0.1, 0.2, 0.4)]
    scores = {
        json.dumps(params): [[mean, mean / 2], [mean + 0.02, mean / 2]]
        for params, mean in zip(answers, (0.60, 0.61, 0.62), strict=True)
    }
    said = trained.table({OURS: answers}, scores, lambda found: [p.max_lr for p in found])
    # t(0.975, 2) = 4.303; a deviation of 1 point over 3 searches
    means = "| 3 | 23.33 | 62.00 ± 2.48 | 30.50 ± 1.24 |"
    assert f"| {OURS} {means} 0.1, 0.30; 0.2, 0.30; 0.4, 0.30 |" in said
