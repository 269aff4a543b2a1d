"""Readings within epochs: parts of an epoch, batches, steps -> scheduler steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.calls.placings import Moment, Placing, spacing

_OFFSETS = {
    -1: "the rate that the numbered step used, steps numbered from 1",
    0: "the rate after scheduler.step(), steps numbered from 1, or the step's own, from 0",
    1: "the rate after scheduler.step(), steps numbered from 0",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Within(Placing):
    """Rates within epochs; `offsets` are what the printed number may be away from the rate's step.

    `length`: the steps of an epoch that the log itself says, if it does.
    """

    offsets: tuple[int, ...] = (-1, 0, 1)
    length: int | None = None

    def done(self, k: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the place, first and last, in steps of the training if an epoch has `k`."""
        raise NotImplementedError

    def agrees(self, k: NDArray[Any]) -> NDArray[Any] | None:
        """Return whether what else the lines say allows `k` steps an epoch."""
        return None

    def begun(self, place: NDArray[Any], planned: int) -> NDArray[Any]:
        """Return how many whole epochs came before a place."""
        return np.asarray(place // planned)

    def lengths(self, most: int) -> range | list[int]:
        if self.length is not None:
            return [self.length]
        last = max(float(self.epochs_done.max()), 1e-9)
        return range(1, int(min(most / last, most)) + 1)

    def _of(
        self,
        k: int | NDArray[Any],
        step: Callable[[NDArray[Any], int], NDArray[Any]],
        *,
        named: bool = False,
        agrees: NDArray[Any] | None = None,
    ) -> list[Moment]:
        """Return a moment for each offset; `step` tells the scheduler's step at a place."""
        low, high = self.done(np.array([[k]]) if isinstance(k, int) else k)
        return [
            Moment(
                _OFFSETS[offset] if named else "",
                step(low, offset).astype(np.int64),
                step(high, offset).astype(np.int64),
                agrees=agrees,
            )
            for offset in self.offsets
        ]

    def evenly(self, k: NDArray[Any]) -> list[Moment]:
        return self._of(
            k,
            lambda place, offset: np.where(place + offset == -1, 0, place + offset),
            named=True,
            agrees=self.agrees(k),
        )

    def twice(self, k: NDArray[Any]) -> list[Moment]:
        return [
            moment
            for more in (0, -1)
            for moment in self._of(k, lambda place, offset, m=more: 2 * (place + offset) + m)  # type: ignore[misc]
        ]

    def by_epoch(self, times: NDArray[Any], planned: int) -> list[Moment]:
        length = self.length or planned
        return [
            moment
            for more in (0, 1)
            for moment in self._of(
                length,
                lambda place, offset, m=more: (  # type: ignore[misc]
                    times * (self.begun(np.maximum(place + offset, 0), length) + m)
                ),
            )
        ]

    def accumulated(self, batches: NDArray[Any], planned: int) -> list[Moment]:
        length = self.length or planned
        through = self._of(length, lambda place, offset: np.maximum(place + offset, 0) // batches)
        by_epoch = [
            moment
            for each in (-(-length // batches), np.maximum(length // batches, 1))
            for moment in self._of(
                length,
                lambda place, offset, steps=each: (  # type: ignore[misc]
                    np.maximum(place + offset, 0) // length * steps
                    + np.minimum(np.maximum(place + offset, 0) % length // batches, steps)
                ),
            )
        ]
        return [*through, *by_epoch]

    def ahead(self, planned: int) -> list[Moment]:
        return self._of(planned, lambda place, _: place + max(self.offsets) + 1)

    def restarted(self, epoch: NDArray[Any], planned: int) -> list[Moment]:
        begin = (epoch - 1) * planned
        return [  # the rate after an epoch's last step is still that of the first cycle
            moment
            for kept in (0, 1)
            for moment in self._of(
                planned,
                lambda place, offset, k=kept: (  # type: ignore[misc]
                    place + offset - np.where(place + offset >= begin + k, begin, 0)
                ),
            )
        ]

    def repeated(self, every: NDArray[Any], planned: int) -> list[Moment]:
        return self._of(planned, lambda place, offset: (place + offset) % (every * planned))

    def is_over(self, planned: int, epochs: int) -> bool:
        places, _ = self.done(np.array([[planned]]))
        place = np.ravel(places)
        from_1 = 1 not in self.offsets
        return float(place[-1]) + spacing(place, planned) > planned * epochs - (not from_1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fraction(Within):
    """Places in epochs, `x` of them done, rounded by up to `half`."""

    x: NDArray[Any]
    half: NDArray[Any]
    room: float = 0.0

    def said(self, at: int) -> str:
        return f"epoch {self.x[at]:g}"

    def done(self, k: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        middle, room = self.x * k, self.half * k + self.room + 1e-6
        low, high = np.ceil(middle - room), np.floor(middle + room)
        between = low > high
        low, high = np.where(between, high, low), np.where(between, low, high)
        return low.astype(np.int64), high.astype(np.int64)

    def accumulated(self, batches: NDArray[Any], planned: int) -> list[Moment]:
        evenly = self.evenly(-(-planned // batches))
        return [*evenly, *Within.accumulated(self, batches, planned)]

    def is_over(self, planned: int, epochs: int) -> bool:
        room = 2 * float(self.half.max()) + 1 / planned
        return float(self.x[-1]) + spacing(self.x, 1) + room > epochs


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch(Within):
    """A batch within an epoch; `epoch` counts those that came before."""

    epoch: NDArray[Any]
    batch: NDArray[Any]
    base: int = 1

    def said(self, at: int) -> str:
        return f"epoch {self.epoch[at] + self.base:g}, batch {self.batch[at]:g}"

    def done(self, k: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        place = (self.epoch * k + self.batch).astype(np.int64)
        return place, place

    def agrees(self, k: NDArray[Any]) -> NDArray[Any] | None:
        if self.length is None:
            return np.asarray(self.batch <= k)
        return np.broadcast_to(k == self.length, (*k.shape[:-1], self.n))

    def begun(self, place: NDArray[Any], planned: int) -> NDArray[Any]:
        if self.length is None:
            return np.broadcast_to(self.epoch, place.shape)
        return np.asarray(place // self.length)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(Within):
    """Steps of the whole training; where the lines say an epoch, too, it has to agree.

    `epoch` to `epoch_high` are the epochs that the line allows to be done; `counted`: the log has
    no numbers, its rates were counted.
    """

    step: NDArray[Any]
    epoch: NDArray[Any] | None = None
    epoch_high: NDArray[Any] | None = None
    counted: bool = False

    def said(self, at: int) -> str:
        return f"step {self.step[at]:g}"

    def done(self, k: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        place = self.step.astype(np.int64)[None, :]
        return place, place

    def agrees(self, k: NDArray[Any]) -> NDArray[Any] | None:
        if self.epoch is None or self.epoch_high is None:
            return None
        step = self.step
        return np.asarray((step + 1.5 >= self.epoch * k) & (step - 1.5 <= self.epoch_high * k))

    def every(self, k: NDArray[Any]) -> list[Moment]:
        """A rate was printed every `k` steps."""
        return [
            Moment("", *(2 * [(k * (self.step + more) + offset).astype(np.int64)]))
            for more in (0, 1)
            for offset in (0, -1)
        ]

    def by_epoch(self, times: NDArray[Any], planned: int) -> list[Moment]:
        by_place = Within.by_epoch(self, times, planned)
        if self.epoch is None:
            return by_place
        done = np.floor(self.epoch + 1e-9)
        by_number = [(times * (done + more)).astype(np.int64) for more in (0, 1)]
        return [*by_place, *(Moment("", steps, steps) for steps in by_number)]

    def lengths(self, most: int) -> range | list[int]:
        if self.epoch is None or self.epoch_high is None:
            return []
        step = self.step
        later = self.epoch > 0
        low = np.ceil(((step - 1.5) / self.epoch_high).max())
        high = np.floor(((step[later] + 1.5) / self.epoch[later]).min()) if later.any() else low
        return range(max(1, int(low)), int(min(high, most)) + 1)
