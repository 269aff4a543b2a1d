"""A log and the call's epochs -> the ways to place its rates, the likeliest first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.calls.logs import Log
from trainers.calls.placings import Placing, Whole
from trainers.calls.schedule import Steps
from trainers.calls.within import Batch, Fraction, Step

_ROOM = 0.6
"""Steps around a place that is told as a share of the epoch: 6,400 of 50,000 images."""
_ENOUGH = 3
"""So many epochs tell that the first one is 0 and its line is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """The rates of a log with their places.

    `plan_only`: places that the log does not say in so many words; no mistake is read from them.
    `instead_of_steps`: few, consecutive step numbers read as those of epochs.
    """

    log: Log
    placing: Placing
    plan_only: bool = False
    instead_of_steps: bool = False


def ways(log: Log, steps: Steps) -> list[Way]:
    """Return every way to place the rates that the log's own numbers allow.

    Two ways may differ by a convention alone: epochs from 0 or from 1, batches or images.
    """
    epochs, planned = steps.epochs, steps.per_epoch
    assert epochs is not None
    assert planned is not None
    if log.each is not None:
        return [Way(log=log, placing=p, plan_only=True) for p in _by_spread(log, planned)]
    found: list[Way] = []
    if log.unit == "epoch":
        found += [Way(log=log, placing=p) for p in _by_epoch(log.epoch, epochs)]
    elif log.unit == "fraction":
        found += [Way(log=log, placing=p) for p in _by_fraction(log, epochs)]
    elif log.unit == "batch":
        found += [Way(log=log, placing=p) for p in _by_batch(log, epochs, planned)]
    elif log.unit == "step":
        found += _by_step(log, steps, epochs, planned)
    else:
        found += [Way(log=log, placing=p) for p in _by_count(log, epochs, planned)]
    for other in log.alternates:
        if log.epochs_counted and log.batches == planned:
            continue  # batches of each epoch, not runs of the whole training
        first = log.unit == "epoch"
        more = ways(other, steps)
        found += [Way(log=w.log, placing=w.placing, plan_only=first or w.plan_only) for w in more]
    return found


def _bases(first: float, last: float, n: int, epochs: int) -> tuple[int, ...]:
    """Return what epochs may be counted from, the likelier first."""
    if first < 1:
        return (0,)
    if last >= epochs or (first == 1 and n < _ENOUGH):
        return (1,)
    return (1, 0)


def _by_epoch(epoch: NDArray[Any], epochs: int) -> Iterator[Placing]:
    for base in _bases(epoch.min(), epoch.max(), len(epoch), epochs):
        place = epoch - base + 1
        yield Whole(
            what=f"{_range('epoch', epoch)}, counted from {base}",
            epochs_done=place,
            epoch=place,
            printed=epoch,
        )


def _by_fraction(log: Log, epochs: int) -> Iterator[Placing]:
    for base in (0, 1) if log.epoch.min() >= 1 else (0,):
        x = log.epoch - base
        what = f"{_range('epoch', log.epoch)}, fractions, rounded to {2 * log.epoch_half.max():g}"
        if base:
            what += ", counted from 1"
        yield Fraction(what=what, epochs_done=x, x=x, half=log.epoch_half)


def _by_batch(log: Log, epochs: int, planned: int) -> Iterator[Placing]:
    of = log.batches
    offsets = _offsets(log.batch, of)
    for base in _bases(log.epoch.min(), log.epoch.max(), len(log.lr), epochs):
        done = log.epoch - base
        counted = " (counted where the batches begin again)" if log.epochs_counted else ""
        what = f"{_range('epoch', log.epoch)}, counted from {base}{counted}, and the batch in it"
        if of is not None:
            what += f", of {of:,}"
        yield Batch(
            what=what,
            epochs_done=done + log.batch / (of or planned),
            offsets=offsets,
            length=of,
            epoch=done,
            batch=log.batch,
            base=base,
        )
        if of is not None and abs(of - planned) == 1:
            yield Batch(
                what=f"{what}, taken for the number of the last one",
                epochs_done=done + log.batch / planned,
                offsets=offsets,
                length=planned,
                epoch=done,
                batch=log.batch,
                base=base,
            )
        if of is not None and of > planned + 1:
            x = done + log.batch / of
            yield Fraction(
                what=f"{what}, which counts batches or samples, not steps",
                epochs_done=x,
                x=x,
                half=np.zeros(len(x)),
                room=_ROOM,
            )


