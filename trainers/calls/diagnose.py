"""Printed rates and the call that made them -> which mistakes explain the digits."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from trainers.calls.fits import SLACK, Explanation, Fits
from trainers.calls.lint import looks_like_a_batch_size
from trainers.calls.logs import Log, Reading
from trainers.calls.schedule import Anneal, Schedule, Steps, preview, rate_at
from trainers.errors import ScheduleError

PLAN = "follows-the-plan"
_FEW = 9
"""So many calls of scheduler.step() an epoch are still 'a few', not a loader's batches."""
_MOST_ACCUMULATED = 64
_MOST_TRIED_STEPS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What explains a log, best first; those of `explanations` that fit all are equals."""

    log: Log
    schedule: Schedule
    steps: Steps
    explanations: tuple[Explanation, ...]
    remarks: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of printed rates."""
        return len(self.log.readings)

    @property
    def equals(self) -> tuple[Explanation, ...]:
        """The explanations that reproduce every printed digit."""
        return tuple(e for e in self.explanations if e.n_fit == self.n)

    @property
    def follows(self) -> bool:
        """Whether the plan itself reproduces every printed digit."""
        return any(e.name == PLAN for e in self.equals)

    @property
    def verdict(self) -> str:
        """The likeliest explanation of every digit by name; 'truncated' for a plan cut short."""
        if self.follows:
            return "truncated" if self.truncated else PLAN
        return self.equals[0].name if self.equals else "unexplained"

    @property
    def truncated(self) -> bool:
        """Whether the log follows the plan and ends before it."""
        assert self.steps.epochs is not None
        return self.follows and self.log.last_epoch < self.steps.epochs

    def worst(self) -> tuple[Reading, float]:
        """Return the reading farthest from the plan, and the plan's rate where its epoch ends."""
        lrs, per_epoch = preview(self.schedule).lrs, self.steps.per_epoch or 1
        planned = [
            (r, lrs[min(max(round(r.epoch * per_epoch), 1), len(lrs)) - 1])
            for r in self.log.readings
        ]
        return max(planned, key=lambda pair: abs(pair[0].lr - pair[1]))


def diagnose(log: Log, schedule: Schedule, steps: Steps) -> Diagnosis:
    """Step torch under each mistake and compare with the printed digits.

    Raises ScheduleError for a call without epochs, or one that torch refuses.
    """
    if steps.epochs is None or steps.per_epoch is None:
        raise ScheduleError("a log by epochs needs epochs beside total_steps")
    seen = preview(schedule)
    lrs = (*seen.lrs, *([] if seen.after is None else [seen.after]))
    fits = Fits(lrs, log.readings)
    explanations = [
        *_by_steps_an_epoch(fits, steps, steps.per_epoch),
        *_by_shift(fits, steps.per_epoch),
        *_by_restart(fits, steps.per_epoch),
    ]
    order = {name: number for number, name in enumerate(_ORDER)}
    explanations.sort(key=lambda e: (-e.n_fit, round(e.missed, 12), order[e.name]))
    return Diagnosis(
        log=log,
        schedule=schedule,
        steps=steps,
        explanations=tuple(explanations),
        remarks=tuple(_remarks(explanations, log, schedule, steps)),
    )


_ORDER = (
    PLAN,
    "stepped-per-epoch",
    "stepped-twice",
    "wrong-steps-per-epoch",
    "accumulation-counted",
    "cycle-restarted",
    "resumed-without-state",
    "shifted-by-one",
)


