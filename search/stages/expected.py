"""What a configuration is expected to score, given the single scores of all."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from studies.states import Direction

if TYPE_CHECKING:
    import numpy as np

_MOST_FITTED = 500  # a fit solves a system of that size some fifty times; 3,000 took half a minute
_MOST_POINTS = 2_000
"""So many points the process goes through: memory grows with their square, time with their cube
(20,000 of them took 12 GB and the process died)."""
_AT_ONCE = 1_000  # predicted together, which bounds the table of distances to the points


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

    More than 2,000 scores go in as the means of groups of neighbours, at most 2,000 of them, each
    with the noise of a mean. The groups are made by position alone: to take the best scores and
    leave others out would take the lucky ones.

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
    if len(slots) > _MOST_POINTS:
        means = _through_means(points, values, fitted.kernel_)
    else:
        process = GaussianProcessRegressor(fitted.kernel_, optimizer=None, normalize_y=True)
        process.fit(points, values)
        means = process.predict(points)
    return {**scores, **dict(zip(slots, (sign * means).tolist(), strict=True))}


def _through_means(points: "np.ndarray", values: "np.ndarray", kernel: Any) -> "np.ndarray":
    """Return the posterior mean at each point of a process through the means of near points.

    `kernel` is the fitted sum of a signal and a white noise, in deviations of the values.
    """
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor

    groups = _groups(points)
    level, deviation = float(values.mean()), float(values.std())
    process = GaussianProcessRegressor(
        kernel.k1,
        alpha=np.array([kernel.k2.noise_level / len(group) for group in groups]),
        optimizer=None,
    )
    process.fit(
        np.array([points[group].mean(axis=0) for group in groups]),
        np.array([(values[group].mean() - level) / deviation for group in groups]),
    )
    parts = np.array_split(points, math.ceil(len(points) / _AT_ONCE))
    return level + deviation * np.concatenate([process.predict(part) for part in parts])


def _groups(points: "np.ndarray") -> "list[np.ndarray]":
    """Return at most _MOST_POINTS groups of neighbours, as indices: halves of halves, each time
    across the axis that they spread over most."""
    import numpy as np

    greatest = math.ceil(2 * len(points) / _MOST_POINTS)  # a half then holds enough of it
    groups, left = [], [np.arange(len(points))]
    while left:
        group = left.pop()
        if len(group) <= greatest:
            groups.append(group)
            continue
        axis = np.ptp(points[group], axis=0).argmax()
        ordered = group[np.argsort(points[group, axis], kind="stable")]
        left += np.array_split(ordered, 2)
    return groups
