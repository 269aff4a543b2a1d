"""A table of recorded runs: surrogate scores, the noise of their seeds, replayed sweeps."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.params import Params
from studies.params import CYCLE
from trainers.errors import TaskError
from trainers.onecycle import OneCycle
from trainers.table import Noise

_NEIGHBOURS = 8
_FOLD = 8.0  # deviations of a seed

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
    """A Gaussian process (Matern 5/2, a scale per parameter; scikit-learn) through mean scores.

    More is better. Each mean counts with the noise of its neighbourhood. What a configuration
    loses against the best counts as it is up to some deviations of a seed, beyond as a logarithm:
    a cliff would otherwise bend the plateau beside it upwards.

    `points` has a row per configuration, `means` its mean score and `errors` how far that lies
    from what all others predict, under the scales of all. `usual` is the typical deviation of a
    seed. `held_out` is the root mean square of all errors, `held_out_better` that of the better
    half.
    """

    def __init__(self, points: Vector, scores: Sequence[Sequence[float]]) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self.points = points
        self._deviations, self._degrees = _deviations(scores)
        means = np.array([fmean(each) for each in scores])
        local = np.array([self.typical_at(point) for point in points])
        noise = local / np.sqrt([len(each) for each in scores])
        self.usual = _typical(self._deviations, self._degrees)
        self._fold = _FOLD * self.usual or float(np.ptp(means)) or 1.0
        self._top = float(means.max()) + 0.2 * self._fold
        folded = self._folded(means)
        self._middle, self._scale = float(folded.mean()), float(folded.std()) or 1.0
        scaled = (folded - self._middle) / self._scale
        slope = self._fold / (self._fold + self._top - means)
        variances = (noise * slope / self._scale) ** 2 + 1e-8
        kernel = ConstantKernel() * Matern(np.ones(points.shape[1]), nu=2.5) + WhiteKernel(1e-2)
        self._process = GaussianProcessRegressor(kernel, alpha=variances)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scales at their bounds: a flat parameter
            self._process.fit(points, scaled)
        inverse = np.linalg.inv(self._process.kernel_(points) + np.diag(variances))
        smooth = self._process.kernel_.k1  # without the white noise, which no prediction has
        self._lengths, self._height = smooth.k2.length_scale, smooth.k1.constant_value
        without = self._unfolded(scaled - (inverse @ scaled) / np.diag(inverse))
        self.means, self.errors = means, without - means
        self.held_out = self.held_out_of(means > -np.inf)
        self.held_out_better = self.held_out_of(means >= np.median(means))

    def __call__(self, points: Vector) -> Vector:
        """Return the predicted mean score at each point, as scikit-learn's predict() does.

        By hand, for a search asks many times for one point, and predict() takes 0.2 ms.
        """
        apart = (points[:, None] - self.points) / self._lengths
        r = np.sqrt(5 * (apart**2).sum(axis=2))
        covariances = self._height * (1 + r + r**2 / 3) * np.exp(-r)
        return self._unfolded(covariances @ self._process.alpha_.ravel())

    def held_out_of(self, chosen: NDArray[np.bool_]) -> float:
        """Return the root mean square error of some configurations, predicted from all others."""
        return float(np.sqrt(np.mean(self.errors[chosen] ** 2)))

    def typical_of(self, chosen: NDArray[np.bool_]) -> float:
        """Return the typical deviation of a seed of some configurations."""
        return _typical(self._deviations[chosen], self._degrees[chosen])

    def typical_at(self, point: Vector) -> float:
        """Return the deviation of a seed in the neighbourhood of a point."""
        near = self.nearest(point)
        return _typical(self._deviations[near], self._degrees[near])

    def nearest(self, point: Vector) -> NDArray[np.int64]:
        """Return the recorded configurations that lie closest to a point."""
        return np.argsort(((self.points - point) ** 2).sum(axis=1))[:_NEIGHBOURS]

    def _folded(self, scores: Vector) -> Vector:
        found: Vector = -self._fold * np.log1p((self._top - scores) / self._fold)
        return found

    def _unfolded(self, scaled: Vector) -> Vector:
        folded = scaled * self._scale + self._middle
        found: Vector = self._top - self._fold * np.expm1(-folded / self._fold)
        return found


@dataclass(frozen=True, slots=True)
class _Length:
    """What was recorded at one cycle length."""

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
        recorded = length.validation
        below = recorded.typical_at(point[0])
        above = min(below, recorded.usual)
        validation, test = float(recorded(point)[0]), float(length.test(point)[0])
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


def _typical(deviations: Vector, degrees: NDArray[np.int64]) -> float:
    """Return the deviation of a normal noise: the median, each counted by its degrees of freedom.

    One pair that straddles a cliff does not move it.
    """
    return float(np.median(np.repeat(deviations, degrees)))


def _deviations(scores: Sequence[Sequence[float]]) -> tuple[Vector, NDArray[np.int64]]:
    """Return a seed's deviation by each configuration, without bias in the median, and degrees.

    Where there is one score only, the usual one.
    """
    from scipy.stats import chi2

    degrees = np.array([max(1, len(each) - 1) for each in scores])
    # The median of the deviations of n = 2 normal draws each is 0.6745 of the true one.
    medians = np.sqrt(chi2.median(degrees) / degrees)
    several = np.array([len(each) > 1 for each in scores])
    spread = [np.std(each, ddof=1) if len(each) > 1 else 0.0 for each in scores]
    found: Vector = np.array(spread) / medians
    found[~several] = np.median(found[several]) if several.any() else 0.0
    return found, degrees


def _length(cycles: Sequence[RecordedCycle]) -> _Length:
    by_configuration: dict[tuple[float, float, float], list[RecordedCycle]] = {}
    for cycle in cycles:
        key = cycle.max_lr, cycle.pct_start, cycle.div_factor
        by_configuration.setdefault(key, []).append(cycle)
    groups = list(by_configuration.values())
    points = places([group[0] for group in groups])
    return _Length(
        validation=Surface(points, [[c.score for c in group] for group in groups]),
        test=Surface(points, [[c.test_score for c in group] for group in groups]),
    )


def places(configurations: Sequence[Any]) -> Vector:
    """Return rows of log10(max_lr), pct_start and log10(div_factor), scaled to about 1 each."""
    rows = [_of_the_cycle(configuration) for configuration in configurations]
    lr, pct, div = np.array(rows, dtype=np.float64).T
    return np.column_stack([np.log10(lr), 3 * pct, np.log10(div)])


def _of_the_cycle(configuration: Any) -> list[float]:
    """Return max_lr, pct_start and div_factor, by name or as attributes."""
    if isinstance(configuration, Params):
        return [float(configuration[name]) for name in CYCLE]
    return [getattr(configuration, name) for name in CYCLE]
