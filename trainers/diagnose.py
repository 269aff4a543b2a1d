"""Printed rates and the call that made them -> which mistakes explain the digits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trainers.errors import ScheduleError
from trainers.lint import looks_like_a_batch_size
from trainers.logs import Log, Reading
from trainers.schedule import Anneal, Schedule, Steps, preview, rate_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAN = "follows-the-plan"
_FEW = 9
"""So many calls of scheduler.step() an epoch are still 'a few', not a loader's batches."""
_MOST_ACCUMULATED = 64
_MOST_READINGS = 2_000
_MOST_TRIED_STEPS = 2_000
_SLACK = 1e-9  # relative: torch's rounding, where a log prints all digits


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

    Raises ScheduleError for a call without epochs, or a log that is longer than the call.
    """
    if steps.epochs is None or steps.per_epoch is None:
        raise ScheduleError("a log by epochs needs epochs beside total_steps")
    seen = preview(schedule)
    lrs = (*seen.lrs, *([] if seen.after is None else [seen.after]))
    fits = _Fits(lrs, log.readings)
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


class _Fits:
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
        room = np.array([reading.half for reading in kept]) + _SLACK * np.abs(printed)
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


def _by_steps_an_epoch(fits: _Fits, steps: Steps, planned: int) -> list[Explanation]:
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
                f"steps_per_epoch={planned} is wrong: an epoch has {_listed(v)} steps"
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


def _by_shift(fits: _Fits, planned: int) -> list[Explanation]:
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


def _by_restart(fits: _Fits, planned: int) -> list[Explanation]:
    """A cycle begun again, or a resumed run whose optimizer was new."""
    np, epochs = fits.np, fits.epochs
    last = math.ceil(epochs.max())
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


def _said(found: Explanation | None, what: Any, instead: str) -> Explanation | None:
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
    return abs(lr - reading.lr) <= reading.half + _SLACK * reading.lr


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
