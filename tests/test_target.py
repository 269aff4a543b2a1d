"""How many configurations: numbers, more of them, budgets; and a study that was extended."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from search.errors import UsageError
from search.starting.cost import costs
from search.starting.target import Budget, Target
from tests.conftest import TABLE_STUDY, Ended
from tests.rows import query
from tests.table_study import STUDY
from tests.test_tuned import STUDY as THREE_SIZES

Main = Callable[..., Ended]
EPOCH = STUDY.task.steps_per_epoch * STUDY.task.batch_size


def images_of(study: object, n_trials: int) -> int:
    return sum(cost.n_images for cost in costs(study, n_trials=n_trials))  # type: ignore[arg-type]


@pytest.mark.parametrize("study", [STUDY, THREE_SIZES], ids=["one size", "three sizes"])
@pytest.mark.parametrize("n_trials", [1, 2, 7, 40, 1000])
def test_a_budget_is_the_inverse_of_the_costs(study: object, n_trials: int) -> None:
    exact = images_of(study, n_trials) / EPOCH
    epochs = Budget.parse(f"{exact:.6f}epochs")
    assert epochs.n_trials(study, images_per_s=1.0) == n_trials  # type: ignore[arg-type]
    seconds = Budget.parse(f"{exact * EPOCH / 50:.6f}s")
    assert seconds.n_trials(study, images_per_s=50.0) == n_trials  # type: ignore[arg-type]
    less = Budget.parse(f"{exact - 0.5:.6f}epochs")
    if n_trials > 1:
        assert less.n_trials(study, images_per_s=1.0) == n_trials - 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "epochs", "seconds"),
    [
        ("200epochs", 200, None),
        ("1epoch", 1, None),
        ("2h", None, 7200),
        ("90min", None, 5400),
        ("0.5h", None, 1800),
        ("30s", None, 30),
    ],
)
def test_units_of_a_budget(text: str, epochs: float | None, seconds: float | None) -> None:
    found = Budget.parse(text)
    assert (found.epochs, found.seconds) == (epochs, seconds)


@pytest.mark.parametrize("text", ["", "2", "h", "0h", "-2h", "2 h", "2d", "nanh", "1e9h", "infs"])
def test_a_budget_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--budget .*200epochs"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["+0", "+", "+-3", "x", "1.5", "+x", ""])
def test_trials_that_are_no_number_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="trials"):
        Target.parse(text, None)


def test_a_budget_too_small_says_what_is_needed(main_here: Main, tmp_path: Path) -> None:
    run = ("run", "--study", str(TABLE_STUDY), "--storage", f"sqlite:///{tmp_path}/a.db")
    ended = main_here(*run, "--budget", "3epochs")
    assert ended.code == 2
    needed = images_of(STUDY, 1) / EPOCH
    assert f"needs at least {needed:.0f}epochs" in ended.err
    assert not (tmp_path / "a.db").exists() or query_names(tmp_path) == []


def query_names(folder: Path) -> list[tuple[object, ...]]:
    return query(make_url(f"sqlite:///{folder}/a.db"), "SELECT name FROM study")


def test_a_budget_is_kept_as_a_number_and_the_same_line_joins_again(
    main_here: Main, tmp_path: Path
) -> None:
    run = ("run", "--study", str(TABLE_STUDY), "--storage", f"sqlite:///{tmp_path}/a.db")
    text = f"{images_of(STUDY, 5) / EPOCH + 1:g}epochs"
    plan = json.loads(main_here(*run, "--budget", text, "--dry-run", "--json").out)
    assert [s["runs"] for s in plan["stages"] if s["stage"] == "search"] == [5]
    first = main_here(*run, "--workers", "1", "--budget", text, "--json")
    assert json.loads(first.out)["n_trials"] == 5
    assert main_here(*run, "--budget", text).code == 0
    assert main_here(*run, "--trials", "5").code == 0
    other = main_here(*run, "--budget", "900epochs")
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert f"--budget {text}" in other.err
    both = main_here(*run, "--budget", text, "--trials", "5")
    assert (both.code, both.err.count("\n")) == (2, 1)


def test_more_trials_open_the_search_again_and_a_confirmation_with_fresh_seeds(
    main_here: Main, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/a.db"
    run = ("run", "--study", str(TABLE_STUDY), "--storage", storage, "--workers", "1")
    new = main_here(*run, "--trials", "+4")
    assert (new.code, new.err.count("\n")) == (2, 1)
    assert "no study 'table' is stored yet" in new.err

    first = json.loads(main_here(*run, "--trials", "4", "--json").out)
    differs = main_here(*run, "--trials", "9")
    assert differs.code == 2
    assert "--trials +N" in differs.err
    second = json.loads(main_here(*run, "--trials", "+5", "--json").out)
    assert (first["n_trials"], second["n_trials"]) == (4, 9)
    url = make_url(storage)
    searched = query(url, "SELECT slot, state FROM work WHERE stage = 'search' ORDER BY slot")
    assert searched == [(slot, "done") for slot in range(9)]
    rounds = query(
        url, "SELECT round, count(*) FROM work WHERE stage = 'confirmation' GROUP BY round"
    )
    assert [number for number, _ in rounds] == [0, 1]
    before, fresh = ({c["slot"]: c["scores"] for c in x["candidates"]} for x in (first, second))
    assert not set(before[0]) & set(fresh[0]), "fresh seeds"
    assert first["winner"] in fresh, "the winner of the first round is confirmed again"
    assert second["n_comparisons"] == first["n_comparisons"] + (second["winner"] != 0)
    spent = sum(s["n_runs"] for s in second["spent"] if s["stage"] == "confirmation")
    assert spent == sum(n for _, n in rounds)
