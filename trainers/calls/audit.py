"""What each step of a training really got, held against its plan: our own runs, and anybody's."""

import atexit
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import TYPE_CHECKING

from trainers.calls.applied import Applied
from trainers.calls.lint import Call, Finding, lint
from trainers.calls.verdict import TOLERANCE, Verdict, judge, planned_by
from trainers.calls.watched import Watched
from trainers.errors import ScheduleError
from trainers.run import Plan, Point, RunResult
from trainers.torch_objects import optimizers_of, path_to, runs_hooks, schedule_of

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

log = logging.getLogger(__name__)


def audit(optimizer: "Optimizer", scheduler: "LRScheduler") -> "Audit":
    """Watch a training under OneCycleLR from here on and print the verdict at its end.

    The end is that of the `with` block, `.end()`, or else that of the program. Make it after the
    state of a resumed run is loaded. Raises ScheduleError for another scheduler or optimizer, and
    says which object to take where one is wrapped.
    """
    from torch.optim.lr_scheduler import OneCycleLR

    if not isinstance(scheduler, OneCycleLR) or not runs_hooks(optimizer):
        raise ScheduleError(_which(optimizer, scheduler))
    own = scheduler.optimizer
    if not any(one is optimizer for one in optimizers_of(own)) and not any(
        one is own for one in optimizers_of(optimizer)
    ):
        raise ScheduleError("the scheduler must be that of the optimizer given, got another one's")
    return Audit(optimizer, scheduler)


def _which(optimizer: object, scheduler: object) -> str:
    """Return what is wrong with objects that cannot be watched, and which to take instead."""
    from torch.optim.lr_scheduler import OneCycleLR

    if isinstance(scheduler, OneCycleLR):
        wrong = f"audit watches an optimizer of torch's, got {type(optimizer).__name__}"
    else:
        wrong = f"audit reads OneCycleLR, got {type(scheduler).__name__}"
    whole = path_to("optimizer", optimizer, runs_hooks)
    inside = path_to("scheduler", scheduler, lambda part: isinstance(part, OneCycleLR))
    if whole is None:
        return f"{wrong}, whose steps run none of torch's hooks: give the optimizer that it steps"
    if inside is None:
        return f"{wrong}: it holds no other schedule against its plan"
    return f"{wrong}, which wraps one: write audit({whole}, {inside})"


