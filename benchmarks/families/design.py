"""What is recorded of a family, in three rounds: sweeps, then configurations, then the best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from benchmarks.families.family import Family
from benchmarks.plan import SEED, Work, configuration, six_digits
from benchmarks.records import CycleRecord, Record, SweepRecord
from search.params import Params
from search.stages.range_test import sweep_of
from studies.definition import Study
from trainers.run import Point
from trainers.seeding import seed_for
from trainers.sweeps.ranges import wide_range
from trainers.sweeps.result import Points, RangeTestResult, concluded

N_SOBOL = 64
NEAR, FAR = 8.0, 300.0
"""How far the two kinds of configurations lie from the proposal, as a factor to either side."""
FIXED = (
    (1.0, 0.3, 25.0),  # torch's defaults
    (1.5, 0.45, 15.0),
    (0.63, 0.45, 15.0),
    (3.2, 0.45, 15.0),
)
"""Configurations of every family, after the quasi-random ones: max_lr over the proposal,
pct_start and div_factor. The first is torch's default 1cycle at the proposal."""
DEFAULTS = N_SOBOL

Recorded = Mapping[Work, Record]


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """How much is recorded of a family.

    `n_sweeps` and `n_slow` sweeps, the slow ones of twice the steps. `n_near` and `n_far` of
    N_SOBOL configurations with `n_seeds` seeds each, and the `n_best` of them and the fixed ones
    with `n_all_seeds`. All configurations share their seeds.
    """

    n_sweeps: int = 12
    n_slow: int = 6
    n_near: int = 44
    n_far: int = 20
    n_seeds: int = 2
    n_best: int = 16
    n_all_seeds: int = 8

    @property
    def n_runs(self) -> int:
        """How many runs there are in all."""
        more = (self.n_best + len(FIXED)) * (self.n_all_seeds - self.n_seeds)
        n_configurations = self.n_near + self.n_far + len(FIXED)
        return self.n_sweeps + self.n_slow + self.n_seeds * n_configurations + more


def seed_of(work: Work) -> int:
    """Return the seed of a run: of a cycle the same for every configuration."""
    if work.kind == "cycle":
        return seed_for(SEED, work.task, "common", work.seed)
    return work.run_seed()


def sweeps(study: Study, design: Design) -> list[Work]:
    """Return all sweeps, the slow ones last."""
    settings = study.range_test
    counts = ((settings.n_steps, design.n_sweeps), (settings.slow_steps, design.n_slow))
    return [
        Work(task=study.name, kind="sweep", number=number, length=length)
        for length, count in counts
        for number in range(count)
    ]


def range_test_of(family: Family, study: Study, recorded: Recorded) -> RangeTestResult:
    """Return what the recorded sweeps say together; the first slow one is the slow one."""
    settings = study.range_test
    own = [each for each in recorded.values() if isinstance(each, SweepRecord)]
    by_length = {
        length: [_points(s) for s in own if s.work.length == length]
        for length in (settings.n_steps, settings.slow_steps)
    }
    return concluded(
        sweep_of(settings, n_steps=settings.n_steps, adaptive=family.adaptive),
        tuple(by_length[settings.n_steps]),
        next(iter(by_length[settings.slow_steps]), None),
        seconds=sum(each.seconds for each in own),
        cycle_steps=family.n_steps,
    )


def _points(sweep: SweepRecord) -> Points:
    curve = sweep.curve()
    rows = zip(curve.lrs, curve.losses, strict=True)
    return tuple(Point(step, lr, loss) for step, (lr, loss) in enumerate(rows))


def centre(family: Family, study: Study, recorded: Recorded) -> float:
    """Return the max_lr around which the family is recorded.

    That of the cycles that are there; else the proposal of the sweeps, or the middle of a wide
    range where they have none.
    """
    for work, record in recorded.items():
        if isinstance(record, CycleRecord) and work.number == DEFAULTS:
            return record.params.max_lr
    result = range_test_of(family, study, recorded)
    if result.proposal is not None:
        return six_digits(result.proposal.max_lr)
    end_lr = study.range_test.end_lr
    low, high = wide_range(result.judgements, adaptive=family.adaptive, end_lr=end_lr)
    return six_digits(math.sqrt(low * high))


def configurations(study: Study, design: Design, middle: float) -> dict[int, Params]:
    """Return all configurations by number: near, far, and the fixed ones from DEFAULTS on."""
    kinds = (("near", NEAR, design.n_near), ("far", FAR, design.n_far))
    chosen = [
        configuration(unit, (middle / factor, middle * factor), study.space)
        for half, factor, n in kinds
        for unit in _sobol(study.name, half, n)
    ]
    fixed = [
        Params(max_lr=six_digits(middle * factor), pct_start=pct_start, div_factor=div_factor)
        for factor, pct_start, div_factor in FIXED
    ]
    return {**dict(enumerate(chosen)), **dict(enumerate(fixed, DEFAULTS))}


def _sobol(name: str, half: str, n: int) -> list[list[float]]:
    from scipy.stats import qmc

    sobol = qmc.Sobol(3, scramble=True, seed=seed_for(SEED, name, "sobol", half))
    # A power of two, at which it is balanced; the first n of them are nearly so.
    drawn: list[list[float]] = sobol.random_base2(max(1, (n - 1).bit_length())).tolist()
    return drawn[:n]


def cycles(name: str, numbers: list[int], seeds: range) -> list[Work]:
    """Return the cycles of these configurations with these seeds."""
    return [
        Work(task=name, kind="cycle", number=number, length=1, seed=seed)
        for number in numbers
        for seed in seeds
    ]


def best(recorded: Recorded, design: Design, diverged_value: float) -> list[int]:
    """Return the best quasi-random configurations by the mean of their first seeds."""
    scores: dict[int, list[float]] = {}
    for work, record in recorded.items():
        if not isinstance(record, CycleRecord) or work.number >= N_SOBOL:
            continue
        if work.seed < design.n_seeds:
            score = diverged_value if record.score is None else record.score
            scores.setdefault(work.number, []).append(score)
    ordered = sorted(scores, key=lambda number: (-fmean(scores[number]), number))
    return ordered[: design.n_best]


def next_round(
    family: Family, study: Study, design: Design, recorded: Recorded
) -> tuple[int, list[tuple[Work, Params | None]]]:
    """Return the number of the first round that is not all there, and what it lacks.

    Nothing is lacking in round 3.
    """
    lacking = [(work, None) for work in sweeps(study, design) if work not in recorded]
    if lacking:
        return 0, list(lacking)
    params = configurations(study, design, centre(family, study, recorded))
    fixed = [number for number in params if number >= DEFAULTS]
    drawn = [number for number in params if number < DEFAULTS]
    first = cycles(study.name, [*fixed, *drawn], range(design.n_seeds))
    round_1 = [(work, params[work.number]) for work in first if work not in recorded]
    if round_1:
        return 1, list(round_1)
    numbers = [*fixed, *best(recorded, design, family.diverged_value)]
    more = cycles(study.name, numbers, range(design.n_seeds, design.n_all_seeds))
    round_2 = [(work, params[work.number]) for work in more if work not in recorded]
    return (2, list(round_2)) if round_2 else (3, [])
