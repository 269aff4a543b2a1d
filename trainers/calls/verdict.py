"""Applied rates held against what torch's OneCycleLR would have given: what differs, and why."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from trainers.calls.pitfalls import BY_NAME

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import OneCycleLR

TOLERANCE = 1e-9
"""Relative; torch computes both sides, so only resuming can add rounding."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Rates of each param group by scheduler step, 0 to the one after the end, and momenta."""

    lrs: tuple[tuple[float, ...], ...]
    momenta: tuple[float, ...]
    total_steps: int


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

    `unused_lr` is what get_last_lr() says after the last scheduler.step() of a whole cycle.
    """

    total_steps: int
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    unused_lr: float | None = None

    @property
    def passed(self) -> bool:
        """Whether every step of the plan was applied as planned."""
        return all(check.passed for check in self.checks)

    def text(self) -> str:
        """Return the verdict as lines of at most 80 columns but for the reasons."""
        lines = [f"audit of OneCycleLR(total_steps={self.total_steps})"]
        lines.append(f"  {'':<10}{'applied':>16}{'planned':>16}")
        for check in self.checks:
            mark = "ok" if check.passed else "DIFFERS"
            lines.append(f"  {check.name:<10}{check.applied:>16}{check.planned:>16}  {mark}")
        said = "every step got its rate" if self.passed else "this is not the schedule of the call"
        lines += [f"  {said}", *(f"  {reason}" for reason in self.reasons)]
        if self.unused_lr is not None:
            lines.append(f"  (get_last_lr() now says {self.unused_lr:.4g}, which no step used)")
        return "\n".join(lines)


def planned_by(scheduler: "OneCycleLR", groups: Sequence[dict[str, Any]]) -> Planned:
    """Step a copy of `scheduler` from its beginning to one past its end, on stand-ins of `groups`.

    The copy is torch's own class with the state of `scheduler`; the training is not touched.
    """
    import torch
    from torch.optim.lr_scheduler import OneCycleLR

    kind = torch.optim.AdamW if "betas" in groups[0] else torch.optim.SGD
    stand_in = kind([{"params": [torch.zeros(1)]} for _ in groups], lr=1.0)
    copy = OneCycleLR(stand_in, max_lr=1.0, total_steps=10)
    names = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")
    for own, group in zip(stand_in.param_groups, groups, strict=True):
        own.update({name: group[name] for name in names if name in group})
    copy.load_state_dict({**scheduler.state_dict(), "last_epoch": -1, "_step_count": 0})
    stand_in.step()
    lrs, momenta = [], []
    for _ in range(scheduler.total_steps + 1):
        try:
            copy.step()
        except ArithmeticError:  # beyond the end with pct_start=1.0
            break
        lrs.append([float(group["lr"]) for group in stand_in.param_groups])
        first = stand_in.param_groups[0]
        momenta.append(float(first["betas"][0] if "betas" in first else first["momentum"]))
    by_group = tuple(tuple(column) for column in zip(*lrs, strict=True))
    cycled = scheduler.cycle_momentum
    return Planned(by_group, tuple(momenta) if cycled else (), scheduler.total_steps)


def judge(
    planned: Planned,
    lrs: Sequence[Sequence[float]],
    momenta: Sequence[float],
    positions: Sequence[int],
    *,
    begin: int,
) -> Verdict:
    """Compare a training with its plan.

    `lrs` by param group and `momenta` are those of each optimizer step, `positions` how often the
    scheduler had been stepped by then, `begin` how often when the watch began (a resumed run).
    """
    if not positions:
        none = Check("steps", "0", f"{planned.total_steps:,}", False)
        return Verdict(planned.total_steps, (none,), ("no optimizer step was seen",))
    total = planned.total_steps
    if positions[0] > begin + 1:
        begin = positions[0]  # the state of a resumed run was loaded after the watch began
    due = planned.lrs[0][begin:total]
    used = lrs[0]
    checks = [
        Check("steps", f"{len(used):,}", f"{total - begin:,}", len(used) == total - begin),
        _rate("peak rate", max(used), max(due)),
        _rate("last rate", used[-1], due[-1]),
        _rate("mean rate", math.fsum(used) / len(used), math.fsum(due) / len(due)),
    ]
    if planned.momenta:
        checks.append(_momentum(momenta, planned.momenta[begin:total]))
    wrong = _first_difference(planned, lrs, begin)
    if wrong is not None:
        group, step = wrong
        at = planned.lrs[group][begin + step]
        name = f"step {step + 1:,}" + (f", group {group}" if group else "")
        checks.append(Check(name, f"{lrs[group][step]:.6g}", f"{at:.6g}", False))
    reasons = _reasons(positions, begin, wrong, lrs, planned)
    return Verdict(total, tuple(checks), tuple(reasons))


def _rate(name: str, applied: float, planned: float) -> Check:
    same = math.isclose(applied, planned, rel_tol=TOLERANCE)
    return Check(name, f"{applied:.6g}", f"{planned:.6g}", same)


def _momentum(applied: Sequence[float], planned: Sequence[float]) -> Check:
    same = all(
        math.isclose(a, p, rel_tol=TOLERANCE) for a, p in zip(applied, planned, strict=False)
    )
    texts = [f"{min(values):.4g} to {max(values):.4g}" for values in (applied, planned)]
    return Check("momentum", texts[0], texts[1], same)


def _first_difference(
    planned: Planned, lrs: Sequence[Sequence[float]], begin: int
) -> tuple[int, int] | None:
    """Return param group and step of the first rate that is not the plan's."""
    for step in range(min(len(lrs[0]), planned.total_steps - begin)):
        for group, used in enumerate(lrs):
            due = planned.lrs[group][begin + step]
            if not math.isclose(used[step], due, rel_tol=TOLERANCE):
                return group, step
    return None


