"""Finalists race for the pick: who is trained next, and who is the best as far as that tells."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SHARED = 0.35
"""Share of a seed's variance that all configurations trained with it have in common: measured .26
to .46 (docs/log.md); anything in between picks as well."""
GOOD_ENOUGH = 0.08
"""The race ends where the leader is expected to lie less than this below the best, in points.
Half of it took three cycles more and picked no better in recorded families (docs/log.md)."""
MOST_EACH = 3
"""The race ends after so many cycles for each candidate, whoever leads."""
AT_ONCE = 2
"""Cycles that are opened together: two workers are busy, and little is trained that an earlier
look would have saved."""
_CLIPPED = 4.0  # deviations below what is believed; a cycle that broke says no more than that
_N_DRAWS = 1024  # of a Sobol sequence: an expected loss is then right to about a hundredth


Scores = Mapping[int, Mapping[int, float]]
"""Slot -> replicate -> score; greater is better."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Racers:
    """What is believed of candidates before they race; greater is better.

    `mean` (n,) and `covariance` (n, n) are of their scores without noise, in the order of `slots`;
    `deviation` is that of a score over seeds.
    """

    slots: tuple[int, ...]
    mean: "np.ndarray"
    covariance: "np.ndarray"
    deviation: float

    @property
    def leader(self) -> int:
        """The slot with the greatest mean; of equal ones the first."""
        return self.slots[int(self.mean.argmax())]

    def ranked(self) -> list[int]:
        """Return the slots, greatest mean first."""
        return [self.slots[int(n)] for n in (-self.mean).argsort(kind="stable")]

    def after(self, scores: Scores) -> "Racers":
        """Return what is believed after these cycles (conjugate normal).

        Cycles of one replicate share their seed, and with it SHARED of the noise's variance.
        """
        import numpy as np

        cycles = [(at, r) for at, slot in enumerate(self.slots) for r in scores.get(slot, {})]
        if not cycles:
            return self
        at, seeds = np.array(cycles).T
        values = np.array([scores[self.slots[n]][r] for n, r in cycles])
        variance = self.deviation**2
        least = self.mean - _CLIPPED * np.sqrt(self.covariance.diagonal() + variance)
        common = SHARED * (seeds[:, None] == seeds) + (1 - SHARED) * np.eye(len(cycles))
        total = self.covariance[np.ix_(at, at)] + variance * common
        gain = np.linalg.solve(total, self.covariance[at]).T
        mean = self.mean + gain @ (np.maximum(values, least[at]) - self.mean[at])
        return replace(self, mean=mean, covariance=self.covariance - gain @ self.covariance[at])

    def variance_between(self, one: int, other: int) -> float:
        """Return the variance of the difference of two slots."""
        a, b = self.slots.index(one), self.slots.index(other)
        variance = self.covariance[a, a] + self.covariance[b, b] - 2 * self.covariance[a, b]
        return max(0.0, float(variance))

    def challenger(self) -> int:
        """Return the slot that is expected to be farthest ahead of the leader, where it is."""
        rest = [slot for slot in self.slots if slot != self.leader]
        return max(rest, key=self.lead_over_leader)

    def lead_over_leader(self, slot: int) -> float:
        """Return the expected lead of a slot over the leader, nothing where it is behind."""
        from scipy.special import ndtr

        behind = float(self.mean.max() - self.mean[self.slots.index(slot)])
        deviation = math.sqrt(self.variance_between(slot, self.leader))
        if not deviation:
            return -behind
        z = behind / deviation
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return deviation * (density - z * float(ndtr(-z)))


def expected_loss(racers: Racers) -> float:
    """Return how much the leader is expected to lie below the best, in the unit of the scores."""
    import numpy as np

    values, vectors = np.linalg.eigh(racers.covariance)
    spread = np.sqrt(np.maximum(values, 0.0)) * vectors
    drawn = racers.mean + _draws(len(racers.slots)) @ spread.T
    leading = drawn[:, racers.slots.index(racers.leader)]
    return float((drawn.max(axis=1) - leading).mean())


@cache
def _draws(n: int) -> "np.ndarray":
    """Return standard normal draws (_N_DRAWS, n), the same each time: whoever asks gets the same
    answer."""
    import numpy as np
    from scipy.special import ndtri
    from scipy.stats import qmc

    # scipy calls it rng since 1.15, and still takes the old name.
    return np.asarray(ndtri(qmc.Sobol(n, scramble=True, seed=0).random(_N_DRAWS)))


def next_cycles(prior: Racers, scores: Scores) -> list[int]:
    """Return the AT_ONCE slots to train next: the leader, its challenger, or both.

    Each cycle goes to the one of the two that makes their difference known best, with the first
    seed that it was not trained with.
    """
    now = prior.after(scores)
    rivals = (now.leader, now.challenger())
    trained = {slot: dict(scores.get(slot, {})) for slot in prior.slots}
    chosen = list[int]()

    def left(slot: int) -> float:
        with_one = {**trained, slot: {**trained[slot], len(trained[slot]): 0.0}}
        return prior.after(with_one).variance_between(*rivals)

    for _ in range(AT_ONCE):
        slot = min(rivals, key=left)
        trained[slot][len(trained[slot])] = 0.0
        chosen.append(slot)
    return chosen
