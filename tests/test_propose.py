"""What comes next, and when it is enough: pure functions of what was tried."""

import math
from collections.abc import Callable, Sequence
from random import Random
from statistics import fmean

import pytest

from search.params import Params
from search.stages.believed import Belief, Tried, believe
from search.stages.first import first_choices
from search.stages.propose import is_enough, next_params, unvisited
from search.stages.space import Ranges
from studies.definition import Screening, Space
from studies.params import Choice, Range
from studies.states import Direction

RANGES = Ranges(
    others=Space().parameters({}), bracket=(0.02, 0.32), proposed_max_lr=0.08, first_choices=True
)
SCREENING = Screening(n_trials=24, epochs=4)
Score = Callable[[Params], float]


def hill(best: float) -> Score:
    """A score that loses 8 points a squared decade from the best max_lr."""

    def score(params: Params) -> float:
        apart = math.log10(params.max_lr / best)
        return 0.9 - 0.08 * apart**2 - 0.01 * (float(params["pct_start"]) - 0.4) ** 2

    return score


def flat(params: Params) -> float:
    return 0.9


def belief_after(
    tried: Sequence[Params],
    score: Score,
    *,
    ranges: Ranges = RANGES,
    noise: float = 0.0,
    seed: int = 0,
    direction: Direction = "maximize",
    metric: str = "accuracy",
    diverged_value: float = 0.1,
) -> Belief:
    draws = Random(seed)
    found = [Tried(i, p, (score(p) + draws.gauss(0, noise),)) for i, p in enumerate(tried)]
    belief = believe(
        ranges, found, metric=metric, direction=direction, diverged_value=diverged_value, seed=seed
    )
    assert belief is not None
    return belief


def searched(score: Score, n: int, *, noise: float, seed: int) -> Belief:
    """Return what is believed after a search of `n` by the knowledge gradient."""
    tried = first_choices(RANGES)
    while len(tried) < n:
        belief = belief_after(tried, score, noise=noise, seed=seed)
        tried = [*tried, next_params(belief)]
    return belief_after(tried, score, noise=noise, seed=seed)


def test_fewer_cycles_find_the_optimum_than_a_sobol_sequence_needs() -> None:
    ours, sobols = [], []
    for seed in range(10):
        best = 0.03 * 8 ** (seed / 9)
        score = hill(best)
        own = searched(score, 8, noise=0.002, seed=seed).best()
        points = [RANGES.baseline(), *RANGES.candidates(7, seed=seed)]
        other = belief_after(points, score, noise=0.002, seed=seed).expected_of_slots
        ours.append(0.9 - score(own))
        sobols.append(0.9 - score(points[max(other, key=lambda slot: other[slot])]))
    assert fmean(ours) < 0.75 * fmean(sobols), "in as many cycles"


def test_a_pending_configuration_is_not_proposed_again_nor_one_close_to_it() -> None:
    belief = searched(hill(0.1), 6, noise=0.003, seed=1)
    first = next_params(belief)
    second = next_params(belief, pending=[first])
    third = next_params(belief, pending=[first, second])
    assert len({first, second, third}) == 3
    gains = belief.gains([first])
    assert gains[belief.candidates.index(first)] < 0.9 * belief.gain(), "believed, it brings less"


def test_a_proposal_is_a_function_of_what_was_tried_and_the_seed() -> None:
    tried = [*first_choices(RANGES), *RANGES.candidates(3, seed=4)]
    again = [next_params(belief_after(tried, hill(0.1), seed=7)) for _ in range(2)]
    assert again[0] == again[1]
    assert next_params(belief_after(tried, hill(0.1), seed=8)) != again[0]


def test_a_flat_task_is_soon_enough_and_a_steep_one_is_not() -> None:
    tried = [*first_choices(RANGES), *RANGES.candidates(4, seed=4)]
    for n in range(1, 6):
        assert is_enough(belief_after(tried[:n], flat), SCREENING) is None, "too few to tell"
    gain = is_enough(belief_after(tried, flat, noise=0.0003), SCREENING)
    assert gain is not None
    assert 0 <= gain < 0.0005
    assert is_enough(belief_after(tried, hill(0.3), noise=0.01), SCREENING) is None