class Audit:
    """A training that is watched; `verdict()` may be asked for at any time."""

    def __init__(self, optimizer: "Optimizer", scheduler: "OneCycleLR") -> None:
        self._scheduler = scheduler
        self._groups = [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        self._findings = self._lint()
        self._begin = scheduler.last_epoch
        # torch's mark of an optimizer that was stepped since its scheduler was made
        self._late = bool(getattr(optimizer, "_opt_called", False))
        self._base_lrs, self._loaded = scheduler.base_lrs, False
        self._applied = Applied(optimizer, self._position)
        self._ended = False
        atexit.register(self.end)

    def _lint(self) -> list[Finding]:
        """Return what is wrong with the scheduler's own arguments; log what spoils the cycle."""
        try:
            call = Call(schedule=schedule_of(self._scheduler, self._groups[0]))
        except ScheduleError as error:
            log.warning("the arguments of the OneCycleLR: %s", error)
            return []
        findings = lint(call)
        for finding in findings:
            if finding.severity == "error":
                log.warning("%s", finding.line())
        return findings

    def _position(self) -> float:
        """Return how often the scheduler was stepped; note whether its state was just loaded.

        load_state_dict puts another list in the place of base_lrs, step() never does.
        """
        if self._scheduler.base_lrs is not self._base_lrs:
            self._base_lrs = self._scheduler.base_lrs
            self._loaded = self._loaded or not self._applied.positions
        return self._scheduler.last_epoch

    def verdict(self) -> Verdict:
        """Return how the steps so far compare with the whole plan."""
        planned = planned_by(self._scheduler, self._groups, self._applied.dtypes)
        verdict = judge(planned, self._watched())
        wrong = tuple(finding.line() for finding in self._findings)
        verdict = replace(verdict, reasons=verdict.reasons + wrong)
        over = verdict.passed and self._scheduler.last_epoch == planned.total_steps
        return replace(verdict, unused_lr=planned.after) if over else verdict

    def _watched(self) -> Watched:
        """Return the steps that changed weights while it was this scheduler's turn."""
        applied = self._applied
        overflowed = applied.overflowed()
        # -1: the scheduler waits within a SequentialLR for its milestone
        waiting = [position < 0 for position in applied.positions]
        kept = [not (over or wait) for over, wait in zip(overflowed, waiting, strict=True)]
        return Watched(
            lrs=tuple(tuple(compress(lrs, kept)) for lrs in applied.lrs),
            momenta=tuple(compress(applied.momenta, kept)),
            positions=tuple(compress(applied.positions, kept)),
            begin=max(0, self._begin),
            now=self._scheduler.last_epoch,
            loaded=self._loaded,
            late=self._late,
            n_overflowed=sum(overflowed),
            n_waiting=sum(waiting),
            shares_rates=applied.shares_rates,
        )

    def end(self) -> None:
        """Print the verdict, once, and let go of the optimizer."""
        if self._ended:
            return
        self._ended = True
        atexit.unregister(self.end)
        self._applied.end()
        print(self.verdict().text())

    def __enter__(self) -> "Audit":
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()


class AuditError(Exception):
    """A run whose steps did not get the rates of its plan: never a result."""


def audit_run(plan: Plan, points: Sequence[Point], result: RunResult) -> None:
    """Raise AuditError unless every step ran once, in order, at rate and momentum of the plan.

    A run that ended early is held to the steps that it took; one that says it completed must have
    taken exactly `plan.total_steps`, unless its last loss shows that it broke (points end there).
    Momentum is compared where the loop reports it. An optimizer made with lr=torch.tensor(...)
    holds the rates in 32 or 16 bits, and is held to the plan in these.
    """
    broke = bool(points) and not points[-1].finite
    completed = result.outcome == "completed" and not broke
    if completed and result.n_steps != plan.total_steps:
        raise AuditError(f"{result.n_steps} optimizer steps, the plan has {plan.total_steps}")
    if completed and len(points) != plan.total_steps:
        raise AuditError(
            f"{len(points)} steps were reported, {plan.total_steps} taken; "
            "call run.report(step, loss, lrs=...) once per optimizer step"
        )
    if len(points) > plan.total_steps:
        raise AuditError(f"{len(points)} steps were reported, the plan has {plan.total_steps}")
    planned, momenta = _as_held(points, plan.lrs()), plan.momenta()
    for index, point in enumerate(points):
        if point.step != index:
            raise AuditError(f"step {point.step} was reported where step {index} was due")
        if not math.isclose(point.lr, planned[index], rel_tol=TOLERANCE):
            raise AuditError(
                f"step {index} ran at lr {point.lr:.6g}, the plan says {planned[index]:.6g}; "
                f"step the scheduler once per optimizer step ({_totals(points, planned)})"
            )
        momentum = point.momentum
        # nan, as Applied says, of an optimizer without one; a plan may leave it alone
        if momentum is None or math.isnan(momentum) or not momenta:
            continue
        if not math.isclose(momentum, momenta[index], rel_tol=TOLERANCE):
            raise AuditError(
                f"step {index} ran at momentum {momentum:.6g}, the plan says "
                f"{momenta[index]:.6g}: something else than the scheduler sets it"
            )


def _as_held(points: Sequence[Point], planned: Sequence[float]) -> Sequence[float]:
    """Return the planned rates as the tensor of that precision holds them that fits most steps."""
    due_now = planned[: len(points)]
    if all(
        math.isclose(point.lr, rate, rel_tol=TOLERANCE)
        for point, rate in zip(points, due_now, strict=True)
    ):
        return planned  # at once, and without loading torch for a trainer that has none
    import torch

    used = torch.tensor([point.lr for point in points], dtype=torch.float64)
    due = torch.tensor(due_now, dtype=torch.float64)
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    held = [due.to(dtype).double() for dtype in dtypes]
    n_fit = [int(torch.isclose(used, rates, rtol=TOLERANCE, atol=0).sum()) for rates in held]
    rates: list[float] = held[n_fit.index(max(n_fit))].tolist()
    return rates


def audit_batches(batch_size: int | None, result: RunResult) -> None:
    """Raise AuditError unless every step of a completed run took the batch size asked for."""
    if batch_size is None or result.outcome != "completed":
        return
    if result.n_images != result.n_steps * batch_size:
        raise AuditError(
            f"{result.n_images} images in {result.n_steps} steps, the run has batch_size "
            f"{batch_size}: train on run.batch_size images in each step"
        )


def _totals(points: Sequence[Point], planned: Sequence[float]) -> str:
    """Return peak, last and mean rate of the steps taken, and of the same steps of the plan."""
    used, due = [point.lr for point in points], planned[: len(points)]
    return (
        f"peak {max(used):.6g} of {max(due):.6g}, last {used[-1]:.6g} of {due[-1]:.6g}, "
        f"mean {math.fsum(used) / len(used):.6g} of {math.fsum(due) / len(due):.6g}"
    )
