"""Every rate of a OneCycleLR call as numbers, quick for long cycles, too."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.calls.schedule import Schedule, preview, rate_at

_STEPPED = 20_000
"""Steps up to which torch's class is really stepped: some 0.2 s."""


def rates_of(schedule: Schedule) -> NDArray[Any]:
    """Return the rate of each scheduler step from 0 to `total_steps`, which torch accepts once.

    Long cycles come from the closed form that is held to torch in the tests. Raises ScheduleError
    for a call that torch refuses.
    """
    total = schedule.total_steps
    if total > _STEPPED:
        try:
            ends = [rate_at(schedule, step) for step in (0, *_edges(schedule), total)]
        except ZeroDivisionError:
            ends = []
        if ends:
            return _closed(schedule)
    seen = preview(schedule)
    return np.array([*seen.lrs, *([] if seen.after is None else [seen.after])])


def _edges(schedule: Schedule) -> list[int]:
    """Return the last steps of the phases, whole or not, and those after them."""
    up = int(schedule.warm_up_steps)
    down = int(2 * schedule.warm_up_steps)
    near = [edge + more for edge in (up, down) for more in (-3, -2, -1, 0, 1)]
    return [step for step in near if 0 <= step <= schedule.total_steps]


def _closed(schedule: Schedule) -> NDArray[Any]:
    """Return rate_at of every step, the arithmetic of OneCycleLR.get_lr."""
    first, top, last = schedule.first_lr, schedule.max_lr, schedule.last_lr
    total = schedule.total_steps
    phases = [(float(schedule.warm_up_steps) - 1, first, top)]
    if schedule.three_phase:
        phases.append((2 * float(schedule.warm_up_steps) - 2, top, first))
    phases.append((float(total - 1), phases[-1][2], last))
    steps = np.arange(total + 1, dtype=float)
    rates, begin, done = np.empty(total + 1), 0.0, 0
    for number, (end, start_lr, end_lr) in enumerate(phases):
        until = total + 1 if number == len(phases) - 1 else max(done, int(np.floor(end)) + 1)
        if until > done:
            share = (steps[done:until] - begin) / (end - begin)
            if schedule.anneal_strategy == "linear":
                rates[done:until] = (end_lr - start_lr) * share + start_lr
            else:
                wave = np.cos(np.pi * share) + 1
                rates[done:until] = end_lr + (start_lr - end_lr) / 2.0 * wave
        begin, done = end, until
    return rates
