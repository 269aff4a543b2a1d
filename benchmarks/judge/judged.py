"""What searches are judged on: a family's world, its best score, what its optimizer suggests."""

import math
from dataclasses import dataclass
from functools import cache, cached_property

from benchmarks.families.table import FAMILIES, apart_from
from benchmarks.families.world import FamilyWorld, proposal_of, world_of
from benchmarks.plan import WIDE_MAX_LR
from benchmarks.recorded_task import places
from benchmarks.tasks import STUDIES
from search.params import Params
from search.stages.space import Ranges
from studies.definition import Study

POINT = 0.01
"""A point of accuracy, or of R^2."""
RECORDED_FACTOR = 300.0
"""How far the recorded configurations of a family lie from its proposal, to either side."""
CAREFUL_FACTOR = math.sqrt(30.0)
"""How far the range of a careful user reaches from a good guess, to either side: 30 in all."""
WIDE = (1e-5, 10.0)
GUESSES = {"sgd": 0.1, "adaptive": 1e-3}
"""What people begin with: SGD with momentum 0.9, and Adam's kinds (torch's own default)."""
_N_DENSE = 2**13


@dataclass(frozen=True, eq=False)
class Judged:
    """One family; `recorded_range` is where max_lr was recorded."""

    world: FamilyWorld
    recorded_range: tuple[float, float]

    @property
    def study(self) -> Study:
        """The family as a study."""
        return self.world.study

    @property
    def wide_range(self) -> tuple[float, float]:
        """1e-5 to 10, as far as it was recorded."""
        low, high = self.recorded_range
        return max(low, WIDE[0]), min(high, WIDE[1])

    @property
    def careful_range(self) -> tuple[float, float]:
        """A factor of 30 in all around what people begin with."""
        guess = GUESSES["adaptive" if self.study.task.adaptive else "sgd"]
        return guess / CAREFUL_FACTOR, guess * CAREFUL_FACTOR

    def dense(self) -> list[Params]:
        """Return a dense Sobol set of the recorded space."""
        return Ranges(
            others=self.study.parameters, bracket=self.recorded_range, proposed_max_lr=1.0
        ).candidates(_N_DENSE, seed=0)

    @cached_property
    def best(self) -> float:
        """The best noiseless score over a dense Sobol set of the recorded space."""
        return float(self.world.truth_at(places(self.dense())).max())

    def regret(self, params: Params) -> float:
        """Return how many points the noiseless score of an answer lies below the best.

        An answer between the points of the dense set may be better by a hair: that is no regret.
        """
        return max(0.0, float(self.best - self.world.truth([params])[0]) / POINT)

    def ahead(self, one: Params, other: Params) -> tuple[float, float]:
        """Return by how many points one is truly better than another: validation, test split."""
        rows = places([one, other])
        validation = self.world.truth_at(rows)
        test = self.world.test_surface(rows)
        return float(validation[0] - validation[1]) / POINT, float(test[0] - test[1]) / POINT


@cache
def judged(name: str) -> Judged:
    """Return a recorded family by name, once per process."""
    if name in STUDIES:
        return Judged(world_of(name), WIDE_MAX_LR)
    middle = proposal_of(name)
    return Judged(world_of(name), (middle / RECORDED_FACTOR, middle * RECORDED_FACTOR))


NAMES = (*FAMILIES, *STUDIES)
"""The families of `benchmarks.families`, then the two older tables."""
FITTED = tuple(STUDIES)
"""Those that had a part in the first choices, and in the constants that a fit began with."""


def relatives(name: str) -> frozenset[str]:
    """Return a family and all that share its net or its data: they are left out together."""
    return frozenset(NAMES) - frozenset(apart_from(name))
