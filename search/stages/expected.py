"""What a configuration is expected to score, given the single scores of all."""

import warnings
from collections.abc import Mapping, Sequence

from studies.states import Direction

_MOST_FITTED = 500  # a fit solves a system of that size some fifty times; 3,000 took half a minute


def expected_scores(
    scores: Mapping[int, float],
    positions: Mapping[int, Sequence[float]],
    *,
    direction: Direction,
) -> dict[int, float]:
    """Return the posterior mean at each slot of a Gaussian process through all scores.

    The best of many single scores is a lucky one; this asks its neighbours as well. Matern 5/2
    with one scale and a noise of its own (scikit-learn), both fitted to the first 500 scores,
    over `positions` in the unit cube.

    Scores below the median by more than three times what the best lies above it are of cycles
    that broke or nearly did: they stand as they are and count for no other. So do fewer than four.
    """
    if len(scores) < 4:
        return dict(scores)
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    sign = 1.0 if direction == "maximize" else -1.0
    every = sign * np.array(list(scores.values()))
    middle, best = float(np.median(every)), float(every.max())
    slots = [slot for slot, v in zip(scores, every, strict=True) if v >= 4 * middle - 3 * best]
    points = np.array([positions[slot] for slot in slots])
    values = sign * np.array([scores[slot] for slot in slots])
    kernel = ConstantKernel(1.0, (0.05, 20)) * Matern(1.0, (0.2, 20), nu=2.5)
    kernel += WhiteKernel(0.3, (0.05, 2))
    fitted = GaussianProcessRegressor(kernel, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a scale at its bound: all is flat
        fitted.fit(points[:_MOST_FITTED], values[:_MOST_FITTED])
    process = GaussianProcessRegressor(fitted.kernel_, optimizer=None, normalize_y=True)
    process.fit(points, values)
    expected = (sign * process.predict(points)).tolist()
    return {**scores, **dict(zip(slots, expected, strict=True))}
