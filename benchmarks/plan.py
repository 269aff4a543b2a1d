"""What is recorded of a study, and in which order: pure functions of study and design."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from search.params import Params
from studies.definition import Space, Study
from trainers.seeding import seed_for

Tool = Literal["torch-lr-finder", "fastai", "lightning", "ignite"]
Kind = Literal["sweep", "cycle"] | Tool

SEED = 0
WIDE_MAX_LR = (1e-4, 10.0)
BAND_FACTOR = 8.0
"""The band around the centre is [centre / 8, 8 centre], twice the product's bracket each way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """How much is recorded of each study.

    `n_long_sweeps` sweeps take twice the steps of the `n_sweeps` others. Each configuration is
    trained for complete cycles of each length, with `n_seeds` seeds each.
    """

    n_configurations: int = 128
    n_seeds: int = 2
    epochs: tuple[int, ...] = (1, 2, 4)
    n_sweeps: int = 80
    n_long_sweeps: int = 16

    def __post_init__(self) -> None:
        if self.n_configurations < 2 or self.n_configurations.bit_count() != 1:
            raise ValueError(
                f"n_configurations must be a power of 2 from 2 on, got {self.n_configurations}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One run to record: sweep `number` of `length` steps, or configuration `number` trained for
    `length` epochs with seed index `seed`.
    """

    task: str
    kind: Kind
    number: int
    length: int
    seed: int = 0

    def run_seed(self) -> int:
        """Return the seed of this run; no two runs of a recording share one."""
        return seed_for(SEED, self.task, self.kind, self.length, self.number, self.seed)

    def n_steps(self, study: Study) -> int:
        """Return the optimizer steps of this run, unless it breaks."""
        return self.length if self.kind == "sweep" else self.length * study.task.steps_per_epoch

    def n_images(self, study: Study) -> int:
        """Return the images that this run trains on, unless it breaks."""
        return self.n_steps(study) * study.task.batch_size


def first_sweeps(study: Study) -> list[Work]:
    """Return one whole range test: the sweeps that say where the band lies."""
    settings = study.range_test
    return [
        Work(task=study.name, kind="sweep", number=number, length=settings.n_steps)
        for number in range(settings.n_sweeps)
    ]


def later_sweeps(study: Study, design: Design) -> list[Work]:
    """Return the other sweeps, the long ones spread evenly between them."""
    n_steps = study.range_test.n_steps
    counts = ((n_steps, design.n_sweeps), (2 * n_steps, design.n_long_sweeps))
    placed = [
        (number / count, length, number) for length, count in counts for number in range(count)
    ]
    every = [
        Work(task=study.name, kind="sweep", number=number, length=length)
        for _, length, number in sorted(placed)
    ]
    first = set(first_sweeps(study))
    return [work for work in every if work not in first]


def cycles(study: Study, design: Design, number: int) -> list[Work]:
    """Return all lengths and seeds of one configuration."""
    return [
        Work(task=study.name, kind="cycle", number=number, length=length, seed=seed)
        for length in design.epochs
        for seed in range(design.n_seeds)
    ]


def in_order(studies: Iterable[Study], design: Design) -> Iterator[Work]:
    """Yield all work after the first sweeps, such that any beginning of it is of use.

    Configuration by configuration, in the order of their numbers, with the studies taking turns
    and an even share of the later sweeps after each.
    """
    sweeps = [(study, later_sweeps(study, design)) for study in studies]
    n = design.n_configurations
    for number in range(n):
        for study, later in sweeps:
            yield from cycles(study, design, number)
            yield from later[len(later) * number // n : len(later) * (number + 1) // n]


def configurations(study: Study, design: Design, centre: float) -> list[Params]:
    """Return the quasi-random configurations, to six significant digits.

    Even numbers come from the whole space of rates, odd ones from a band around the centre; each
    half is a scrambled Sobol sequence of its own.
    """
    band = (centre / BAND_FACTOR, centre * BAND_FACTOR)
    wide = _sobol(study, design, "wide", WIDE_MAX_LR)
    near = _sobol(study, design, "band", band)
    return [params for pair in zip(wide, near, strict=True) for params in pair]


def _sobol(
    study: Study, design: Design, half: str, max_lr: tuple[float, float]
) -> Sequence[Params]:
    from scipy.stats import qmc

    # scipy calls it rng since 1.15, and still takes the old name.
    sobol = qmc.Sobol(3, scramble=True, seed=seed_for(SEED, study.name, "sobol", half))
    unit = sobol.random(design.n_configurations // 2).tolist()
    return [configuration(point, max_lr, study.space) for point in unit]


def configuration(unit: Sequence[float], max_lr: tuple[float, float], space: Space) -> Params:
    """Return the configuration at a point of the unit cube, to six significant digits."""
    low, high = space.pct_start
    return Params(
        max_lr=six_digits(_log_between(*max_lr, unit[0])),
        pct_start=six_digits(low + (high - low) * unit[1]),
        div_factor=six_digits(_log_between(*space.div_factor, unit[2])),
    )


def _log_between(low: float, high: float, share: float) -> float:
    return low * math.exp(share * math.log(high / low))


def six_digits(value: float) -> float:
    """Return a value as it is recorded."""
    return float(f"{value:.6g}")
