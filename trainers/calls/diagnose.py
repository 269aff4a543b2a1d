"""Printed rates and the call that made them -> which mistakes explain the digits."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.calls.fits import SLACK, Explanation, Fits
from trainers.calls.lint import looks_like_a_batch_size
from trainers.calls.logs import Log
from trainers.calls.mistakes import FAR, ORDER, PLAN, UNNUMBERED, listed, mistakes, the_plan
from trainers.calls.placed import Way, ways
from trainers.calls.placings import Placing, Whole
from trainers.calls.rates import rates_of
from trainers.calls.schedule import Anneal, Schedule, Steps, rate_at
from trainers.errors import ScheduleError, UserError

SAYS_NOTHING = "says-nothing"
NOT_A_NUMBER = "not-a-number"
TRUNCATED = "truncated"
UNEXPLAINED = "unexplained"
_MOST_TRIED_STEPS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What explains a log, best first; those of `explanations` that fit all are equals.

    `log` holds the finite rates, in the places of `placing`; `others` says how each other group
    of the same lines moves, `not_finite` what was printed that is no number.
    """

    log: Log
    placing: Placing
    schedule: Schedule
    steps: Steps
    explanations: tuple[Explanation, ...]
    planned: NDArray[Any]
    is_over: bool
    others: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of printed rates that are numbers."""
        return len(self.log.lr)

    @property
    def plan(self) -> Explanation:
        """What the plan itself explains."""
        return next(e for e in self.explanations if e.name == PLAN)

    @property
    def equals(self) -> tuple[Explanation, ...]:
        """The explanations that reproduce every printed digit."""
        return tuple(e for e in self.explanations if e.n_fit == self.n)

    @property
    def not_excluded(self) -> tuple[Explanation, ...]:
        """The equals that a log has to exclude before it can be said to follow the plan."""
        per_epoch = self.steps.per_epoch or 1
        return tuple(e for e in self.equals if _is_far(e, per_epoch))

    @property
    def fits_plan(self) -> bool:
        """Whether the plan itself reproduces every printed digit."""
        return self.plan.n_fit == self.n

    @property
    def follows(self) -> bool:
        """Whether the digits are the plan's, and exclude the common mistakes."""
        return self.fits_plan and not self.not_excluded and not self.not_finite

    @property
    def verdict(self) -> str:
        """The likeliest explanation of every digit by name; 'truncated' for a plan cut short."""
        if self.fits_plan and self.not_finite:
            return NOT_A_NUMBER
        if self.follows:
            return PLAN if self.is_over else TRUNCATED
        if self.fits_plan:
            return SAYS_NOTHING
        if self.equals:
            name = self.equals[0].name
            return SAYS_NOTHING if name == UNNUMBERED else name
        return NOT_A_NUMBER if self.not_finite else UNEXPLAINED

    @property
    def truncated(self) -> bool:
        """Whether the log follows the plan and ends before it."""
        return self.verdict == TRUNCATED

    def worst(self) -> tuple[int, float]:
        """Return which reading is farthest from the plan, and the plan's rate there."""
        at = int(np.abs(self.log.lr - self.planned).argmax())
        return at, float(self.planned[at])


def _is_far(explanation: Explanation, planned: int) -> bool:
    if explanation.name == "wrong-steps-per-epoch":
        return any(k >= FAR * planned or k * FAR <= planned for k in explanation.values)
    return explanation.name in (
        "stepped-per-epoch",
        "stepped-twice",
        "accumulation-counted",
        "other-max-lr",
        "constant-rate",
    )


def diagnose(log: Log, schedule: Schedule, steps: Steps) -> Diagnosis:
    """Hold the printed digits against torch's rates under the plan and under each mistake.

    The rates of the first param group count; those of another one do where they alone follow.
    Raises ScheduleError for a call without epochs, or one that torch refuses.
    """
    if steps.epochs is None or steps.per_epoch is None:
        raise ScheduleError("a log by epochs needs epochs beside total_steps")
    rates = rates_of(schedule)
    found = _of_group(log, schedule, steps, rates)
    groups = (log, *log.others)
    if not found.follows:
        others = (_of_group(other, schedule, steps, rates) for other in log.others)
        found = next((other for other in others if other.follows), found)
    return replace(found, others=tuple(_moves(groups, found.log.group)))


def _of_group(log: Log, schedule: Schedule, steps: Steps, rates: NDArray[Any]) -> Diagnosis:
    """Diagnose the rates of one group, placed in the likeliest way that explains them."""
    tried = [_Tried(way, steps, rates) for way in ways(log, steps)]
    by_epochs = [t for t in tried if t.way.instead_of_steps]
    fitting = [t for t in tried if t.plan.n_fit == t.fits.n]
    chosen = fitting[0] if fitting else None
    if chosen is not None and chosen.is_tail:  # counted from 0 rather than cut short
        chosen = next((t for t in fitting if t.is_over), chosen)
    if chosen is not None and by_epochs and chosen not in by_epochs:
        per_epoch = next((t for t in by_epochs if t.per_epoch is not None), None)
        if per_epoch is not None and per_epoch.fits.n == steps.epochs:
            chosen = per_epoch
        elif per_epoch is not None:
            return chosen.diagnosis(schedule, also=per_epoch.per_epoch)
    if chosen is None:
        own = [t for t in tried if not t.way.plan_only]
        chosen = next((t for t in own if t.explains), own[0])
    return chosen.diagnosis(schedule)


