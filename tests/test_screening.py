"""Which configuration is trained next, at which length: promotion, and what needs no results."""

import dataclasses
from collections.abc import Iterable
from random import Random

import pytest
from scipy import stats

from search.stages.screening import BASELINE_SLOT, Standing, given, promote
from search.stages.space import Ranges, baseline
from studies.definition import Screening, Space

RANGES = Ranges(space=Space(), bracket=(0.05, 0.8), proposal=0.2)
LADDER = Screening(n_trials=9, epochs=(2, 4, 8), share=0.5)


def standing(
    slot: int, length: int, score: float | None = None, *, ended: bool = True
) -> Standing:
    return Standing(slot, length, ended, score)


def next_of(
    standings: Iterable[Standing], screening: Screening = LADDER
) -> tuple[int, int] | None:
    return promote(
        list(standings), screening=screening, n_trials=screening.n_trials, direction="maximize"
    )


@pytest.mark.parametrize(
    ("share", "n_trials", "counts"),
    [
        (0.5, 36, (36, 18, 9)),
        (0.5, 9, (9, 5, 3)),
        (0.1, 30, (30, 3, 1)),
        ((1 / 3, 0.5), 36, (36, 12, 6)),
        (0.5, 1, (1, 1, 1)),
    ],
)
def test_each_length_has_its_quota(
    share: float | tuple[float, ...], n_trials: int, counts: tuple[int, ...]
) -> None:
    screening = Screening(n_trials=5, epochs=(2, 4, 8), share=share)
    assert screening.counts(n_trials) == counts


def test_one_length_promotes_nothing() -> None:
    plain = Screening(n_trials=2, epochs=4)
    assert next_of([standing(0, 4, 0.5), standing(1, 4, 0.6)], plain) is None
    assert plain.counts(2) == (2,)


def test_the_best_of_a_finished_length_go_on_best_first_after_the_baseline() -> None:
    scores = [0.1, 0.5, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6]
    standings = [standing(slot, 2, score) for slot, score in enumerate(scores)]
    promoted = []
    while (found := next_of(standings)) is not None:
        promoted.append(found)
        standings.append(standing(*found, None, ended=False))
    assert promoted == [(0, 4), (2, 4), (4, 4), (6, 4), (8, 4)]


def test_lower_is_better_where_the_study_minimises() -> None:
    standings = [standing(slot, 2, slot / 10) for slot in range(9)] + [standing(0, 4)]
    found = promote(standings, screening=LADDER, n_trials=9, direction="minimize")
    assert found == (1, 4)


def test_nobody_waits_for_the_last_cycle_of_a_length() -> None:
    standings = [standing(slot, 2, slot / 10) for slot in range(8)]
    standings.append(standing(8, 2, ended=False))
    assert next_of([*standings, standing(0, 4)]) == (7, 4)


def test_few_results_promote_few_and_the_baseline_keeps_its_place() -> None:
    unseen = [standing(slot, 2, ended=False) for slot in range(9)]
    assert next_of(unseen) is None
    first = [standing(0, 2, ended=False), standing(1, 2, 0.4), *unseen[2:]]
    assert next_of(first) is None, "the one place so far is the baseline's"
    three = [unseen[0], standing(1, 2, 0.4), standing(2, 2, 0.5), standing(3, 2, 0.6), *unseen[4:]]
    assert next_of(three) == (3, 4)
    assert next_of([*three, standing(3, 4, ended=False)]) is None


def test_a_given_up_configuration_is_not_promoted_but_counts_as_ended() -> None:
    standings = [standing(slot, 2, None if slot == 8 else slot / 10) for slot in range(9)]
    assert next_of([*standings, standing(0, 4)]) == (7, 4)


@pytest.mark.parametrize("n_workers", [1, 2, 5])
@pytest.mark.parametrize("n_trials", [1, 2, 3, 9, 30])
def test_every_quota_is_filled_whatever_ends_first(n_trials: int, n_workers: int) -> None:
    random = Random(n_workers)
    screening = dataclasses.replace(LADDER, n_trials=n_trials)
    queue = [(slot, 2) for slot in range(n_trials)]
    state = {key: standing(*key, ended=False) for key in queue}
    held: list[tuple[int, int]] = []
    while True:
        while len(held) < n_workers:
            found = queue.pop(0) if queue else next_of(state.values(), screening)
            if found is None:
                break
            state[found] = standing(*found, ended=False)
            held.append(found)
        if not held:
            break
        ended = held.pop(random.randrange(len(held)))
        state[ended] = standing(*ended, random.random())
    lengths = [length for _, length in state]
    assert tuple(lengths.count(n) for n in (2, 4, 8)) == screening.counts(n_trials)
    assert {length for slot, length in state if slot == BASELINE_SLOT} == {2, 4, 8}


def given_to(slot: int, screening: Screening = LADDER, seed: int = 3) -> object:
    return given(
        slot,
        screening=screening,
        study_seed=seed,
        ranges=RANGES,
    )


def test_first_the_baseline_then_a_space_filling_set_then_the_sampler() -> None:
    screening = dataclasses.replace(LADDER, n_initial=4)
    assert given_to(0, screening) == baseline(0.2)
    assert None not in [given_to(slot, screening) for slot in range(1, 5)]
    assert given_to(5, screening) is None


def test_the_space_filling_set_is_scipys_sobol_sequence_and_moves_with_the_seed() -> None:
    screening = dataclasses.replace(LADDER, n_initial=16)
    points = [RANGES.position(given_to(s, screening)) for s in range(1, 17)]  # type: ignore[arg-type]
    random = [[Random(100 * n + k).random() for k in range(3)] for n in range(16)]
    assert stats.qmc.discrepancy(points) < 0.5 * stats.qmc.discrepancy(random)
    assert given_to(3, screening, seed=4) != given_to(3, screening)


def test_qmc_goes_on_with_the_sequence() -> None:
    qmc = dataclasses.replace(LADDER, sampler="qmc")
    assert given_to(3, qmc) == given_to(3)
    assert len({str(given_to(slot, qmc)) for slot in range(1, 40)}) == 39


def test_position_is_the_inverse_of_at() -> None:
    point = (0.2, 0.5, 0.9)
    assert RANGES.position(RANGES.at(point)) == pytest.approx(point)
