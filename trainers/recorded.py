"""A table of recorded runs: surrogate scores, the noise of their seeds, replayed sweeps."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.errors import TaskError
from trainers.onecycle import OneCycle
from trainers.table import Noise

_NEIGHBOURS = 8
_MEDIAN_OF_PAIRS = 0.6745  # of the standard deviations of n = 2 each, in deviations

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedCycle:
    """One cycle that was trained: where it broke, both scores are what such a cycle is worth."""

    max_lr: float
    pct_start: float
    div_factor: float
    epochs: int
    score: float
    test_score: float


class Surface:
    """A Gaussian process (Matern 3/2, a scale per parameter; scikit-learn) through mean scores.

    `held_out` is the root mean square error of each configuration's mean score, predicted from
    all others under the scales of all; `held_out_better` that of the better half.
    """

    def __init__(self, points: Vector, values: Vector) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        kernel = ConstantKernel() * Matern(np.ones(points.shape[1]), nu=1.5) + WhiteKernel(1e-2)
        self._process = GaussianProcessRegressor(kernel, normalize_y=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scales at their bounds: a flat parameter
            self._process.fit(points, values)
        inverse = np.linalg.inv(self._process.kernel_(points))
        scaled = (values - values.mean()) / values.std() if values.std() > 0 else 0 * values
        residuals = values.std() * (inverse @ scaled) / np.diag(inverse)
        better = residuals[values >= np.median(values)]
        self.held_out = float(np.sqrt(np.mean(residuals**2)))
        self.held_out_better = float(np.sqrt(np.mean(better**2)))

    def __call__(self, points: Vector) -> Vector:
        """Return the predicted mean score at each point."""
        found: Vector = self._process.predict(points)
        return found


@dataclass(frozen=True, slots=True)
class _Length:
    """What was recorded at one cycle length."""

    points: Vector
    deviations: Vector
    validation: Surface
    test: Surface


class Recorded:
    """Answers for any configuration and recorded length; sweeps are replayed as they were."""

    def __init__(
        self, cycles: Iterable[RecordedCycle], sweeps: Sequence[Sequence[float]] = ()
    ) -> None:
        by_length: dict[int, list[RecordedCycle]] = {}
        for cycle in cycles:
            by_length.setdefault(cycle.epochs, []).append(cycle)
        self._lengths = {epochs: _length(found) for epochs, found in sorted(by_length.items())}
        self._sweeps: dict[int, list[Sequence[float]]] = {}
        for sweep in sweeps:
            self._sweeps.setdefault(len(sweep), []).append(sweep)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The recorded cycle lengths in epochs."""
        return tuple(self._lengths)

    @property
    def held_out(self) -> Mapping[int, tuple[float, float]]:
        """Epochs -> held-out error of the validation scores, of all and of the better half."""
        surfaces = {epochs: length.validation for epochs, length in self._lengths.items()}
        return {epochs: (s.held_out, s.held_out_better) for epochs, s in surfaces.items()}

    def truth(self, configurations: Sequence[Any], *, epochs: int) -> Vector:
        """Return the noiseless validation score of each configuration."""
        return self._at(epochs).validation(places(configurations))

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        """Return mean and seeded noise; the noise is that of the nearest configurations.

        Upwards it is never more than the usual one of that length: close to the rate at which
        training breaks a seed may fail badly, none excels.
        """
        length, point = self._at(epochs), places([cycle])
        noise = Noise(cycle, epochs=epochs, seed=seed)
        nearest = np.argsort(((length.points - point) ** 2).sum(axis=1))[:_NEIGHBOURS]
        below = _typical(length.deviations[nearest])
        above = min(below, _typical(length.deviations))
        validation, test = float(length.validation(point)[0]), float(length.test(point)[0])
        return validation + noise.draw(below, above), test + noise.draw(below, above)

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        """Return one of the recorded sweeps of that many steps."""
        found = self._sweeps.get(len(lrs))
        if not found:
            known = ", ".join(map(str, sorted(self._sweeps))) or "none"
            raise TaskError(f"no recorded sweep of {len(lrs)} steps; recorded: {known}")
        return found[seed % len(found)]

    def _at(self, epochs: int) -> _Length:
        if epochs not in self._lengths:
            known = ", ".join(map(str, self._lengths)) or "none"
            raise TaskError(f"no recorded cycles of {epochs} epochs; recorded: {known}")
        return self._lengths[epochs]


def _typical(deviations: Vector) -> float:
    """Return the deviation of a normal noise from those of pairs: their median is 0.67 of it.

    One pair that straddles a cliff does not move it.
    """
    return float(np.median(deviations)) / _MEDIAN_OF_PAIRS


def _length(cycles: Sequence[RecordedCycle]) -> _Length:
    by_configuration: dict[tuple[float, float, float], list[RecordedCycle]] = {}
    for cycle in cycles:
        key = cycle.max_lr, cycle.pct_start, cycle.div_factor
        by_configuration.setdefault(key, []).append(cycle)
    groups = list(by_configuration.values())
    points = places([group[0] for group in groups])
    several = [[c.score for c in group] for group in groups if len(group) > 1]
    usual = fmean([np.std(scores, ddof=1) for scores in several]) if several else 0.0
    deviations = [
        np.std([c.score for c in group], ddof=1) if len(group) > 1 else usual for group in groups
    ]
    return _Length(
        points=points,
        deviations=np.array(deviations),
        validation=Surface(points, np.array([fmean(c.score for c in g) for g in groups])),
        test=Surface(points, np.array([fmean(c.test_score for c in g) for g in groups])),
    )


def places(configurations: Sequence[Any]) -> Vector:
    """Return rows of log10(max_lr), pct_start and log10(div_factor), scaled to about 1 each."""
    rows = [[c.max_lr, c.pct_start, c.div_factor] for c in configurations]
    lr, pct, div = np.array(rows, dtype=np.float64).T
    return np.column_stack([np.log10(lr), 3 * pct, np.log10(div)])
