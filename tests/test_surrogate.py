"""The surrogate: a Gaussian process in range-test coordinates, and what it tells."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern

from search.stages.kernel import Constants, LogNormal, Part, constants
from search.stages.surrogate import Observations, surrogate

UNIT = 0.01
KNOWN = constants()
NEVER = 1e6  # a scale of a coordinate that a process does not depend on


def places(n: int, seed: int, *, n_dimensions: int = 3) -> np.ndarray:
    """Return points of a bracket of 1.6 decades, and of the unit cube beyond the first three."""
    shares = np.random.default_rng(seed).random((n, n_dimensions))
    shares[:, :3] = shares[:, :3] * [1.6, 0.8, 2.0] + [-1.0, 0.1, 0.2]
    return shares


def observed(points: np.ndarray, scores: np.ndarray, n_seeds: int = 1) -> Observations:
    return Observations(points, scores, np.full(len(points), n_seeds))


def sure_of(noise: float, *, fold: float = 1e6) -> Constants:
    """Return the product's constants with one hypothesis: a scale of 1 point and that noise."""
    return Constants(
        scale=LogNormal(median=1.0, sd_of_log=1e-9),
        guessed_scale=LogNormal(median=1.0, sd_of_log=1e-9),
        noise_over_scale=LogNormal(median=noise, sd_of_log=1e-9),
        fold=fold,
        level=KNOWN.level,
        parts=KNOWN.parts,
    )


def as_sklearn(part: Part) -> Kernel:
    scales = [part.max_lr or NEVER, part.pct_start or NEVER, part.div_factor or NEVER]
    return ConstantKernel(part.sd**2) * Matern(scales, nu=2.5)


def dense_process(observations: Observations, noise: float) -> GaussianProcessRegressor:
    """Return scikit-learn's process of the same prior, in points below the best."""
    kernel = ConstantKernel(KNOWN.level**2)
    for part in KNOWN.parts[:3]:
        kernel += as_sklearn(part)
    process = GaussianProcessRegressor(
        kernel, alpha=noise**2 / observations.n_seeds, optimizer=None
    )
    best = observations.scores.max()
    return process.fit(observations.points, (observations.scores - best) / UNIT)


def test_the_posterior_of_one_hypothesis_is_the_dense_process_of_another_library() -> None:
    points, elsewhere = places(20, 1), places(30, 2)
    scores = 0.6 + np.random.default_rng(3).normal(0, 0.01, 20)
    observations = Observations(points, scores, np.arange(1, 21))
    model = surrogate(observations, unit=UNIT, known=sure_of(0.5))
    mean, covariance = dense_process(observations, 0.5).predict(elsewhere, return_cov=True)
    assert model.mean(elsewhere) == pytest.approx(scores.max() + UNIT * mean, abs=1e-6)
    assert model.covariance(elsewhere) == pytest.approx(UNIT**2 * covariance, abs=1e-8)
    assert model.deviation(elsewhere) == pytest.approx(
        UNIT * np.sqrt(np.diag(covariance)), abs=1e-6
    )
