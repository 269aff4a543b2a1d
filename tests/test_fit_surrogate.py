"""The fit of the surrogate's constants: what is left out, and that a fit explains more."""

import json
from importlib.resources import files

import numpy as np

from benchmarks.fit_surrogate import Measured, check, density, fitted, folds
from search.belief.kernel import Constants, constants
from tests.test_surrogate import drawn_task

STORED = json.loads(files("search.belief").joinpath("surrogate.json").read_text(encoding="utf-8"))


def family(name: str, *shares: str, seed: int = 0) -> Measured:
    observations, _, _ = drawn_task(seed, n=24, n_elsewhere=1)
    return Measured(
        name=name,
        shares=frozenset(shares),
        metric="accuracy",
        diverged_value=0.1,
        points=observations.points,
        scores=tuple((float(score), float(score) + 1e-3) for score in observations.scores),
    )


def test_families_that_share_a_net_or_data_are_left_out_together() -> None:
    shared = [("a", "net 1", "data 1"), ("b", "net 2", "data 2"), ("c", "net 3", "data 3")]
    families = [family(*each) for each in [*shared, ("d", "net 1", "data 2"), ("e", "net 4")]]
    parts = [sorted(each.name for each in part) for part in folds(families, n=5)]
    assert sorted(parts) == [["a", "b", "d"], ["c"], ["e"]]
    assert sorted(map(len, folds(families, n=2))) == [2, 3]


def test_a_fit_explains_more_than_what_it_started_from() -> None:
    families = [family(str(seed), str(seed), seed=seed) for seed in range(1)]
    wrong = json.loads(json.dumps(STORED))
    wrong["noise_over_scale"]["median"] = 0.1
    after = Constants.of(fitted(families, wrong, n_rounds=1))
    before = Constants.of(wrong)
    assert sum(density(f, after) for f in families) > sum(density(f, before) for f in families)


def test_a_check_tries_every_configuration_once() -> None:
    some = family("a", "net 1")
    for order, seed, _ in some.searches():
        assert sorted(order) == list(range(len(some.points)))
        assert seed in (0, 1)


def inside(families: list[Measured], known: Constants) -> float:
    checks = [check(each, known, n=8) for each in families]
    return float(np.mean([each.inside for each in checks if each]))


def test_intervals_that_are_too_narrow_are_found_out() -> None:
    families = [family(str(seed), str(seed), seed=seed) for seed in range(4)]
    sure = json.loads(json.dumps(STORED))
    sure["scale"] = {"median": 0.1, "sd_of_log": 0.01, "sd_of_log_of_a_guess": 0.01}
    sure["noise_over_scale"] = {"median": 0.02, "sd_of_log": 0.01}
    right = inside(families, constants())
    wrong = inside(families, Constants.of(sure))
    assert wrong < right - 0.1
