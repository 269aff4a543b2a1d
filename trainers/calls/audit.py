"""What each step of a training really got, held against its plan: our own runs, and anybody's."""

import atexit
import math
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainers.calls.applied import Applied
from trainers.calls.verdict import TOLERANCE, Verdict, judge, planned_by
from trainers.errors import ScheduleError
from trainers.run import Plan, Point, RunResult

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler, OneCycleLR


def audit(optimizer: "Optimizer", scheduler: "LRScheduler") -> "Audit":
    """Watch a training under OneCycleLR from here on and print the verdict at its end.

    The end is that of the `with` block, `.end()`, or else that of the program. Make it after the
    state of a resumed run is loaded. Raises ScheduleError for another scheduler or optimizer.
    """
    from torch.optim.lr_scheduler import OneCycleLR

    if not isinstance(scheduler, OneCycleLR):
        raise ScheduleError(f"audit reads OneCycleLR, got {type(scheduler).__name__}")
    if scheduler.optimizer is not optimizer:
        raise ScheduleError("the scheduler must be that of the optimizer given, got another one's")
    return Audit(optimizer, scheduler)


class Audit:
    """A training that is watched; `verdict()` may be asked for at any time."""

    def __init__(self, optimizer: "Optimizer", scheduler: "OneCycleLR") -> None:
        self._scheduler = scheduler
        self._groups = [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        self._begin, self._positions = scheduler.last_epoch, array("q")
        self._applied = Applied(optimizer)
        self._handle = optimizer.register_step_pre_hook(self._place)
        self._ended = False
        atexit.register(self.end)

    def _place(self, optimizer: "Optimizer", args: Any, kwargs: Any) -> None:
        self._positions.append(self._scheduler.last_epoch)

    def verdict(self) -> Verdict:
        """Return how the steps so far compare with the whole plan."""
        planned = planned_by(self._scheduler, self._groups)
        applied = self._applied
        said = judge(planned, applied.lrs, applied.momenta, self._positions, begin=self._begin)
        over = said.passed and self._scheduler.last_epoch == planned.total_steps
        return replace(said, unused_lr=planned.lrs[0][-1]) if over else said

    def end(self) -> None:
        """Print the verdict, once, and let go of the optimizer."""
        if self._ended:
            return
        self._ended = True
        atexit.unregister(self.end)
        self._applied.end()
        self._handle.remove()
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
    Momentum is compared where the loop reports it.
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
    planned, momenta = plan.lrs(), plan.momenta()
    for index, point in enumerate(points):
        if point.step != index:
            raise AuditError(f"step {point.step} was reported where step {index} was due")
        if not math.isclose(point.lr, planned[index], rel_tol=TOLERANCE):
            raise AuditError(
                f"step {index} ran at lr {point.lr:.6g}, the plan says {planned[index]:.6g}; "
                f"step the scheduler once per optimizer step ({_totals(points, planned)})"
            )
        if point.momentum is not None and not math.isclose(
            point.momentum, momenta[index], rel_tol=TOLERANCE
        ):
            raise AuditError(
                f"step {index} ran at momentum {point.momentum:.6g}, the plan says "
                f"{momenta[index]:.6g}: something else than the scheduler sets it"
            )


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
