"""Which sweep a range test needs next: by table, and how often that is right by simulation."""

import math

import numpy as np
import pytest

from trainers.sweeps.judgement import BRACKET_FACTOR, Judgement, propose
from trainers.sweeps.stopping import next_sweep

ABOVE = Judgement("reached end_lr", None, None)
MUTE = Judgement("never descended", None, None)


def at(*edges: float) -> list[Judgement]:
    return [Judgement("rebounded", edge / 2, edge) for edge in edges]


@pytest.mark.parametrize(
    ("judgements", "settings", "expected"),
    [
        ([], {}, "fast"),
        (at(1.0), {}, "fast"),
        (at(1.0, 1.0), {}, None),
        (at(1.0, 1.9), {}, None),  # 0.28 decades
        (at(1.0, 2.1), {}, "fast"),  # 0.32
        (at(1.0, 2.1, 1.4), {}, "fast"),  # the interval spans a factor of 6
        (at(1.0, 2.1, 1.4, 1.5), {}, "slow"),  # of 2.7
        (at(1.0, 2.1, 1.4, 1.5), {"slow": True}, None),
        (at(1.0, 9.0, 1.0, 9.0), {}, "fast"),
        (at(1.0, 9.0, 1.0, 9.0, 3.0), {}, "slow"),
        (at(1.0, 9.0, 1.0, 9.0, 3.0), {"slow": True}, None),
        # one without an edge disagrees
        ([*at(1.0), ABOVE], {}, "fast"),
        ([*at(1.0), MUTE], {}, "fast"),
        ([*at(1.0, 1.0), MUTE], {}, "fast"),
        ([*at(1.0, 1.0, 1.1), MUTE], {}, "slow"),
        ([*at(1.0, 1.0, 1.1), ABOVE], {}, "fast"),
        ([*at(1.0, 1.0, 1.1, 1.0), ABOVE], {}, "slow"),
        # where most have none, a slow sweep would widen nothing
        ([ABOVE] * 4, {}, "fast"),
        ([ABOVE] * 5, {}, None),
        ([*at(1.0), *[MUTE] * 4], {}, None),
        # one that was given up is made up for, up to the maximum
        (at(1.0), {"n_given_up": 1}, "fast"),
        (at(1.0, 1.0), {"n_given_up": 1}, "fast"),
        (at(1.0, 1.0, 1.1), {"n_given_up": 1}, "slow"),
        ([], {"n_given_up": 5}, None),
        # the maximum
        ([], {"most": 1}, "fast"),
        (at(1.0), {"most": 1}, None),
        ([ABOVE], {"most": 1}, None),
        (at(1.0, 9.0), {"most": 2}, "slow"),
        (at(1.0, 9.0), {"most": 2, "slow": True}, None),
        ([], {"most": 0}, None),
        # all sweeps of a study that opened them at once
        (at(1.0, 1.1, 1.2, 1.1, 1.0), {"slow": True}, None),
    ],
)
def test_the_next_sweep(
    judgements: list[Judgement], settings: dict[str, int], expected: str | None
) -> None:
    assert next_sweep(judgements, **{"most": 5, **settings}) == expected


def edges_of(generator: np.random.Generator, *, deviation: float, most: int) -> list[float]:
    """Return the edges of one range test, whose true one is 1."""
    edges: list[float] = []
    while next_sweep(at(*edges), most=most) == "fast":
        edges.append(10 ** generator.normal(0, deviation))
    return edges


@pytest.mark.parametrize("deviation", [0.05, 0.14, 0.25])
def test_where_sweeps_stop_their_edge_is_as_near_as_the_bracket_forgives(deviation: float) -> None:
    """The deviations of single sweeps that were recorded lie between 0.05 and 0.14 decades."""
    generator = np.random.default_rng(1)
    ended = [edges_of(generator, deviation=deviation, most=5) for _ in range(2000)]
    said = [propose(at(*edges)) for edges in ended]
    off = [abs(math.log10(each.edge)) for each in said if each is not None and each.edge]
    assert len(off) == 2000
    # Half of the bracket's reach either way leaves the optimum of a right share well inside.
    near = np.mean(np.array(off) < math.log10(BRACKET_FACTOR) / 2)
    assert near > 0.97 if deviation < 0.2 else near > 0.85
    # Two agree where |N(0, sqrt(2) sd)| < 0.3.
    agree = math.erf(0.3 / (2 * deviation))
    share = np.mean([len(edges) == 2 for edges in ended])
    assert share == pytest.approx(agree, abs=4 * math.sqrt(0.25 / 2000))
    assert max(map(len, ended)) <= 5


def test_an_interval_of_sweeps_that_went_on_holds_the_edge_as_often_as_it_says() -> None:
    """Which is seldom right under optional stopping, so it is tried: 95 % are said."""
    generator, held, n = np.random.default_rng(2), 0, 0
    while n < 2000:
        said = propose(at(*edges_of(generator, deviation=0.25, most=5)))
        assert said is not None
        if said.interval is not None:
            low, high = said.interval
            held, n = held + (low < 1 < high), n + 1
    assert held / n > 0.93
