"""Where the readings of a log stand: printed epochs, batches and steps -> scheduler steps.

Every method returns the moments at which the rate may have been printed: for each reading the
first and the last scheduler step whose rate it can be. `k` is a column of values, one a row.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FIRST = "the rate of an epoch's first step"
LAST = "the rate of an epoch's last step"
NEXT = "the rate after an epoch's last scheduler.step()"
MEAN = "the mean rate of an epoch's steps"
MEAN_NEXT = "the mean of the rates after each scheduler.step()"


@dataclass(frozen=True, slots=True)
class Moment:
    """When rates may have been printed: windows of scheduler steps, or the mean over them.

    `agrees`: whether what else the line says fits the values, None where it says no more.
    """

    name: str
    low: NDArray[Any]
    high: NDArray[Any]
    mean: bool = False
    agrees: NDArray[Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Placing:
    """One way to place all readings; `what` says it.

    `epochs_done`: the places in epochs of the call's length.
    """

    what: str
    epochs_done: NDArray[Any]

    @property
    def n(self) -> int:
        """Number of readings."""
        return len(self.epochs_done)

    def take(self, at: NDArray[Any]) -> Self:
        """Return the placing of some readings."""
        arrays = {
            field.name: getattr(self, field.name)[at]
            for field in fields(self)
            if isinstance(getattr(self, field.name), np.ndarray)
        }
        return replace(self, **arrays)

    def said(self, at: int) -> str:
        """Return the place of a reading: 'epoch 3', 'step 100'."""
        raise NotImplementedError

    def lengths(self, most: int) -> range | list[int]:
        """Return the steps an epoch that the log allows, up to `most` scheduler steps."""
        raise NotImplementedError

    def evenly(self, k: NDArray[Any]) -> list[Moment]:
        """The loop takes `k` steps an epoch and steps the scheduler after each."""
        raise NotImplementedError

    def twice(self, k: NDArray[Any]) -> list[Moment]:
        """The loop takes `k` steps an epoch and steps the scheduler twice after each."""
        raise NotImplementedError

    def by_epoch(self, times: NDArray[Any], planned: int) -> list[Moment]:
        """The scheduler is stepped a number of times an epoch."""
        raise NotImplementedError

    def accumulated(self, batches: NDArray[Any], planned: int) -> list[Moment]:
        """The scheduler is stepped once for so many batches, of which an epoch has `planned`."""
        raise NotImplementedError

    def ahead(self, planned: int) -> list[Moment]:
        """The scheduler is one step ahead."""
        raise NotImplementedError

    def restarted(self, epoch: NDArray[Any], planned: int) -> list[Moment]:
        """The cycle begins again at an epoch, counted from 1."""
        raise NotImplementedError

    def repeated(self, every: NDArray[Any], planned: int) -> list[Moment]:
        """The cycle begins again after every so many epochs."""
        raise NotImplementedError

    def is_over(self, planned: int, epochs: int) -> bool:
        """Whether no further reading of the same spacing had room before the end."""
        raise NotImplementedError


def spacing(places: NDArray[Any], alone: float) -> float:
    """Return the usual distance of the places; `alone` for a single one."""
    rises = np.diff(places)
    rises = rises[rises > 0]
    return float(np.median(rises)) if len(rises) else alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole(Placing):
    """One rate an epoch; `epoch` counts from 1."""

    epoch: NDArray[Any]
    printed: NDArray[Any]

    def said(self, at: int) -> str:
        return f"epoch {self.printed[at]:g}"

    def lengths(self, most: int) -> range:
        return range(1, int(most / max(1.0, float(self.epoch.max()) - 1)) + 1)

    def evenly(self, k: NDArray[Any]) -> list[Moment]:
        return self._of(k * (self.epoch - 1), k * self.epoch, 1)

    def twice(self, k: NDArray[Any]) -> list[Moment]:
        return self._of(2 * k * (self.epoch - 1), 2 * k * self.epoch, 2)

    def _of(self, begun: NDArray[Any], done: NDArray[Any], per_batch: int) -> list[Moment]:
        begun, done = begun.astype(np.int64), done.astype(np.int64)
        return [
            *self._points(begun, done, per_batch),
            Moment(MEAN, begun, done - 1, mean=True),
            Moment(MEAN_NEXT, begun + 1, done, mean=True),
        ]

    def _points(self, begun: NDArray[Any], done: NDArray[Any], per_batch: int) -> list[Moment]:
        last = done - per_batch
        return [Moment(LAST, last, last), Moment(NEXT, done, done), Moment(FIRST, begun, begun)]

    def by_epoch(self, times: NDArray[Any], planned: int) -> list[Moment]:
        begun, done = times * (self.epoch - 1), times * self.epoch
        return self._points(begun.astype(np.int64), done.astype(np.int64), 1)

    def accumulated(self, batches: NDArray[Any], planned: int) -> list[Moment]:
        return self.evenly(-(-planned // batches))

    def ahead(self, planned: int) -> list[Moment]:
        begun = (planned * (self.epoch - 1)).astype(np.int64) + 1
        done = (planned * self.epoch).astype(np.int64) + 1
        return [Moment("", begun, begun), Moment("", done, done)]

    def restarted(self, epoch: NDArray[Any], planned: int) -> list[Moment]:
        once = np.where(self.epoch >= epoch, self.epoch - epoch + 1, self.epoch)
        return self._of(planned * (once - 1), planned * once, 1)

    def repeated(self, every: NDArray[Any], planned: int) -> list[Moment]:
        again = (self.epoch - 1) % every + 1
        return self._of(planned * (again - 1), planned * again, 1)

    def resumed(self, epoch: NDArray[Any], planned: int) -> list[Moment]:
        """An epoch began at the first rate: resumed without the optimizer's state."""
        begun = planned * (self.epoch - 1)
        first = np.where(self.epoch == epoch, 0, begun).astype(np.int64)
        return [Moment(FIRST, first, first)]

    def is_over(self, planned: int, epochs: int) -> bool:
        return float(self.epoch[-1]) + max(1.0, spacing(self.epoch, 1)) > epochs