def test_what_is_enough_is_said_in_the_unit_of_the_metric() -> None:
    belief = belief_after([*first_choices(RANGES), *RANGES.candidates(4, seed=4)], hill(0.1))
    gain = belief.gain()
    above = Screening(n_trials=24, epochs=4, stop_below=1.01 * gain)
    below = Screening(n_trials=24, epochs=4, stop_below=0.99 * gain)
    assert is_enough(belief, above) == pytest.approx(gain)
    assert is_enough(belief, below) is None


@pytest.mark.parametrize("factor", [1.0, 1e-3, 1e6])
def test_a_loss_is_searched_like_a_score_whatever_its_size(factor: float) -> None:
    tried = [*first_choices(RANGES), *RANGES.candidates(6, seed=2)]
    score = hill(0.06)
    loss = belief_after(
        tried,
        lambda p: factor * (1 - score(p)),
        direction="minimize",
        metric="loss",
        diverged_value=factor * 0.9,
    )
    best = loss.best()
    assert abs(math.log10(best.max_lr / 0.06)) < 0.2
    assert loss.expected([best])[0] == pytest.approx(factor * (1 - score(best)), rel=0.1)
    worst = min(tried, key=score)
    assert loss.expected([worst])[0] > loss.expected([best])[0]
    assert loss.ahead > -0.02 * factor


def test_a_further_parameter_and_settings_are_coordinates_and_candidates() -> None:
    extra = Space(extra={"dropout": Range(0.0, 0.5, baseline=0.1)}, batch_size=(64, 128))
    ranges = Ranges(
        others=extra.parameters({"batch_size": 64}),
        bracket=(0.02, 0.32),
        proposed_max_lr=0.08,
        proposals={"64": 0.08, "128": 0.16},
        edge_moves=True,
    )
    tried = [ranges.baseline(), *ranges.candidates(15, seed=3)]

    def score(params: Params) -> float:
        relative = params.max_lr / ranges.proposal_at(ranges.setting_of(params))
        dropout = float(params["dropout"])
        return 0.9 - 0.05 * math.log10(relative) ** 2 - 0.5 * (dropout - 0.3) ** 2

    belief = belief_after(tried, score, ranges=ranges, noise=0.0005)
    best = belief.best()
    assert abs(float(best["dropout"]) - 0.3) < 0.12
    assert len(ranges.coordinates(best)) == 5
    assert set(next_params(belief)) == set(tried[0])
    at_128 = next(each for each in tried if each["batch_size"] == 128)
    assert ranges.coordinates(at_128)[0] == pytest.approx(math.log10(at_128.max_lr / 0.16))


def test_a_choice_of_words_has_a_coordinate_for_each() -> None:
    extra = Space(extra={"kind": Choice(("a", "b", "c"), baseline="a")})
    ranges = Ranges(others=extra.parameters({}), bracket=(0.02, 0.32), proposed_max_lr=0.08)
    shares = {p["kind"]: ranges.coordinates(p)[3] for p in ranges.candidates(16, seed=0)}
    assert shares == {"a": 0.0, "b": 0.5, "c": 1.0}


def test_candidates_cover_the_space_and_a_longer_list_begins_alike() -> None:
    few, many = RANGES.candidates(5, seed=1), RANGES.candidates(64, seed=1)
    assert many[:5] == few
    assert RANGES.candidates(64, seed=2) != many
    shares = sorted(RANGES.position(each)[0] for each in many)
    assert max(b - a for a, b in zip([0.0, *shares], [*shares, 1.0], strict=True)) < 1 / 16


