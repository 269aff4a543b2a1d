"""Applied rates held against what torch's OneCycleLR would have given: what differs, and why."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from trainers.calls.watched import Watched, nothing_seen, reasons_of, remarks

if TYPE_CHECKING:
    import torch
    from torch.optim.lr_scheduler import OneCycleLR

TOLERANCE = 1e-9
"""Relative; torch computes both sides, so only resuming can add rounding."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Rates of each param group by scheduler step, 0 to total_steps - 1, and momenta.

    `after` is what one more scheduler.step() sets, None where torch raises.
    """

    lrs: tuple[tuple[float, ...], ...]
    momenta: tuple[float, ...]
    total_steps: int
    after: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """One number of a training: applied, and in the plan."""

    name: str
    applied: str
    planned: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a training got its schedule, in numbers, and likely reasons where it did not.

    `reasons` also say what is wrong with the call itself, by the names of trainers.calls.pitfalls;
    `remarks` what was left out. `unused_lr` is what get_last_lr() says after the last
    scheduler.step() of a whole cycle.
    """

    total_steps: int
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    unused_lr: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every step of the plan was applied as planned, good or bad as the plan is."""
        return all(check.passed for check in self.checks)

    def text(self) -> str:
        """Return the verdict as lines of at most 80 columns but for reasons and remarks."""
        lines = [f"audit of OneCycleLR(total_steps={self.total_steps})"]
        lines.append(f"  {'':<10}{'applied':>16}{'planned':>16}")
        for check in self.checks:
            mark = "ok" if check.passed else "DIFFERS"
            lines.append(f"  {check.name:<10}{check.applied:>16}{check.planned:>16}  {mark}")
        if not self.passed:
            summary = "this is not the schedule of the call"
        elif self.reasons:
            summary = "every step got its rate, but look at the call itself:"
        else:
            summary = "every step got its rate"
        lines += [f"  {text}" for text in (summary, *self.reasons)]
        lines += [f"  ({remark})" for remark in self.remarks]
        if self.unused_lr is not None:
            unused = f"get_last_lr() now says {self.unused_lr:.4g}, which no step used"
            lines.append(f"  (step-after-the-end: {unused})")
        return "\n".join(lines)


def planned_by(
    scheduler: "OneCycleLR",
    groups: Sequence[dict[str, Any]],
    dtypes: Sequence["torch.dtype | None"],
) -> Planned:
    """Step a copy of `scheduler` from its beginning to one past its end, on stand-ins of `groups`.

    The copy is torch's own class with the state of `scheduler`; the training is not touched. A
    group whose rate is a tensor has one of that dtype here too: it rounds the rates.
    """
    import torch
    from torch.optim.lr_scheduler import OneCycleLR

    kind = torch.optim.AdamW if "betas" in groups[0] else torch.optim.SGD
    stand_in = kind([{"params": [torch.zeros(1)]} for _ in groups], lr=1.0)
    copy = OneCycleLR(stand_in, max_lr=1.0, total_steps=10)
    names = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")
    for own, group, dtype in zip(stand_in.param_groups, groups, dtypes, strict=True):
        own.update({name: group[name] for name in names if name in group})
        if dtype is not None:
            own["lr"] = torch.ones((), dtype=dtype)
    copy.load_state_dict({**scheduler.state_dict(), "last_epoch": -1, "_step_count": 0})
    stand_in.step()  # or torch warns of the wrong order
    lrs, momenta = [], []
    for _ in range(scheduler.total_steps + 1):
        try:
            copy.step()
        except ArithmeticError:  # beyond the end with pct_start=1.0
            break
        lrs.append([float(group["lr"]) for group in stand_in.param_groups])
        first = stand_in.param_groups[0]
        momenta.append(float(first["betas"][0] if "betas" in first else first["momentum"]))
    total = scheduler.total_steps
    return Planned(
        lrs=tuple(tuple(column) for column in zip(*lrs[:total], strict=True)),
        momenta=tuple(momenta[:total]) if scheduler.cycle_momentum else (),
        total_steps=total,
        after=lrs[total][0] if len(lrs) > total else None,
    )


def judge(planned: Planned, watched: Watched) -> Verdict:
    """Compare a training with the part of its plan that was left when the watch began."""
    total, start = planned.total_steps, watched.start
    due, used = planned.lrs[0][start:], watched.lrs[0]
    left_out = tuple(remarks(watched, total))
    steps = Check("steps", f"{len(used):,}", f"{len(due):,}", 0 < len(used) == len(due))
    if not used or not due:
        reason = nothing_seen(watched) if due else f"the plan was over: {_taken(total)}"
        return Verdict(total, (steps,), (reason,), remarks=left_out)
    checks = [
        steps,
        _rate("peak rate", max(used), max(due)),
        _rate("last rate", used[-1], due[-1]),
        _rate("mean rate", math.fsum(used) / len(used), math.fsum(due) / len(due)),
    ]
    if planned.momenta:
        checks.append(_momentum(watched.momenta, planned.momenta[start:]))
    wrong = list(islice(_differences(planned, watched.lrs, start), 2))
    if wrong:
        step, group = wrong[0]
        at = planned.lrs[group][start + step]
        name = f"step {step + 1:,}" + (f", group {group}" if group else "")
        checks.append(Check(name, f"{watched.lrs[group][step]:.6g}", f"{at:.6g}", False))
    reasons = reasons_of(watched, total, [step for step, _ in wrong])
    return Verdict(total, tuple(checks), tuple(reasons), remarks=left_out)


def _taken(total: int) -> str:
    return f"the scheduler had taken all {total:,} of its steps when the watch began"


def _rate(name: str, applied: float, planned: float) -> Check:
    same = math.isclose(applied, planned, rel_tol=TOLERANCE)
    return Check(name, f"{applied:.6g}", f"{planned:.6g}", same)


def _momentum(applied: Sequence[float], planned: Sequence[float]) -> Check:
    same = all(
        math.isclose(a, p, rel_tol=TOLERANCE) for a, p in zip(applied, planned, strict=False)
    )
    texts = [f"{min(values):.4g} to {max(values):.4g}" for values in (applied, planned)]
    return Check("momentum", texts[0], texts[1], same)


def _differences(
    planned: Planned, lrs: Sequence[Sequence[float]], start: int
) -> Iterator[tuple[int, int]]:
    """Yield each step, and its first param group, whose rate is not the plan's."""
    for step in range(min(len(lrs[0]), planned.total_steps - start)):
        for group, used in enumerate(lrs):
            due = planned.lrs[group][start + step]
            if not math.isclose(used[step], due, rel_tol=TOLERANCE):
                yield step, group
                break
