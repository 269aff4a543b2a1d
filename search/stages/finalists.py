"""Who races in a confirmation, and what the search says of them."""

import math
from collections.abc import Sequence

from search.stages.believed import Belief
from search.stages.race import Racers
from search.stages.search import BASELINE_SLOT
from search.stages.statistics import finalists
from studies.states import sign_of

_APART = 0.1
"""Of two configurations whose difference is known as well as this, in points, one is enough."""
_MOST_RANKED = 50  # by expected score: what lies behind these is no challenge
_N_DRAWS = 2000  # a deviation is then known to 2 %


def finalists_of(belief: Belief, *, n: int, before: int = BASELINE_SLOT) -> list[int]:
    """Return the finalists beside the baseline: the best by expected score of those tried.

    The winner of a round `before` is the first. One that is hardly another configuration than a
    better one comes only where there are no others.
    """
    kept = [] if before == BASELINE_SLOT else [before]
    rest = {s: v for s, v in belief.expected_of_slots.items() if s not in (BASELINE_SLOT, *kept)}
    ranked = finalists(rest, n=_MOST_RANKED, direction=belief.direction)
    if not ranked:
        return kept
    racers = racers_of(belief, [*kept, *ranked])
    twins = list[int]()
    for slot in ranked:
        apart = [math.sqrt(racers.variance_between(slot, taken)) for taken in kept]
        (twins if apart and min(apart) < _APART * belief.unit else kept).append(slot)
    return [*kept, *twins][: max(n, 1 + (before != BASELINE_SLOT))]


def racers_of(belief: Belief, slots: Sequence[int]) -> Racers:
    """Return what is believed of configurations that were tried, in the order of `slots`."""
    import numpy as np

    sign, expected = sign_of(belief.direction), belief.expected_of_slots
    by_slot = {each.slot: each.params for each in belief.tried}
    places = np.array([belief.ranges.coordinates(by_slot[slot]) for slot in slots])
    mean = np.array([sign * expected[slot] for slot in slots])
    covariance = belief.surrogate.covariance(places)
    # A poor one may be far worse than expected, and hardly better: a normal distribution is as
    # wide to either side, and must not hope for more than the belief does.
    drawn = belief.surrogate.draws(places, _N_DRAWS, rng=np.random.default_rng(0))
    upwards = np.sqrt(2 * (np.maximum(drawn - mean, 0) ** 2).mean(axis=0))
    share = np.minimum(1, upwards / np.sqrt(covariance.diagonal()))
    noise = belief.surrogate.noise
    return Racers(
        slots=tuple(slots),
        mean=mean,
        # All cycles of a search have one seed, so that all may lie higher than with others, alike.
        covariance=covariance * np.outer(share, share) + noise**2,
        deviation=noise,
    )