def _reasons(
    positions: Sequence[int],
    begin: int,
    wrong: tuple[int, int] | None,
    lrs: Sequence[Sequence[float]],
    planned: Planned,
) -> list[str]:
    """Name the pitfalls that the moves of the scheduler between the optimizer's steps show."""
    n, due = len(positions), planned.total_steps - begin
    moves = Counter(after - before for before, after in pairwise(positions))
    moved, reasons = positions[-1] - positions[0], []
    usual = moves.most_common(1)[0][0] if moves else 1
    if usual == 0:
        times = f"{moved:,} times in {n:,} optimizer steps"
        reasons.append(_named("stepped-per-epoch", f"the scheduler moved {times}"))
    elif usual > 1:
        reasons.append(
            _named("stepped-twice", "the scheduler moved twice a step")
            if usual == 2
            else _named(
                "total-steps-too-big",
                f"the scheduler moved {usual} times a step: batches were counted, not steps",
            )
        )
    elif positions[0] != begin:
        reasons.append(_named("scheduler-before-optimizer", "it had moved before the first step"))
    elif set(moves) - {1}:
        odd = sum(count for move, count in moves.items() if move != 1)
        reasons.append(
            f"the scheduler moved another number of times than once between {odd:,} pairs of "
            "steps: a GradScaler that skips steps, or a branch that misses scheduler.step()"
        )
    elif wrong == (0, 0) and begin:
        what = f"the first step ran at {lrs[0][0]:.6g}"
        reasons.append(_named("resumed-without-state", what))
    elif wrong is not None:
        reasons.append("the scheduler moved as it should: something else sets the rate")
    if usual == 1 and n < due:
        reasons.append(_named("total-steps-too-big", f"{n:,} steps of {due:,} were taken"))
    elif usual == 1 and n > due:
        reasons.append(_named("total-steps-too-small", f"{n:,} steps were taken, {due:,} planned"))
    return reasons


def _named(name: str, what: str) -> str:
    return f"{name}: {what}. {BY_NAME[name].why}"
