"""What is wrong with a OneCycleLR call, read from the call alone, before anything is trained."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from trainers.calls.advice import (
    LEAST_PHASE,
    LOW_END,
    ROUNDING,
    as_taken,
    has_room,
    meant_end,
    reshaped,
    up,
    written,
)
from trainers.calls.pitfalls import BY_NAME, Pitfall
from trainers.calls.schedule import Schedule, Steps, rate_at
from trainers.errors import ScheduleError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

# docs/pitfalls.md, "sound in closed form": from here on a warm-up is smooth, and not looked at.
_FEW_STEPS, _FEW_WARM_UP_STEPS = 50, 10
# A rate that grows by half from one step to the next is a leap that a loss shows.
_LEAP = 1.5
# Less of max_lr is not what was tuned; a whole number of warm-up steps reaches it exactly.
_PEAK_REACHED = 0.99
# Of max_lr: a cycle that ends higher has not annealed; torch's defaults end at 1 / 250,000.
_HIGH_END = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A pitfall that a call has stepped into: the number that shows it, what to write instead."""

    severity: Severity
    pitfall: Pitfall
    number: str
    instead: str

    def line(self) -> str:
        """Return everything on one line."""
        return (
            f"{self.severity}: {self.pitfall.name}: {self.pitfall.what}: {self.number}. "
            f"{self.pitfall.why} {self.instead}."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A schedule with what is known around it.

    `optimizer_lrs` are the rates of the optimizer's param groups before the scheduler was made,
    `optimizer_momentum` its momentum (Adam: beta1); nothing is said of what is not given. Raises
    ScheduleError for what no optimizer of torch takes.
    """

    schedule: Schedule
    steps: Steps | None = None
    optimizer_lrs: tuple[float, ...] = ()
    optimizer_momentum: float | None = None

    def __post_init__(self) -> None:
        for lr in self.optimizer_lrs:
            if not 0 <= lr < math.inf:
                raise ScheduleError(f"the optimizer's lr must be a number from 0 up, got {lr:g}")
        momentum = self.optimizer_momentum
        if momentum is not None and not 0 <= momentum < 1:
            raise ScheduleError(f"the optimizer's momentum must lie in [0, 1), got {momentum:g}")


def lint(call: Call) -> list[Finding]:
    """Return what is wrong with a call, the worst first; nothing for a sound one.

    Costs no more than a few rates in closed form, and no torch.
    """
    findings = [finding for check in _SHAPE_CHECKS for finding in check(call)]
    if not any(finding.severity == "error" for finding in findings):
        findings += [finding for check in _CURVE_CHECKS for finding in check(call)]
    findings += [finding for check in _SURROUNDING_CHECKS for finding in check(call)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def errors(call: Call) -> list[Finding]:
    """Return the findings that spoil a cycle."""
    return [finding for finding in lint(call) if finding.severity == "error"]


def _finding(severity: Severity, name: str, number: str, instead: str) -> Finding:
    return Finding(severity=severity, pitfall=BY_NAME[name], number=number, instead=instead)


def _warm_up(call: Call) -> Iterator[Finding]:
    s = call.schedule
    instead = reshaped(s, call.steps)
    least = up(LEAST_PHASE / s.total_steps)
    if has_room(s.total_steps, least, three_phase=s.three_phase):
        instead = f"{written(pct_start=least)} or more ({LEAST_PHASE} steps)"
    if not isinstance(s.pct_start, float):
        number = f"pct_start={s.pct_start!r} is no float, and torch raises ValueError"
        yield _finding("error", "warm-up-skipped", number, reshaped(s, call.steps))
    elif s.warm_up_steps == 1:
        number = f"{s.pct_start:g} x {s.total_steps:,} = 1 step, and torch divides by zero"
        yield _finding("error", "warm-up-skipped", number, instead)
    elif s.warm_up_steps < 1:
        number = (
            f"{s.pct_start:g} x {s.total_steps:,} = {s.warm_up_steps:.2g} steps, so the first "
            f"rate is {_lr(_rate(s, 0), s)} instead of max_lr/{s.div_factor:g}"
            if s.total_steps > 1
            else "total_steps=1 is no cycle"
        )
        yield _finding("error", "warm-up-skipped", number, instead)


def _anneal(call: Call) -> Iterator[Finding]:
    s = call.schedule
    left = s.total_steps - s.warm_up_steps
    if s.three_phase or left >= LEAST_PHASE - ROUNDING:
        return
    number = (
        f"{s.total_steps:,} steps less {s.warm_up_steps:.6g} of warm-up leave {left:.2g}, and "
        f"the step before the last still gets {_lr(_rate(s, s.total_steps - 2), s)}"
        if s.total_steps > 2
        else f"{s.total_steps} steps are no cycle"
    )
    yield _finding("error", "no-anneal", number, reshaped(s, call.steps))


def _third_phase(call: Call) -> Iterator[Finding]:
    s = call.schedule
    left = s.total_steps + 1 - 2 * s.warm_up_steps
    if s.three_phase and left < LEAST_PHASE - ROUNDING:
        number = (
            f"two phases of {s.warm_up_steps:.6g} steps in {s.total_steps:,} leave "
            f"{max(0.0, left):.2g}, and the last two rates are "
            f"{_lr(_rate(s, s.total_steps - 2), s)} and {_lr(_rate(s, s.total_steps - 1), s)}"
        )
        yield _finding("error", "third-phase-cut", number, reshaped(s, call.steps))


def _divisors(call: Call) -> Iterator[Finding]:
    s = call.schedule
    named = (("div_factor", s.div_factor, 25), ("final_div_factor", s.final_div_factor, 10_000))
    # one advice for both: the rate that ends the cycle depends on both
    instead = written(**{name: default for name, value, default in named if value <= 1})
    for name, value, _ in named:
        if value <= 0:
            outcome = "torch divides by zero" if value == 0 else "rates are negative"
            yield _finding("error", "divisor-below-one", f"{name}={value:g}: {outcome}", instead)
            return
    if s.div_factor <= 1:
        severity: Severity = "error" if s.div_factor < 1 else "warning"
        number = f"div_factor={s.div_factor:g} starts at {_lr(s.first_lr, s)}"
        yield _finding(severity, "divisor-below-one", number, instead)
    if s.final_div_factor <= 1:
        severity = "error" if s.final_div_factor * s.div_factor < 1 else "warning"
        number = (
            f"final_div_factor={s.final_div_factor:g} ends at {_lr(s.last_lr, s)}, not below the "
            f"first rate"
        )
        yield _finding(severity, "divisor-below-one", number, instead)


def _end(call: Call) -> Iterator[Finding]:
    s = call.schedule
    share = s.last_lr / s.max_lr
    if share > _HIGH_END and s.final_div_factor > 1:
        number = f"the last rate is {_lr(s.last_lr, s)}"
        instead = f"{written(final_div_factor=max(2, round(1e4 / s.div_factor)))} or more"
        yield _finding("warning", "last-rate-misread", number, instead)
    elif share < LOW_END * (1 - ROUNDING):
        number = (
            f"the last rate is {s.last_lr:.3g} = max_lr / {1 / share:,.0f}, not max_lr / "
            f"{s.final_div_factor:,.6g}"
        )
        yield _finding("note", "last-rate-misread", number, meant_end(s))


def _peak(call: Call) -> Iterator[Finding]:
    s = call.schedule
    below = math.floor(s.warm_up_steps - 1)
    top = max(rate_at(s, step) for step in (below, below + 1) if 0 <= step < s.total_steps)
    if top < _PEAK_REACHED * s.max_lr:
        number = f"{s.pct_start:g} x {s.total_steps:,} = {s.warm_up_steps:.4g} steps, and the "
        number += f"highest rate is {_lr(top, s)}"
        for steps in (round(s.warm_up_steps), math.floor(s.warm_up_steps), LEAST_PHASE):
            nearest = float(f"{steps / s.total_steps:.12g}")
            if has_room(s.total_steps, nearest, three_phase=s.three_phase):
                instead = f"{written(pct_start=nearest)}, a whole number of steps"
                break
        else:
            instead = reshaped(s, call.steps)
        yield _finding("warning", "peak-missed", number, instead)


def _leap(call: Call) -> Iterator[Finding]:
    s = call.schedule
    if s.total_steps >= _FEW_STEPS and s.warm_up_steps >= _FEW_WARM_UP_STEPS:
        return
    rising = [rate_at(s, step) for step in range(max(2, math.floor(s.warm_up_steps)))]
    leap = max(after / before for before, after in pairwise(rising))
    if leap > _LEAP:
        number = (
            f"{s.warm_up_steps:.3g} of {s.total_steps:,} steps warm up, and the rate grows up to "
            f"{leap:.1f}-fold in one"
        )
        yield _finding("note", "short-warm-up", number, "Train longer, or raise pct_start")


def _taken(call: Call) -> Iterator[Finding]:
    s, steps = call.schedule, call.steps
    if steps is None or steps.taken is None or steps.taken == s.total_steps:
        return
    taken = steps.taken
    if taken < s.total_steps:
        number = (
            f"{taken:,} of {s.total_steps:,} are taken, the last at {_lr(_rate(s, taken - 1), s)} "
            f"instead of {s.last_lr:.3g}"
        )
        yield _finding("error", "total-steps-too-big", number, as_taken(s, steps, taken))
    else:
        number = f"{taken:,} are taken of {s.total_steps:,}, and torch raises after step "
        number += f"{s.total_steps + 1:,}"
        yield _finding("error", "total-steps-too-small", number, as_taken(s, steps, taken))


def _batch_size(call: Call) -> Iterator[Finding]:
    steps = call.steps
    if steps is None or steps.steps_per_epoch is None:
        return
    if steps.total_steps is not None or steps.dataset_size is not None:
        return
    n = steps.steps_per_epoch
    if n == steps.batch_size or looks_like_a_batch_size(n):
        number = f"steps_per_epoch={n} looks like one"
        instead = (
            f"Write steps_per_epoch=len(train_loader); 50,000 images in batches of {n} would be "
            f"{math.ceil(50_000 / n):,}"
        )
        yield _finding("note", "batch-size-as-steps", number, instead)


def looks_like_a_batch_size(steps_per_epoch: int) -> bool:
    """Whether a number is a power of two as people choose them for batches: 16 to 4,096."""
    return 16 <= steps_per_epoch <= 4096 and steps_per_epoch & (steps_per_epoch - 1) == 0


def _optimizer_lr(call: Call) -> Iterator[Finding]:
    s, lrs = call.schedule, call.optimizer_lrs
    if len(set(lrs)) > 1:
        number = f"{' and '.join(f'{lr:g}' for lr in lrs)} all become {_lr(s.first_lr, s)}"
        instead = "Write max_lr as a list, one for each param group"
        yield _finding("warning", "optimizer-lr-overwritten", number, instead)
    elif lrs and not any(
        math.isclose(lrs[0], used, rel_tol=1e-9) for used in (s.max_lr, s.first_lr)
    ):
        number = f"lr={lrs[0]:g} becomes {_lr(s.first_lr, s)}, and max_lr={s.max_lr:g} is the peak"
        instead = "Put the rate that you mean into max_lr; the optimizer's lr may be anything"
        yield _finding("note", "optimizer-lr-overwritten", number, instead)


def _momentum(call: Call) -> Iterator[Finding]:
    s, momentum = call.schedule, call.optimizer_momentum
    if momentum is None or not s.cycle_momentum or math.isclose(momentum, s.max_momentum):
        return
    number = f"{momentum:g} becomes {s.max_momentum:g}, and {s.base_momentum:g} at the peak"
    if momentum == 0:
        instead = "Write cycle_momentum=False to keep it off"
        yield _finding("warning", "momentum-overwritten", number, instead)
    else:
        kept: dict[str, float] = {"max_momentum": momentum}
        if s.base_momentum >= momentum:  # the distance of torch's defaults, 0.95 and 0.85
            kept["base_momentum"] = max(0.0, round(momentum - 0.1, 6))
        instead = f"{written(**kept)}, or cycle_momentum=False"
        yield _finding("note", "momentum-overwritten", number, instead)


_Check = Callable[[Call], Iterator[Finding]]
_SHAPE_CHECKS: tuple[_Check, ...] = (_divisors, _warm_up, _anneal, _third_phase)
_CURVE_CHECKS: tuple[_Check, ...] = (_end, _peak, _leap)
_SURROUNDING_CHECKS: tuple[_Check, ...] = (_taken, _batch_size, _optimizer_lr, _momentum)


def _rate(schedule: Schedule, step: int) -> float:
    """Return the rate of a step, not a number where torch divides by zero."""
    try:
        return rate_at(schedule, step)
    except ZeroDivisionError:
        return math.nan


def _lr(lr: float, schedule: Schedule) -> str:
    return f"{lr:.3g} ({lr / schedule.max_lr:.3g} max_lr)"
