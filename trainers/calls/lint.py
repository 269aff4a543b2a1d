"""What is wrong with a OneCycleLR call, read from the call alone, before anything is trained."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from trainers.calls.pitfalls import BY_NAME, Pitfall
from trainers.calls.schedule import Schedule, Steps, rate_at

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

_FEW_STEPS, _FEW_WARM_UP_STEPS, _LEAP = 50, 10, 1.5
_PEAK_REACHED = 0.99
_HIGH_END, _LOW_END = 0.05, 1e-6


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
    `optimizer_momentum` its momentum (Adam: beta1); nothing is said of what is not given.
    """

    schedule: Schedule
    steps: Steps | None = None
    optimizer_lrs: tuple[float, ...] = ()
    optimizer_momentum: float | None = None


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
    least = f"Write pct_start={_up(2 / s.total_steps):g} or more (2 steps)"
    if not isinstance(s.pct_start, float):
        number = f"pct_start={s.pct_start!r} is no float, and torch raises ValueError"
        yield _finding("error", "warm-up-skipped", number, "Write pct_start=0.3")
    elif s.warm_up_steps == 1:
        number = f"{s.pct_start:g} x {s.total_steps:,} = 1 step, and torch divides by zero"
        yield _finding("error", "warm-up-skipped", number, least)
    elif s.warm_up_steps < 1:
        number = (
            f"{s.pct_start:g} x {s.total_steps:,} = {s.warm_up_steps:.2g} steps, so the first "
            f"rate is {_lr(_rate(s, 0), s)} instead of max_lr/{s.div_factor:g}"
            if s.total_steps > 1
            else "total_steps=1 is no cycle"
        )
        yield _finding("error", "warm-up-skipped", number, least)


def _anneal(call: Call) -> Iterator[Finding]:
    s = call.schedule
    left = s.total_steps - s.warm_up_steps
    if s.three_phase or left >= 2:
        return
    number = (
        f"{s.total_steps:,} steps less {s.warm_up_steps:.6g} of warm-up leave {left:.2g}, and "
        f"the step before the last still gets {_lr(_rate(s, s.total_steps - 2), s)}"
        if s.total_steps > 2
        else f"{s.total_steps} steps are no cycle"
    )
    yield _finding("error", "no-anneal", number, "Write pct_start=0.3, torch's default")


def _third_phase(call: Call) -> Iterator[Finding]:
    s = call.schedule
    left = s.total_steps + 1 - 2 * s.warm_up_steps
    if s.three_phase and left < 2:
        number = (
            f"two phases of {s.warm_up_steps:.6g} steps in {s.total_steps:,} leave "
            f"{max(0.0, left):.2g}, and the last two rates are "
            f"{_lr(_rate(s, s.total_steps - 2), s)} and {_lr(_rate(s, s.total_steps - 1), s)}"
        )
        yield _finding("error", "third-phase-cut", number, "Write pct_start below 0.5, say 0.3")


def _divisors(call: Call) -> Iterator[Finding]:
    s = call.schedule
    for name, value, default in (
        ("div_factor", s.div_factor, 25),
        ("final_div_factor", s.final_div_factor, 10_000),
    ):
        if value <= 0:
            outcome = "torch divides by zero" if value == 0 else "rates are negative"
            number, instead = f"{name}={value:g}: {outcome}", f"Write {name}={default}"
            yield _finding("error", "divisor-below-one", number, instead)
            return
    if s.div_factor <= 1:
        severity: Severity = "error" if s.div_factor < 1 else "warning"
        number = f"div_factor={s.div_factor:g} starts at {_lr(s.first_lr, s)}"
        yield _finding(severity, "divisor-below-one", number, "Write div_factor=25")
    if s.final_div_factor <= 1:
        severity = "error" if s.final_div_factor * s.div_factor < 1 else "warning"
        number = (
            f"final_div_factor={s.final_div_factor:g} ends at {_lr(s.last_lr, s)}, not below the "
            f"first rate"
        )
        yield _finding(severity, "divisor-below-one", number, "Write final_div_factor=10000")


def _end(call: Call) -> Iterator[Finding]:
    s = call.schedule
    share = s.last_lr / s.max_lr
    if share > _HIGH_END and s.final_div_factor > 1:
        number = f"the last rate is {_lr(s.last_lr, s)}"
        instead = f"Write final_div_factor={max(1, round(1e4 / s.div_factor)):,} or more"
        yield _finding("warning", "last-rate-misread", number, instead)
    elif share < _LOW_END * (1 - 1e-9):
        number = (
            f"the last rate is {s.last_lr:.3g} = max_lr / {1 / share:,.0f}, not max_lr / "
            f"{s.final_div_factor:,.6g}"
        )
        instead = f"For max_lr / {s.final_div_factor:,.6g} write final_div_factor="
        instead += f"{s.final_div_factor / s.div_factor:.6g}"
        yield _finding("note", "last-rate-misread", number, instead)


def _peak(call: Call) -> Iterator[Finding]:
    s = call.schedule
    below = math.floor(s.warm_up_steps - 1)
    top = max(rate_at(s, step) for step in (below, below + 1) if 0 <= step < s.total_steps)
    if top < _PEAK_REACHED * s.max_lr:
        number = f"{s.pct_start:g} x {s.total_steps:,} = {s.warm_up_steps:.4g} steps, and the "
        number += f"highest rate is {_lr(top, s)}"
        nearest = max(2, round(s.warm_up_steps)) / s.total_steps
        instead = f"Write pct_start={nearest:.6g}, a whole number of steps"
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
    why = f" ({steps.explained_epoch()})" if steps.loader_steps is not None else ""
    if steps.total_steps is not None:
        instead = f"Write total_steps={taken}{why}"
    else:
        instead = f"Write steps_per_epoch={steps.loader_steps}{why}"
    if taken < s.total_steps:
        number = (
            f"{taken:,} of {s.total_steps:,} are taken, the last at {_lr(_rate(s, taken - 1), s)} "
            f"instead of {s.last_lr:.3g}"
        )
        yield _finding("error", "total-steps-too-big", number, instead)
    else:
        number = f"{taken:,} are taken of {s.total_steps:,}, and torch raises after step "
        number += f"{s.total_steps + 1:,}"
        yield _finding("error", "total-steps-too-small", number, instead)


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
        instead = (
            f"Write max_momentum={momentum:g} with a base_momentum below, or cycle_momentum=False"
        )
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


def _up(value: float) -> float:
    """Round up to two digits."""
    scale = 10.0 ** (1 - math.floor(math.log10(value)))
    return math.ceil(value * scale - 1e-9) / scale
