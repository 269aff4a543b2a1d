"""Torch's rates held against printed ones: which values of a mistake reproduce most digits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.calls.placings import Moment, Placing

SLACK = 6e-8
"""Relative: half a unit of float32's last digit, for rates that were stored so."""
_PAIRS = 1_500_000
"""Values times readings that are looked at at once: 12 MB an array."""
_ROUNDS = (24, 512)
"""So many readings sift the values before all readings judge what is left."""
_LEAST_READINGS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A way to step the scheduler, and how many of the printed rates torch gives under it.

    `values` are what fits best: steps an epoch, epochs of a restart; `missed` is the distance of
    the other rates, in all, beyond what rounding explains; `moment` is when the rates were
    printed, if so.
    """

    name: str
    n_fit: int
    missed: float
    values: tuple[int, ...]
    what: str
    instead: str
    moment: str = ""


Moments = Callable[[Placing, NDArray[Any]], Sequence[Moment]]
"""A mistake: the placed readings and a column of values -> the steps whose rates are printed."""


class Fits:
    """Torch's rates by scheduler step, held against the placed readings of a log."""

    def __init__(
        self,
        lrs: NDArray[Any],
        placing: Placing,
        printed: NDArray[Any],
        half: NDArray[Any],
    ) -> None:
        self.lrs, self.placing, self.n = lrs, placing, len(printed)
        self.peak = int(lrs.argmax())
        self.sums = np.concatenate([[0.0], np.cumsum(lrs)])
        room = half * (1 + 1e-9) + SLACK * np.abs(printed)
        self.low, self.high = printed - room, printed + room

    def rates(self, moment: Moment) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return lowest and highest rate of each window of steps, and whether it has steps.

        A step beyond the end is none: torch raises there.
        """
        end = len(self.lrs) - 1
        there = (moment.high >= 0) & (moment.low <= end)
        low, high = np.clip(moment.low, 0, end), np.clip(moment.high, 0, end)
        if moment.mean:
            high = np.maximum(low, high)
            mean = (self.sums[high + 1] - self.sums[low]) / (high + 1 - low)
            return mean, mean, there & (moment.high <= end)
        first, last = self.lrs[low], self.lrs[high]
        top = np.where((low <= self.peak) & (self.peak <= high), self.lrs[self.peak], first)
        return np.minimum(first, last), np.maximum(np.maximum(first, last), top), there

    def misses(self, moment: Moment, at: NDArray[Any] | slice) -> NDArray[Any]:
        """Return by how much each window misses each reading of `at`; 0 is a fit."""
        lowest, highest, there = self.rates(moment)
        beyond = np.maximum(self.low[at] - highest, lowest - self.high[at])
        there = there if moment.agrees is None else there & moment.agrees
        return np.asarray(np.where(there, np.maximum(beyond, 0), self.lrs[self.peak]))

    def best(self, name: str, values: Sequence[int], moments: Moments) -> Explanation | None:
        """Return which of `values` fit best, None without values.

        Few readings sift many values first: time and memory never grow with the product.
        """
        kept = np.asarray(values, dtype=np.int64)
        if not len(kept):
            return None
        for n in (n for n in _ROUNDS if n < self.n and len(kept) > 1):
            most = max(_LEAST_READINGS, _PAIRS // len(kept))
            judged = self._judged(kept, moments, self._spread(min(n, most)))
            kept = kept[judged[2]]
        most = max(1, _PAIRS // self.n)
        if len(kept) <= most:
            judged = self._judged(kept, moments, None)
            return self._said(name, kept[judged[2]], judged)
        some = kept[np.linspace(0, len(kept) - 1, most).astype(int)]  # as good as equal so far
        return self._said(name, kept, self._judged(some, moments, None))

    def _said(self, name: str, kept: NDArray[Any], judged: Any) -> Explanation:
        n_fit, missed, _, moment = judged
        return Explanation(
            name=name,
            n_fit=n_fit,
            missed=missed,
            values=tuple(int(value) for value in kept),
            what="",
            instead="",
            moment=moment,
        )

    def _spread(self, n: int) -> NDArray[Any]:
        return np.unique(np.linspace(self.n - 1, 0, n).astype(int))

    def _judged(
        self, values: NDArray[Any], moments: Moments, at: NDArray[Any] | None
    ) -> tuple[int, float, NDArray[Any], str]:
        """Return the most readings that a value fits, what it misses, which values do so, when."""
        placing = self.placing if at is None else self.placing.take(at)
        where: NDArray[Any] | slice = slice(None) if at is None else at
        fit, missed, names = [], [], []
        for moment in moments(placing, values[:, None]):
            misses = np.broadcast_to(self.misses(moment, where), (len(values), placing.n))
            fit.append((misses == 0).sum(axis=1))
            missed.append(misses.sum(axis=1))
            names.append(moment.name)
        fits, missing = np.array(fit), np.array(missed)
        n_fit = int(fits.max())
        least = float(missing[fits == n_fit].min())
        chosen = (fits == n_fit) & (missing <= least + 1e-12)
        when = [name for name, good in zip(names, chosen.any(axis=1), strict=True) if good]
        return n_fit, least, np.flatnonzero(chosen.any(axis=0)), " or ".join(dict.fromkeys(when))

    def scaled(self, moments: Sequence[Moment]) -> tuple[float, float] | None:
        """Return the factors on max_lr, lowest and highest, that give every reading at a moment.

        Every rate of the cycle is in proportion to max_lr.
        """
        found = []
        for moment in moments:
            lowest, highest, there = self.rates(moment)
            lowest, highest = np.ravel(lowest), np.ravel(highest)
            if not np.broadcast_to(there, (1, self.n)).all() or (lowest <= 0).any():
                continue
            if moment.agrees is not None and not np.asarray(moment.agrees).all():
                continue
            low, high = (self.low / highest).max(), (self.high / lowest).min()
            if low <= high:
                found.append((float(low), float(high)))
        if not found:
            return None
        return min(low for low, _ in found), max(high for _, high in found)

    @property
    def constant(self) -> bool:
        """Whether one rate gives every reading."""
        return bool(self.low.max() <= self.high.min())
