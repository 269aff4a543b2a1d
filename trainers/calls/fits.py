"""Torch's rates held against printed ones: which values of a mistake reproduce most digits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainers.calls.logs import Reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLACK = 1e-9
"""Relative: torch's own rounding, where a log prints all digits."""
_MOST_READINGS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A way to step the scheduler, and how many of the printed rates torch gives under it.

    `values` are what fits best: steps an epoch, epochs of a restart; `missed` is the distance of
    the other rates, in all, beyond what rounding explains.
    """

    name: str
    n_fit: int
    missed: float
    values: tuple[int, ...]
    what: str
    instead: str


class Fits:
    """Torch's rates by scheduler step, held against the readings of a log."""

    def __init__(self, lrs: Sequence[float], readings: Sequence[Reading]) -> None:
        import numpy as np

        self.np, self.lrs = np, np.asarray(lrs)
        every = math.ceil(len(readings) / _MOST_READINGS)
        kept = [*readings[::-1][::every]][::-1]
        self.weight = len(readings) / len(kept)
        self.n = len(readings)
        self.epochs = np.array([reading.epoch for reading in kept])
        self.whole = all(reading.epoch.is_integer() for reading in kept)
        printed = np.array([reading.lr for reading in kept])
        room = np.array([reading.half for reading in kept]) + SLACK * np.abs(printed)
        self.low, self.high = printed - room, printed + room

    def moments(
        self, begun: "NDArray[Any]", done: "NDArray[Any]", *, per_batch: int = 1
    ) -> list["NDArray[Any]"]:
        """Return the steps whose rate a log may print: first and last of an epoch, and the next.

        `begun`, `done`: scheduler steps before each reading's epoch, and by its end.
        """
        if not self.whole:
            return [done - per_batch, done]
        return [begun, done - per_batch, done]

    def judged(self, positions: "NDArray[Any]") -> tuple["NDArray[Any]", "NDArray[Any]"]:
        """Return how many readings each row of scheduler steps reproduces, and what it misses.

        A step beyond the end is none: torch raises there.
        """
        np = self.np
        there = (positions >= 0) & (positions < len(self.lrs))
        lrs = self.lrs[np.clip(positions, 0, len(self.lrs) - 1)]
        beyond = np.maximum(self.low - lrs, lrs - self.high)
        missed = np.where(there, np.maximum(beyond, 0), self.lrs.max())
        return (missed == 0).sum(axis=1), missed.sum(axis=1)

    def best(
        self, name: str, values: Sequence[int], moments: Iterable["NDArray[Any]"]
    ) -> Explanation | None:
        """Return which of `values` (a row of each moment) fit best, None without values."""
        if not len(values):
            return None
        np = self.np
        judged = [self.judged(moment) for moment in moments]
        fit, missed = np.array([j[0] for j in judged]), np.array([j[1] for j in judged])
        n_fit = int(fit.max())
        least = float(missed[fit == n_fit].min())
        chosen = ((fit == n_fit) & (missed <= least + 1e-12)).any(axis=0)
        return Explanation(
            name=name,
            n_fit=self.n if n_fit == len(self.epochs) else math.floor(n_fit * self.weight),
            missed=least,
            values=tuple(int(v) for v, good in zip(values, chosen, strict=True) if good),
            what="",
            instead="",
        )

    def stepped(
        self, name: str, per_epoch: Iterable[int], *, per_batch: int = 1
    ) -> Explanation | None:
        """Return which numbers of scheduler steps an epoch fit best; impossible ones are left."""
        np = self.np
        most = (len(self.lrs) - 1) / max(1.0, float(self.epochs.max()))
        values = [k for k in per_epoch if 1 <= k <= most]
        k = np.array(values, dtype=np.int64)[:, None]
        begun = np.rint(k * (self.epochs - 1)).astype(np.int64)
        done = np.rint(k * self.epochs).astype(np.int64)
        return self.best(name, values, self.moments(begun, done, per_batch=per_batch))