def _by_steps_an_epoch(fits: Fits, steps: Steps, planned: int) -> list[Explanation]:
    """The scheduler stepped another number of times an epoch, all through the log."""
    few = range(1, min(_FEW, (planned - 1) // 2) + 1)
    accumulated = sorted({math.ceil(planned / a) for a in range(2, _MOST_ACCUMULATED + 1)})
    most = len(fits.lrs)
    others = range(len(few) + 1, most) if steps.loader_steps is None else [steps.loader_steps]
    found = (
        _said(fits.stepped(PLAN, [planned]), lambda v: "the plan", ""),
        _said(
            fits.stepped("stepped-per-epoch", few),
            lambda v: f"scheduler.step() called {_times(v)}, not once a batch ({planned:,})",
            "call scheduler.step() after every optimizer.step()",
        ),
        _said(
            fits.stepped("accumulation-counted", [k for k in accumulated if k < planned]),
            lambda v: (
                f"gradients accumulated over {_batches(v, planned)} batches, each counted "
                f"as a step: {_listed(v)} optimizer steps an epoch, not {planned:,}"
            ),
            "divide steps_per_epoch by the batches to a step",
        ),
        _said(
            fits.stepped("wrong-steps-per-epoch", [k for k in others if k != planned]),
            lambda v: (
                f"{_said_as(steps, planned)} is wrong: an epoch has {_listed(v)} steps"
                f"{_of_the_data(v, steps)}"
            ),
            "count len(train_loader) steps an epoch",
        ),
        _said(
            fits.stepped("stepped-twice", [2 * planned], per_batch=2),
            lambda v: (
                "scheduler.step() called twice a batch: torch raises at half of the training"
            ),
            "let the framework or the loop step it, not both",
        ),
    )
    return [explanation for explanation in found if explanation is not None]


def _by_shift(fits: Fits, planned: int) -> list[Explanation]:
    """The scheduler one step ahead of the optimizer."""
    np = fits.np
    begun = np.rint(planned * (fits.epochs - 1)).astype(np.int64)
    done = np.rint(planned * fits.epochs).astype(np.int64)
    ahead = [done + 1] if not fits.whole else [begun + 1, done + 1]
    found = _said(
        fits.best("shifted-by-one", [1], [moment[None, :] for moment in ahead]),
        lambda v: "the scheduler is one step ahead: stepped before the optimizer",
        "call optimizer.step() first, then scheduler.step()",
    )
    return [] if found is None else [found]


def _by_restart(fits: Fits, planned: int) -> list[Explanation]:
    """A cycle begun again, or a resumed run whose optimizer was new."""
    np, epochs = fits.np, fits.epochs
    last = min(math.ceil(epochs.max()), len(fits.lrs) // planned)
    restarts = list(range(2, last + 1))
    if not fits.whole or not restarts:
        return []
    r = np.array(restarts)[:, None]
    once = np.where(epochs >= r, epochs - r + 1, epochs).astype(np.int64)
    every = list(range(1, last))
    again = ((epochs - 1) % np.array(every)[:, None] + 1).astype(np.int64)
    resumed = [r for r in restarts if r in set(epochs.tolist())]
    first = np.where(
        epochs == np.array(resumed or [0])[:, None], 0, planned * (epochs - 1)
    ).astype(np.int64)
    found = (
        _said(
            fits.best(
                "cycle-restarted", restarts, fits.moments(planned * (once - 1), planned * once)
            ),
            lambda v: f"the cycle began again at epoch {_listed(v)}",
            "load the scheduler's and the optimizer's state when you resume",
        ),
        _said(
            fits.best(
                "cycle-restarted", every, fits.moments(planned * (again - 1), planned * again)
            ),
            lambda v: f"the cycle begins again every {_listed(v)} epochs",
            "make the scheduler once, before the loop over epochs",
        ),
        _said(
            fits.best("resumed-without-state", resumed, [first]),
            lambda v: (
                f"epoch {_listed(v)} began at the first rate: resumed without the "
                "optimizer's state"
            ),
            "load the optimizer's state after the scheduler is made",
        ),
    )
    return [explanation for explanation in found if explanation is not None]


def _said(
    found: Explanation | None, what: Callable[[Sequence[int]], str], instead: str
) -> Explanation | None:
    return None if found is None else replace(found, what=what(found.values), instead=instead)


def _remarks(
    explanations: Sequence[Explanation], log: Log, schedule: Schedule, steps: Steps
) -> Iterable[str]:
    """Say what else would have to be so, and what the numbers of the call look like."""
    n, planned = len(log.readings), steps.per_epoch
    assert planned is not None
    equals = {e.name: e for e in explanations if e.n_fit == n}
    if PLAN in equals:
        return
    few = equals.get("stepped-per-epoch")
    if few is not None and 1 not in few.values:
        yield _once_per_epoch(log, schedule, steps)
    if steps.loader_steps is not None and steps.loader_steps != planned:
        size = ", the size of a batch" if planned == steps.batch_size else ""
        counted = steps.explained_epoch()
        yield f"Your data make another number of steps: {counted}, not {planned:,}{size}"
    elif planned == steps.batch_size or looks_like_a_batch_size(planned):
        yield (
            f"{planned} looks like a batch size, not a number of batches: 50,000 images / "
            f"{planned} = {math.ceil(50_000 / planned):,} steps"
        )


def _once_per_epoch(log: Log, schedule: Schedule, steps: Steps) -> str:
    """Say under which other arguments one call an epoch would print these digits."""
    assert steps.epochs is not None
    ways = []
    other: Anneal = "linear" if schedule.anneal_strategy == "cos" else "cos"
    if _once(log, replace(schedule, anneal_strategy=other)):
        ways.append(f'anneal_strategy="{other}"')
    if steps.total_steps is None:
        most = min(_MOST_TRIED_STEPS, 4 * (steps.per_epoch or 1))
        tried = [replace(schedule, total_steps=steps.epochs * k) for k in range(1, most + 1)]
        values = tuple(k for k, plan in enumerate(tried, 1) if _once(log, plan))
        if values:
            ways.append(f"steps_per_epoch={_listed(values)}")
    if not ways:
        return "Once an epoch does not fit, under no other anneal_strategy or steps_per_epoch"
    return f"Once an epoch fits only under {' or '.join(ways)}"


def _once(log: Log, schedule: Schedule) -> bool:
    """Whether one scheduler step an epoch gives every reading, the last one looked at first."""
    return any(
        all(_prints(schedule, r, int(r.epoch) - before) for r in reversed(log.readings))
        for before in (0, 1)
    )


def _prints(schedule: Schedule, reading: Reading, step: int) -> bool:
    if not 0 <= step <= schedule.total_steps:
        return False
    try:
        lr = rate_at(schedule, step)
    except ZeroDivisionError:
        return False
    return abs(lr - reading.lr) <= reading.half + SLACK * reading.lr


def _times(values: Sequence[int]) -> str:
    if tuple(values) == (1,):
        return "once an epoch"
    phases = "once a phase: train, validate, test"
    return f"{_listed(values)} times an epoch" + (f" ({phases}?)" if {2, 3} & set(values) else "")


def _batches(values: Sequence[int], planned: int) -> str:
    return _listed(
        [a for a in range(2, _MOST_ACCUMULATED + 1) if math.ceil(planned / a) in set(values)]
    )


def _said_as(steps: Steps, planned: int) -> str:
    if steps.total_steps is not None:
        return f"total_steps={steps.total_steps} ({planned:,} an epoch)"
    return f"steps_per_epoch={planned}"


def _of_the_data(values: Sequence[int], steps: Steps) -> str:
    if steps.loader_steps in values:
        return f" (your data: {steps.explained_epoch()})"
    return ""


def _listed(values: Sequence[int]) -> str:
    """Return numbers as runs: '3 to 5', '2, 4 or 8', shortened where there are many."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [f"{r[0]:,}" if len(r) == 1 else f"{r[0]:,} to {r[-1]:,}" for r in runs]
    if len(texts) > 4:
        texts = [*texts[:3], f"others up to {max(values):,}"]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"