def test_what_broke_is_at_its_value_and_nothing_is_believed_where_all_did() -> None:
    points = RANGES.candidates(8, seed=0)
    broke = [Tried(i, p, (0.1,), broke=True) for i, p in enumerate(points)]
    settings = {"metric": "accuracy", "direction": "maximize", "diverged_value": 0.1, "seed": 0}
    assert believe(RANGES, broke, **settings) is None  # type: ignore[arg-type]
    fine = [
        Tried(i, p, (0.1 if p.max_lr > 0.15 else hill(0.1)(p),), broke=p.max_lr > 0.15)
        for i, p in enumerate(points)
    ]
    belief = believe(RANGES, fine, **settings)  # type: ignore[arg-type]
    assert belief is not None
    assert belief.best().max_lr < 0.15
    assert {belief.expected_of_slots[t.slot] for t in fine if t.broke} == {0.1}


def test_further_seeds_of_a_configuration_are_believed_more_and_tell_the_noise() -> None:
    points = RANGES.candidates(6, seed=5)
    draws = Random(0)
    many = [
        Tried(i, p, tuple(draws.gauss(0.8, 0.02) for _ in range(8))) for i, p in enumerate(points)
    ]
    belief = believe(
        RANGES, many, metric="accuracy", direction="maximize", diverged_value=0.1, seed=0
    )
    assert belief is not None
    assert belief.noise.deviation == pytest.approx(0.02, rel=0.3)
    assert belief.noise.source == "surrogate"
    lucky = Tried(0, points[0], (0.86,)), Tried(0, points[0], (0.86,) * 8)
    once, often = (
        believe(
            RANGES,
            [first, *many[1:]],
            metric="accuracy",
            direction="maximize",
            diverged_value=0.1,
            seed=0,
        )
        for first in lucky
    )
    assert once is not None
    assert often is not None
    assert once.expected_of_slots[0] < often.expected_of_slots[0] - 0.01


def test_the_best_may_be_a_configuration_that_nobody_tried() -> None:
    corners = [RANGES.at((x, y, 0.5)) for x in (0.0, 0.25, 0.75, 1.0) for y in (0.0, 1.0)]

    def score(params: Params) -> float:
        return 0.9 - 0.3 * math.log10(params.max_lr / 0.08) ** 2

    found = unvisited(belief_after(corners, score))
    assert found is not None
    assert found not in corners
    assert score(found) > max(map(score, corners))
    assert unvisited(belief_after(corners, flat)) is None
    assert unvisited(None) is None


def test_a_search_in_which_nothing_has_learnt_goes_on() -> None:
    tried = [*first_choices(RANGES), *RANGES.candidates(8, seed=0)]

    def chance(params: Params) -> float:
        return 0.1

    assert is_enough(belief_after(tried, chance, noise=0.004), SCREENING) is None
    one = [*first_choices(RANGES)[:1], *tried[1:]]
    learnt = belief_after(one, lambda p: 0.6 if p == one[0] else 0.1, noise=0.001)
    assert learnt.has_learnt
    assert belief_after(tried, flat, noise=0.0003).has_learnt


def test_what_the_seed_of_a_search_adds_to_all_is_no_loss_of_what_was_trained_again() -> None:
    """All scores of the search are 2 points above those of fresh seeds."""
    points, score = RANGES.candidates(12, seed=4), hill(0.08)
    again = {0, 1, 2}
    tried = [
        Tried(i, p, (score(p) + 0.02, *([score(p)] * 5 if i in again else [])))
        for i, p in enumerate(points)
    ]
    worst = {}
    for one_seed in (True, False):
        belief = believe(
            RANGES,
            tried,
            metric="accuracy",
            direction="maximize",
            diverged_value=0.1,
            seed=0,
            one_seed=one_seed,
        )
        assert belief is not None
        errors = {t.slot: belief.expected_of_slots[t.slot] - score(t.params) for t in tried}
        others = fmean(error for slot, error in errors.items() if slot not in again)
        worst[one_seed] = fmean(errors[slot] for slot in again) - others
    assert abs(worst[True]) < 0.005
    assert worst[False] < -0.01
