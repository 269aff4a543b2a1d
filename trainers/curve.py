"""The learning curve of one run: the mean training loss of at most 100 windows of its steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from trainers.run import Point

N_WINDOWS = 100
"""More than a figure of a few hundred pixels shows, in about 3 kB."""
_DIGITS = 6  # of a loss or a rate: finer than any figure, and half the text of a double


@dataclass(frozen=True, slots=True)
class Curve:
    """Windows of steps, in their order, three values of each.

    `steps`: steps done at its end. `lrs`: the rate of its last step, of the first param group.
    `losses`: the mean training loss of its finite losses, None where it has none.
    """

    steps: tuple[int, ...] = ()
    lrs: tuple[float, ...] = ()
    losses: tuple[float | None, ...] = ()

    @classmethod
    def from_json(cls, stored: dict[str, Sequence[Any]]) -> Self:
        """Return the curve of its fields as JSON."""
        return cls(**{name: tuple(values) for name, values in stored.items()})


class Thinned:
    """Makes the curve of a run from its points, as they come.

    The windows are equal parts of `total_steps`, so a run that resumes has those that an
    uninterrupted one would have had.
    """

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self._last: Point | None = None
        self._clear()

    def _clear(self) -> None:
        self._n_read = 0
        self._sums: list[float] = []
        self._counts: list[int] = []
        self._ends: list[tuple[int, float]] = []

    def read(self, points: Sequence[Point]) -> None:
        """Read what was added to a run's points; all of them where the run started over."""
        same = self._n_read <= len(points)
        if self._n_read and not (same and points[self._n_read - 1] is self._last):
            self._clear()
        for point in points[self._n_read :]:
            self._add(point)
            self._n_read += 1
            self._last = point

    def _add(self, point: Point) -> None:
        n_windows = min(N_WINDOWS, self.total_steps)
        # Within: a loop that counts its steps wrongly is refused at its end, not here.
        window = point.step * n_windows // self.total_steps
        window = min(max(0, window), n_windows - 1)
        while len(self._sums) <= window:
            self._sums.append(0.0)
            self._counts.append(0)
            self._ends.append((point.step, point.lr))
        self._ends[window] = (point.step + 1, point.lr)
        if point.finite:
            self._sums[window] += point.loss
            self._counts[window] += 1

    def curve(self) -> Curve:
        """Return the curve so far; the last window may not be full yet."""
        means = [
            _rounded(total / n) if n else None
            for total, n in zip(self._sums, self._counts, strict=True)
        ]
        return Curve(
            steps=tuple(step for step, _ in self._ends),
            lrs=tuple(_rounded(lr) or 0.0 for _, lr in self._ends),
            losses=tuple(means),
        )


def _rounded(value: float) -> float | None:
    """Return a value in as many digits as a figure needs; None: it is too large for a number."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