class _Tried:
    """The finite rates of a log in one way to place them, and what explains them there."""

    def __init__(self, way: Way, steps: Steps, rates: NDArray[Any]) -> None:
        assert steps.per_epoch is not None
        finite = np.isfinite(way.log.lr)
        if not finite.any():
            raise UserError(
                f"all {len(finite)} rates in the log are nan or infinite: nothing to hold against "
                "the plan; look at the first steps, where the loss became nan"
            )
        self.way, self.steps = way, steps
        self.log = way.log if finite.all() else way.log.only(finite)
        self.placing = way.placing if finite.all() else way.placing.take(np.flatnonzero(finite))
        self.fits = Fits(rates, self.placing, self.log.lr, self.log.half)
        self.plan = the_plan(self.fits, steps.per_epoch)

    @property
    def is_tail(self) -> bool:
        """Whether the log starts in the middle, so that its first epoch does not tell the base."""
        return self.log.unit in ("epoch", "batch") and float(self.log.epoch.min()) > 1

    @property
    def is_over(self) -> bool:
        """Whether the log goes to the end of the plan."""
        assert self.steps.per_epoch is not None
        assert self.steps.epochs is not None
        return self.placing.is_over(self.steps.per_epoch, self.steps.epochs)

    @cached_property
    def mistakes(self) -> list[Explanation]:
        """Every mistake, fitting or not."""
        assert self.steps.per_epoch is not None
        found = mistakes(self.fits, self.steps, self.steps.per_epoch)
        if self.fits.n > 1 or self.plan.n_fit:
            return found
        return [e for e in found if e.name != "constant-rate"]

    @property
    def explains(self) -> bool:
        """Whether a mistake gives every digit."""
        return any(e.n_fit == self.fits.n for e in self.mistakes)

    @property
    def per_epoch(self) -> Explanation | None:
        """The scheduler stepped once or a few times an epoch, where that gives every digit."""
        full = (e for e in self.mistakes if e.n_fit == self.fits.n)
        return next((e for e in full if e.name == "stepped-per-epoch"), None)

    def diagnosis(self, schedule: Schedule, also: Explanation | None = None) -> Diagnosis:
        """Return the diagnosis; `also` explains the rates as well, in other places."""
        per_epoch = self.steps.per_epoch
        assert per_epoch is not None
        explained = [*self.mistakes, *([] if also is None else [also])]
        order = {name: number for number, name in enumerate(ORDER)}
        explained.sort(key=lambda e: (-e.n_fit, round(e.missed, 12), order[e.name]))
        found = Diagnosis(
            log=self.log,
            placing=self.placing,
            schedule=schedule,
            steps=self.steps,
            explanations=(self.plan, *explained),
            planned=_planned(self.fits, self.plan, per_epoch),
            is_over=self.is_over,
            not_finite=tuple(_not_finite(self.way)),
        )
        if found.follows:
            return found
        rest = (*_broken(found), *explained, self.plan)
        found = replace(found, explanations=rest)
        return replace(found, remarks=tuple(_remarks(found)))


def _planned(fits: Fits, plan: Explanation, per_epoch: int) -> NDArray[Any]:
    """Return the plan's rate at each reading: where an epoch ends, or at the moment that fits."""
    moments = fits.placing.evenly(np.array([[per_epoch]]))
    if isinstance(fits.placing, Whole):
        return np.ravel(fits.rates(moments[0])[1])
    moment = next((m for m in moments if m.name in plan.moment), moments[0])
    return np.ravel(fits.rates(moment)[1])


def _not_finite(way: Way) -> Iterable[str]:
    for what, which in (("nan", np.isnan(way.log.lr)), ("infinite", np.isinf(way.log.lr))):
        at = np.flatnonzero(which)
        if len(at):
            rates = "1 rate is" if len(at) == 1 else f"{len(at):,} rates are"
            yield f"{rates} {what}, first at {way.placing.said(int(at[0]))}"


def _broken(found: Diagnosis) -> Iterable[Explanation]:
    if found.not_finite and found.fits_plan:
        yield Explanation(
            name=NOT_A_NUMBER,
            n_fit=found.n,
            missed=0.0,
            values=(),
            what=f"the rates follow the plan where they are numbers; {found.not_finite[0]}",
            instead="look at what sets the rate there: no OneCycleLR call makes such a rate",
        )


def _moves(groups: Sequence[Log], name: str) -> Iterable[str]:
    """Say how the rates of each other group stand to those of the group that was taken."""
    taken = next(log for log in groups if log.group == name)
    for log in groups:
        if log.group == name:
            continue
        with np.errstate(all="ignore"):
            if len(log.lr) != len(taken.lr):
                yield f"{log.group}: {len(log.lr):,} rates, not compared"
                continue
            room = log.half + SLACK * np.abs(log.lr), taken.half + SLACK * np.abs(taken.lr)
            low = np.nanmax((log.lr - room[0]) / (taken.lr + room[1]))
            high = np.nanmin((log.lr + room[0]) / np.maximum(taken.lr - room[1], 1e-300))
        if low <= 1 <= high:
            yield f"{log.group}: the same rates, as far as the digits tell"
        elif low <= high:
            yield f"{log.group}: {(low + high) / 2:.4g} times these rates"
        else:
            yield f"{log.group}: other rates, in no fixed ratio to these"


def _remarks(found: Diagnosis) -> Iterable[str]:
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
