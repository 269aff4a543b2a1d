"""What a configuration is expected to score, given the single scores of all."""

import warnings
from collections.abc import Mapping, Sequence

from search.confirmation import Direction


def expected_scores(
    scores: Mapping[int, float],
    positions: Mapping[int, Sequence[float]],
    *,
    direction: Direction,
) -> dict[int, float]:
    """Return the posterior mean at each slot of a Gaussian process through all scores.

    Matern 5/2 with a scale per parameter and a noise of its own (scikit-learn), over points of the
    unit cube. The best of many single scores is a lucky one; this asks its neighbours as well. A
    score far below the others, of a cycle that nearly broke, counts as just outside them.
    """
    if len(scores) < 4:
        return dict(scores)
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    slots = list(scores)
    points = np.array([positions[slot] for slot in slots])
    sign = 1.0 if direction == "maximize" else -1.0
    values = sign * np.array([scores[slot] for slot in slots])
    low, high = np.quantile(values, [0.25, 0.75])
    values = np.maximum(values, low - 1.5 * (high - low))
    kernel = ConstantKernel(1.0, (0.05, 20)) * Matern(
        np.ones(points.shape[1]), (0.2, 20), nu=2.5
    ) + WhiteKernel(0.3, (1e-2, 2))
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scales at their bounds: a parameter that is flat
        process.fit(points, values)
    return dict(zip(slots, (sign * process.predict(points)).tolist(), strict=True))
