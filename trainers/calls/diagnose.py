"""Printed rates and the call that made them -> which mistakes explain the digits."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.calls.diagnosis import NOT_A_NUMBER, Diagnosis
from trainers.calls.fits import SLACK, Explanation, Fits
from trainers.calls.logs import Log
from trainers.calls.mistakes import ORDER, mistakes, the_plan
from trainers.calls.placed import Way, ways
from trainers.calls.placings import Whole
from trainers.calls.rates import rates_of
from trainers.calls.remarks import remarks
from trainers.calls.schedule import Schedule, Steps
from trainers.errors import ScheduleError, UserError


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
        return replace(found, remarks=tuple(remarks(found)))


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
