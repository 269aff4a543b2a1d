"""Which configurations need no results: the baseline and the space-filling set."""

import dataclasses
from random import Random

import pytest
from scipy import stats

from search.stages.search import given
from search.stages.space import Ranges, baseline
from studies.definition import Screening, Space

RANGES = Ranges(
    others=Space().parameters({}),
    bracket=(0.05, 0.8),
    proposed_max_lr=0.2,
    first_choices=False,
)
SCREENING = Screening(n_trials=9, epochs=8, sampler="tpe")


def given_to(slot: int, screening: Screening = SCREENING, seed: int = 3) -> object:
    return given(
        slot,
        screening=screening,
        study_seed=seed,
        ranges=RANGES,
    )


def test_first_the_baseline_then_a_space_filling_set_then_the_sampler() -> None:
    screening = dataclasses.replace(SCREENING, n_initial=4)
    assert given_to(0, screening) == baseline(0.2)
    assert None not in [given_to(slot, screening) for slot in range(1, 5)]
    assert given_to(5, screening) is None


def test_the_space_filling_set_is_scipys_sobol_sequence_and_moves_with_the_seed() -> None:
    screening = dataclasses.replace(SCREENING, n_initial=16)
    points = [RANGES.position(given_to(s, screening)) for s in range(1, 17)]  # type: ignore[arg-type]
    random = [[Random(100 * n + k).random() for k in range(3)] for n in range(16)]
    assert stats.qmc.discrepancy(points) < 0.5 * stats.qmc.discrepancy(random)
    assert given_to(3, screening, seed=4) != given_to(3, screening)


def test_qmc_goes_on_with_the_sequence() -> None:
    qmc = dataclasses.replace(SCREENING, sampler="qmc")
    assert given_to(3, qmc) == given_to(3)
    assert len({str(given_to(slot, qmc)) for slot in range(1, 40)}) == 39


def test_position_is_the_inverse_of_at() -> None:
    point = (0.2, 0.5, 0.9)
    assert RANGES.position(RANGES.at(point)) == pytest.approx(point)
