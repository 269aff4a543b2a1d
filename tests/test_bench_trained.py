"""The searches with real cycles: what they answer, what is trained again, what the table says."""

import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import accuracies, trained
from benchmarks.replay import RECORDED, Synthetic
from benchmarks.search_report import OURS
from search.stages.space import baseline
from tests.conftest import ROOT
from trainers.device import Site
from trainers.errors import UserError
from trainers.run import Run

HERE = Site(device="cpu", data=None, cache=Path("unused"))
PARAMS = {"max_lr": 0.2, "pct_start": 0.3, "div_factor": 25.0}


@pytest.fixture(autouse=True)
def looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look cycles up instead of training them."""
    monkeypatch.setattr(trained, "Trained", lambda _: Synthetic())
    monkeypatch.setattr(trained, "world_of", lambda _: Synthetic())


@pytest.mark.parametrize("name", accuracies.COMPARED)
def test_a_search_answers_with_a_whole_configuration(name: str) -> None:
    answers = trained.search(HERE, name, 0, budget=20, replayed=False)
    assert answers.keys() == set(accuracies.COMPARED[name])
    assert all(answer.keys() == PARAMS.keys() for answer in answers.values())


def test_a_replayed_search_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = trained.search(HERE, OURS, 0, budget=8, replayed=False)
    monkeypatch.delattr(trained, "Trained")
    assert trained.search(HERE, OURS, 0, budget=8, replayed=True) == answer


def test_a_budget_that_gives_no_answer_is_refused() -> None:
    with pytest.raises(UserError, match="--budget 0: full cycles too few for an answer of e tpe"):
        trained.search(HERE, OURS, 0, budget=0, replayed=True)


def test_bad_input_ends_the_command_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.main(["--save", str(tmp_path / "x"), "--device", "tpu"]) == 2
    assert "device 'tpu' is not known" in capsys.readouterr().err


def test_data_that_is_missing_when_answers_are_trained_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.jsonl"
    lines = (RECORDED / "search" / "cifar-small.trained.jsonl").read_text().splitlines(True)
    kept.write_text("".join(line for line in lines if not line.startswith('["{')))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert trained.main(["--save", str(kept), "--data", str(empty)]) == 2
    told = capsys.readouterr().err
    assert "empty" in told
    assert told.count("\n") == 1


def test_calls_after_one_that_fails_are_not_begun(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(20)]
    calls = {"no": refused, **{str(path): partial(written, path) for path in files}}
    with pytest.raises(UserError, match="no"):
        trained.Saved(tmp_path / "kept.jsonl").do(calls, workers=1)
    assert not files[-1].exists()


def test_an_answer_is_trained_again_with_fresh_seeds_on_both_splits() -> None:
    scores = trained.again(HERE, PARAMS, 4)
    assert len(scores) == len(set(scores)) == 4
    assert all(len(pair) == 2 for pair in scores)


def double(number: int) -> int:
    return 2 * number


def refused() -> None:
    raise UserError("no")


def written(path: Path) -> None:
    time.sleep(0.2)
    path.touch()


def test_what_was_trained_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    trained.Saved(path).do({"one": partial(double, 1)}, workers=1)
    with path.open("a") as file:
        file.write('["two", ')  # a kill
    saved = trained.Saved(path)
    saved.do({"one": partial(double, 100), "two": partial(double, 2)}, workers=1)
    assert saved.found == {"one": 2, "two": 4}
    assert path.read_text() == '["one",2]\n["two",4]\n'


def test_no_cycle_is_trained_twice_in_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    classifier = Counting()
    monkeypatch.setattr(trained, "classifier_of", lambda *_: classifier)
    world = trained.Trained(HERE)
    plan = baseline(0.1).plan(312)
    first = [world.scores(plan, epochs=4, seed=seed) for seed in (1, 2, 1)]
    assert classifier.seeds == [1, 2]
    assert first[0] == first[2] != first[1]


class Counting:
    """A classifier that scores by seed and keeps which it was asked for."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def fit(self, run: Run) -> SimpleNamespace:
        self.seeds.append(run.seed)
        return SimpleNamespace(score=run.seed / 10, sealed_score=run.seed / 20)


RATES = (0.1, 0.2, 0.4)


def made(**means: Sequence[float]) -> accuracies.Accuracies:
    """Three answers of each strategy, at RATES; test accuracies are half of the validation's."""
    answers = {
        name: [{**PARAMS, "max_lr": rate, "pct_start": 0.1 * number} for rate in RATES]
        for number, name in enumerate(means, 1)
    }
    scores = {
        json.dumps(params): [[mean, mean / 2], [mean + 0.02, mean / 2]]
        for name, found in answers.items()
        for params, mean in zip(found, means[name], strict=True)
    }
    return accuracies.Accuracies.of(answers, scores, lambda found: [p.max_lr for p in found])


def test_the_table_has_the_mean_of_the_answers_with_an_interval_over_searches() -> None:
    said = made(one=(0.60, 0.61, 0.62)).table()
    # t(0.975, 2) = 4.303; a deviation of 1 point over 3 searches
    assert (
        "| one | 3 | 23.33 | 62.00 ± 2.48 | 30.50 ± 1.24 | 0.1, 0.10; 0.2, 0.10; 0.4, 0.10 |"
        in said
    )


def test_differences_are_paired_by_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracies, "DIFFERENCES", {"one minus other": ("one", "other")})
    # t(0.975, 2) = 4.303; 2, 1 and 0 points: a deviation of 1 point
    found = made(other=(0.60, 0.61, 0.62), one=(0.62, 0.62, 0.62)).differences()
    assert "| one minus other | +0.00 | +1.00 [-1.48, +3.48] | +0.50 [-0.74, +1.74] |" in found
    found = made(other=(0.50, 0.61, 0.72), one=(0.51, 0.62, 0.73)).differences()
    assert "| one minus other | +0.00 | +1.00 [+1.00, +1.00] |" in found


def test_ours_is_compared_with_every_strategy_and_expected_with_single_scores() -> None:
    strategies = {s for found in accuracies.COMPARED.values() for s in found}
    compared = list(accuracies.DIFFERENCES.values())
    assert {other for one, other in compared if one == accuracies.PRODUCT} == strategies - {
        accuracies.PRODUCT
    }
    assert (f"{OURS}, expected", OURS) in compared
    assert {name for pair in compared for name in pair} == strategies


def test_agreement_counts_an_answer_once_and_takes_an_offset_off() -> None:
    # the replay says 10, 20 and 40; trained (second seed 2 points up): 12, 22 and 42
    found = made(one=(0.11, 0.21, 0.41))
    twice = accuracies.Accuracies(
        {**found.answers, "two": found.answers["one"]},
        {**found.replayed, "two": found.replayed["one"]},
        {**found.validation, "two": found.validation["one"]},
        found.test,
    )
    assert twice.agreement() == (
        "Over 3 answers, trained scores (validation) and the replay's correlate 1.00; "
        "trained minus replay: +2.00, standard deviation 0.00."
    )


def test_the_page_is_what_the_kept_files_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()  # the recorded world
    page = tmp_path / "page.md"
    assert trained.main(["--write", str(page)]) == 0
    assert (ROOT / "docs/benchmarks/trained.md").read_text() == page.read_text()
