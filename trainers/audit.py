"""What each step of a run really got, held against its plan."""

import math
from collections.abc import Sequence

from trainers.run import Plan, Point, RunResult

_TOLERANCE = 1e-9  # relative; torch computes both, so only resuming can add rounding


class AuditError(Exception):
    """A run whose steps did not get the rates of its plan: never a result."""


def audit(plan: Plan, points: Sequence[Point], result: RunResult) -> None:
    """Raise AuditError unless every step ran once, in order, at the rate of the plan.

    A run that ended early is held to the steps that it took; one that says it completed must have
    taken exactly `plan.total_steps`, unless its last loss shows that it broke (points end there).
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
    planned = plan.lrs()
    for index, point in enumerate(points):
        if point.step != index:
            raise AuditError(f"step {point.step} was reported where step {index} was due")
        if not math.isclose(point.lr, planned[index], rel_tol=_TOLERANCE):
            raise AuditError(
                f"step {index} ran at lr {point.lr:.6g}, the plan says {planned[index]:.6g}; "
                "step the scheduler once per optimizer step"
            )
