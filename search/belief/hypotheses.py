"""How much a task's scores may differ and how noisy they may be: a grid of hypotheses."""

import math
from dataclasses import dataclass

import numpy as np

from search.belief.kernel import Floats, LogNormal
from studies.answer import Noise

_REACH = 2.5  # deviations of the scale's prior that its nodes cover to either side
_STEP = 0.6  # at most so far apart in logarithms are the scales
_NOISE_OFFSETS = np.array([-1.8, -0.9, 0.0, 0.9, 1.8])  # in deviations


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Hypotheses:
    """Scales in points, noises over scale, and the log of what each weighs before the scores."""

    scales: Floats
    noises_over_scale: Floats
    log_weights: Floats


def hypotheses_of(
    scale: LogNormal, noise: LogNormal, *, unit: float, deviation: Noise | None
) -> Hypotheses:
    """Return the nodes of an even grid in log scale, and in log noise around what is known."""
    n_steps = math.ceil(_REACH * scale.sd_of_log / _STEP)
    offsets = np.linspace(-_REACH, _REACH, 2 * n_steps + 1) * scale.sd_of_log
    log_scales = np.repeat(math.log(scale.median) + offsets, len(_NOISE_OFFSETS))
    log_weights = -0.5 * ((log_scales - math.log(scale.median)) / scale.sd_of_log) ** 2
    middle, width = np.full(len(log_scales), math.log(noise.median)), noise.sd_of_log
    measured = _measured(deviation)
    if measured is not None:
        # A deviation from k degrees of freedom has a log of variance 1 / 2k, near enough to place
        # the nodes; their weights are exact.
        log_measured = math.log(max(measured.deviation / unit, 1e-3)) - log_scales
        trust = 2 * measured.freedom * width**2
        middle, width = (middle + trust * log_measured) / (1 + trust), width / math.sqrt(1 + trust)
    log_ratios = middle + width * np.tile(_NOISE_OFFSETS, 2 * n_steps + 1)
    log_weights += -0.5 * ((log_ratios - math.log(noise.median)) / noise.sd_of_log) ** 2
    if measured is not None:
        excess = log_measured - log_ratios
        log_weights += measured.freedom * (excess - 0.5 * np.exp(2 * excess))
    return Hypotheses(
        scales=np.exp(log_scales), noises_over_scale=np.exp(log_ratios), log_weights=log_weights
    )


def _measured(deviation: Noise | None) -> Noise | None:
    """Return a deviation that says something about the noise; None for any other."""
    if deviation is None or deviation.source != "replicates" or deviation.freedom < 1:
        return None
    return deviation if math.isfinite(deviation.deviation) else None
