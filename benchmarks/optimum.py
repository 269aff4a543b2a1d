"""Where the best `max_lr` lies by complete cycles, and what another one costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PLATEAU = 0.04
"""The parabola is fitted to the rates next to the best whose mean is at most 4 points below it."""
N_DRAWS = 500

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Optimum:
    """A parabola in log10(max_lr) through the plateau of mean scores, in [0, 1].

    Rates are log10. `log_rates`, `means` (N,) are all rates measured; `low` and `high` are the
    first and last of the plateau. `at` is the parabola's top within the plateau, or the best mean
    where the plateau has fewer than three rates or does not bend down, and `score` the height
    there.
    """

    log_rates: _Floats
    means: _Floats
    low: float
    high: float
    parabola: _Floats | None
    at: float
    score: float

    def score_at(self, log_rate: float) -> float:
        """Return the parabola on the plateau, elsewhere the line between neighbouring means.

        Beyond the rates that were measured: the mean of the last one.
        """
        if self.parabola is not None and self.low <= log_rate <= self.high:
            return float(np.polyval(self.parabola, log_rate))
        return float(np.interp(log_rate, self.log_rates, self.means))

    def regret(self, log_rate: float) -> float:
        """Return how much lower the score is there than at the optimum."""
        return self.score - self.score_at(log_rate)

    def is_measured(self, log_rate: float) -> bool:
        """Whether cycles were trained on both sides of a rate."""
        return bool(self.log_rates[0] <= log_rate <= self.log_rates[-1])

    def within(self, loss: float) -> tuple[float, float]:
        """Return the lowest and highest log10 rate around the optimum that lose at most this."""
        steps = np.linspace(self.log_rates[0], self.log_rates[-1], 2_001)
        bad = np.array([self.regret(float(step)) > loss for step in steps])
        below, above = steps[bad & (steps < self.at)], steps[bad & (steps > self.at)]
        low = float(below[-1]) if len(below) else float(steps[0])
        return low, float(above[0]) if len(above) else float(steps[-1])


def fit(scores: Mapping[float, Sequence[float]]) -> Optimum:
    """Fit the scores of cycles by max_lr; each mean counts as many times as it has cycles."""
    rates = sorted(scores)
    log_rates = np.log10(rates)
    means = np.array([np.mean(scores[rate]) for rate in rates])
    counts = np.array([len(scores[rate]) for rate in rates])
    low = high = best = int(np.argmax(means))
    while low > 0 and means[low - 1] >= means[best] - PLATEAU:
        low -= 1
    while high < len(rates) - 1 and means[high + 1] >= means[best] - PLATEAU:
        high += 1
    chosen = slice(low, high + 1)
    parabola, at = None, float(log_rates[best])
    if high - low >= 2:
        bent = np.polyfit(log_rates[chosen], means[chosen], 2, w=np.sqrt(counts[chosen]))
        if bent[0] < 0:
            top = -bent[1] / (2 * bent[0])
            parabola, at = bent, float(np.clip(top, log_rates[low], log_rates[high]))
    height = float(np.polyval(parabola, at)) if parabola is not None else float(means[best])
    ends = float(log_rates[low]), float(log_rates[high])
    return Optimum(log_rates, means, *ends, parabola, at, height)


def interval(
    scores: Mapping[float, Sequence[float]], *, share: float = 0.9
) -> tuple[float, float]:
    """Return a 90 % interval of the optimum's log10 rate: the cycles of each rate resampled.

    Rates with one cycle keep it. A bootstrap over few seeds is somewhat too narrow.
    """
    random = np.random.default_rng(0)
    tops = [
        fit({rate: random.choice(of, len(of)).tolist() for rate, of in scores.items()}).at
        for _ in range(N_DRAWS)
    ]
    low, high = np.quantile(tops, [0.05, 0.95])
    return float(low), float(high)