def _by_spread(log: Log, planned: int) -> Iterator[Placing]:
    """Each epoch has as many rates without a batch number: printed every so many batches."""
    assert log.each is not None
    base = 0 if log.epoch.min() == 0 else 1
    done = log.epoch - base
    for every in range(max(1, planned // (log.each + 1)), planned // (log.each - 1) + 1):
        for begin in (0, 1):
            batch = (log.batch + begin) * every
            n = len(range(0, planned, every)) if begin == 0 else planned // every
            if n != log.each:
                continue
            yield Batch(
                what=f"{_range('epoch', log.epoch)}, {log.each} rates in each: every {every:,} "
                f"batches from {'the first' if begin == 0 else f'batch {every:,}'} (no batch "
                "numbers in the log)",
                epochs_done=done + batch / planned,
                offsets=(0, 1) if begin == 0 else (-1, 0),
                length=planned,
                epoch=done,
                batch=batch,
                base=base,
            )


def _by_step(log: Log, steps: Steps, epochs: int, planned: int) -> Iterator[Way]:
    step, total = log.step, steps.planned
    alone = np.isnan(log.epoch).any()
    first, last = float(step.min()), float(step.max())
    consecutive = bool((np.diff(step) == 1).all()) and first <= 1
    as_epochs = alone and len(step) > 1 and consecutive and len(step) <= epochs < total
    if log.steps is not None and log.steps != epochs:
        as_epochs = False
    if as_epochs:
        for placing in _by_epoch(step, epochs):
            yield Way(log=log, placing=placing, instead_of_steps=log.steps is None)
        if log.steps is not None:
            return
    what = _range("step", step) + ("" if log.steps is None else f" of {log.steps:,}")
    offsets = _offsets(step, log.steps if log.steps == total else total)
    whole = not alone and bool((log.epoch == np.rint(log.epoch)).all())
    for low, high in _epochs_of(log, whole) if not alone else ((None, None),):
        placing = Step(
            what=what,
            epochs_done=step / planned,
            offsets=offsets,
            step=step,
            epoch=low,
            epoch_high=high,
        )
        if low is None or len(placing.lengths(10**9)):
            yield Way(log=log, placing=placing)
            break
    else:
        what += ", which do not fit the epochs of the same lines"
        yield Way(
            log=log,
            placing=Step(what=what, epochs_done=step / planned, offsets=offsets, step=step),
        )
    each = max(steps.accumulate, -(-int(last) // (total + 1)))
    for more in (-1, 0, 1) if each > 1 else ():
        counted = (step + more) // each
        yield Way(
            log=log,
            placing=Step(
                what=f"{what}, which count batches, {each} to a step",
                epochs_done=counted / planned,
                offsets=(0,),
                step=counted,
            ),
        )
    if not alone:
        if whole and len(np.unique(log.epoch)) == len(log.epoch):
            for placing in _by_epoch(log.epoch, epochs):
                yield Way(log=log, placing=placing)
        elif not whole:
            for placing in _by_fraction(log, epochs):
                yield Way(log=log, placing=placing)


def _epochs_of(log: Log, whole: bool) -> Iterator[tuple[NDArray[Any] | None, NDArray[Any] | None]]:
    """Yield lowest and highest epochs done that a step's line says."""
    if not whole:
        yield np.maximum(log.epoch - log.epoch_half, 0), log.epoch + log.epoch_half
        return
    for base in (0,) if log.epoch.min() < 1 else (1, 0):
        yield log.epoch - base, log.epoch - base + 1


def _by_count(log: Log, epochs: int, planned: int) -> Iterator[Placing]:
    order = np.arange(len(log.lr), dtype=float)
    if len(order) <= epochs + 1:
        yield Whole(
            what="no epoch or step in the log: its rates were counted, one an epoch",
            epochs_done=order + 1,
            epoch=order + 1,
            printed=order + 1,
        )
        return
    yield Step(
        what="no epoch or step in the log: its rates were counted, one a step",
        epochs_done=order / planned,
        offsets=(0, 1),
        step=order,
        counted=True,
    )


def _offsets(place: NDArray[Any], of: int | None) -> tuple[int, ...]:
    """Return how far a printed number may be from the rate's step, counted from 0."""
    from_0, from_1 = bool(place.min() == 0), of is not None and bool(place.max() >= of)
    if from_0 and from_1:
        return (-1, 0)
    return (0, 1) if from_0 else (-1, 0) if from_1 else (-1, 0, 1)


def _range(what: str, printed: NDArray[Any]) -> str:
    if len(printed) == 1:
        return f"{what} {printed[0]:,.12g}"
    return f"{what} {printed.min():,.12g} to {printed.max():,.12g}"
