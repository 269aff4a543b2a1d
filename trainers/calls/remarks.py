"""What else would have to be so, and what the numbers of a call look like, in words."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from trainers.calls.diagnosis import Diagnosis
from trainers.calls.fits import SLACK
from trainers.calls.lint import looks_like_a_batch_size
from trainers.calls.logs import Log
from trainers.calls.mistakes import listed
from trainers.calls.placings import Whole
from trainers.calls.schedule import Anneal, Schedule, rate_at

_MOST_TRIED_STEPS = 2_000


def remarks(found: Diagnosis) -> Iterable[str]:
    """Say what else would have to be so, and what the numbers of the call look like."""
    steps, planned = found.steps, found.steps.per_epoch
    assert planned is not None
    log = found.log
    if log.epochs is not None and log.epochs != steps.epochs:
        yield f"The log counts {log.epochs:,} epochs, the call {steps.epochs:,}"
    if log.steps is not None and log.steps not in (steps.planned, steps.epochs):
        yield f"The log counts {log.steps:,} steps, the call {steps.planned:,}"
    if found.not_finite and not found.fits_plan:
        yield from found.not_finite
    if found.fits_plan:
        return
    few = next((e for e in found.equals if e.name == "stepped-per-epoch"), None)
    if few is not None and 1 not in few.values and isinstance(found.placing, Whole):
        yield _once_per_epoch(found, found.placing.epoch)
    if steps.loader_steps is not None and steps.loader_steps != planned:
        size = ", the size of a batch" if planned == steps.batch_size else ""
        counted = steps.explained_epoch()
        yield f"Your data make another number of steps: {counted}, not {planned:,}{size}"
    elif planned == steps.batch_size or looks_like_a_batch_size(planned):
        yield (
            f"{planned} looks like a batch size, not a number of batches: 50,000 images / "
            f"{planned} = {math.ceil(50_000 / planned):,} steps"
        )


def _once_per_epoch(found: Diagnosis, epoch: NDArray[Any]) -> str:
    """Say under which other arguments one call an epoch would print these digits."""
    schedule, steps = found.schedule, found.steps
    assert steps.epochs is not None
    printed = found.log, [int(number) for number in epoch]
    possible = []
    other: Anneal = "linear" if schedule.anneal_strategy == "cos" else "cos"
    if _once(*printed, replace(schedule, anneal_strategy=other)):
        possible.append(f'anneal_strategy="{other}"')
    if steps.total_steps is None:
        most = min(_MOST_TRIED_STEPS, 4 * (steps.per_epoch or 1))
        tried = [replace(schedule, total_steps=steps.epochs * k) for k in range(1, most + 1)]
        values = tuple(k for k, plan in enumerate(tried, 1) if _once(*printed, plan))
        if values:
            possible.append(f"steps_per_epoch={listed(values)}")
    if not possible:
        return "Once an epoch does not fit, under no other anneal_strategy or steps_per_epoch"
    return f"Once an epoch fits only under {' or '.join(possible)}"


def _once(log: Log, epochs: Sequence[int], schedule: Schedule) -> bool:
    """Whether one scheduler step an epoch gives every reading, the last one looked at first."""
    printed = list(zip(log.lr.tolist(), log.half.tolist(), epochs, strict=True))[::-1]
    return any(
        all(_prints(schedule, lr, half, epoch - before) for lr, half, epoch in printed)
        for before in (0, 1)
    )


def _prints(schedule: Schedule, printed: float, half: float, step: int) -> bool:
    if not 0 <= step <= schedule.total_steps:
        return False
    try:
        lr = rate_at(schedule, step)
    except ZeroDivisionError:
        return False
    return abs(lr - printed) <= half + SLACK * abs(printed)
