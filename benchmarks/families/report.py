"""The page of the recorded families: what each is, and what its records say."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from benchmarks.families.design import DEFAULTS, FAR, FIXED
from benchmarks.families.family import Family
from benchmarks.families.record import RECORDED
from benchmarks.families.table import FAMILIES
from benchmarks.families.world import FamilyWorld, proposal_of, world_of
from benchmarks.plan import configuration
from benchmarks.records import CycleRecord, Journal
from benchmarks.tables import Page, table
from trainers.errors import UserError

_POINTS = 12  # as a power of 2, over which the best of a surface is taken
_FLAT = 0.005
"""Half a point: the configurations that are as good as the best, in words."""

_OPENING = """
Small tasks of {n} families, on which searches are judged beside `cifar-small` and
`cifar-residual`. A cycle is trained by `Training`, on one thread. Each has {n_sobol} quasi-random
configurations with 2 seeds, the 16 best of them and four fixed ones with 8; all configurations
share their seeds. Scores are accuracies in percent, of a regression 100 R^2, on validation.
"""


@dataclass(frozen=True)
class Shown:
    """What the page says of one family."""

    family: Family
    world: FamilyWorld
    proposal: float
    cpu_seconds: float

    @classmethod
    def of(cls, family: Family, folder: Path) -> "Shown":
        """Read it; raises UserError where too little is recorded."""
        records = Journal(folder / f"{family.name}.jsonl").records
        cycles = [r for r in records.values() if isinstance(r, CycleRecord)]
        world = world_of(family.name, folder)
        spent = fmean(r.cpu_seconds for r in cycles if r.outcome == "completed")
        return cls(family, world, proposal_of(family.name, folder), spent)

    @cached_property
    def _surface(self) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        """Decades from the proposal to each of many points, and their truths."""
        from scipy.stats import qmc

        unit = qmc.Sobol(3, scramble=True, seed=0).random_base2(_POINTS).tolist()
        around = self.proposal / FAR, self.proposal * FAR
        chosen = [configuration(point, around, self.world.study.space) for point in unit]
        decades = np.log10([p.max_lr / self.proposal for p in chosen])
        return decades, np.array(self.world.truth(chosen))

    @property
    def best(self) -> tuple[float, float]:
        """The greatest truth, and how many decades its max_lr lies from the proposal."""
        decades, truths = self._surface
        at = int(truths.argmax())
        return float(truths[at]), float(decades[at])

    @property
    def flat(self) -> tuple[float, float]:
        """The decades from the proposal within which some configuration is as good as the best."""
        decades, truths = self._surface
        good = decades[truths >= truths.max() - _FLAT]
        return float(good.min()), float(good.max())

    def fixed(self, index: int) -> str:
        """Return the mean score of a fixed configuration, with its standard error and n."""
        factor, pct_start, div_factor = FIXED[index]
        for params, scores in self.world.recorded.items():
            near = math.isclose(params.max_lr, factor * self.proposal, rel_tol=1e-4)
            if near and (params["pct_start"], params["div_factor"]) == (pct_start, div_factor):
                values = [100 * score for score, _ in scores.values()]
                error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
                return f"{fmean(values):.2f} ± {error:.2f}"
        return "-"


def shown(folder: Path = RECORDED) -> Iterator[Shown]:
    """Yield the families that are recorded."""
    for family in FAMILIES.values():
        try:
            yield Shown.of(family, folder)
        except UserError:
            continue


def page(folder: Path = RECORDED) -> Page:
    """Return the page of what is recorded so far."""
    every = list(shown(folder))
    made_of = [
        [f.name, f.net, f.data, f.optimizer, f.batch_size, f.n_steps, f"{s.cpu_seconds:.2f}"]
        for s in every
        for f in [s.family]
    ]
    scores = [
        [
            s.family.name,
            f"{s.proposal:.3g}",
            f"{100 * s.best[0]:.2f}",
            f"{s.best[1]:+.2f} ({s.flat[0]:+.2f} to {s.flat[1]:+.2f})",
            *(s.fixed(index) for index in range(len(FIXED))),
        ]
        for s in every
    ]
    noise = [
        [
            s.family.name,
            sum(map(len, s.world.recorded.values())),
            f"{100 * s.world.surface.held_out_of(s.world.better):.2f}",
            f"{100 * s.world.usual:.2f}",
            f"{s.world.shares.common:.2f}",
            f"{s.world.shares.split:.2f}",
        ]
        for s in every
    ]
    names = [f"{factor:g} x, {pct:g}, {div:g}" for factor, pct, div in FIXED]
    return Page(
        title="The families",
        command="python -m benchmarks.families --write docs/benchmarks/families.md",
        opening=" ".join(_OPENING.format(n=len(every), n_sobol=DEFAULTS).split()),
        sections=[
            (
                "What they are",
                table(
                    ["family", "net", "data", "optimizer", "batch size", "steps", "CPU s a cycle"],
                    made_of,
                ),
            ),
            (
                "Scores",
                "`best` is the greatest value of the surface through the means, and how many "
                "decades its `max_lr` lies from the proposal; in brackets, where some "
                "configuration is within half a point of it. The others are the fixed "
                "configurations: `max_lr` over the proposal, `pct_start`, `div_factor`; mean and "
                "standard error.\n\n"
                + table(["family", "proposal", "best", "at, decades", *names], scores),
            ),
            (
                "Surface and noise",
                "`held out` is the root mean square error of a configuration's mean, predicted "
                "from all others, in the better half. `seed` is the deviation of one score; "
                "`common` the share of its variance that a seed gives to all configurations "
                "alike; `split` the correlation of the noise on validation with that on test.\n\n"
                + table(["family", "cycles", "held out", "seed", "common", "split"], noise),
            ),
        ],
    )
