"""What the sweeps of a range test measured, what they say together, and that in lines of text."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from trainers.run import Point
from trainers.shown import Shown
from trainers.sweeps.judgement import (
    AGREE_FACTOR,
    WITHIN_FACTOR,
    WITHIN_FAMILIES,
    WITHIN_SHARE,
    Judgement,
    Proposal,
    judge,
    judge_together,
    propose,
)
from trainers.sweeps.reasons import no_bracket
from trainers.sweeps.sweep import LRCurve, Sweep

Points = tuple[Point, ...]
"""The steps of one sweep, in their order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeTestResult(Shown):
    """What the sweeps measured, step by step, what they say, and what they cost.

    `plan` is that of each of `points`; `slow` is one more sweep over the same rates in twice the
    steps, None where none was needed (trainers.sweeps.stopping), or it was given up. `proposal` is
    None where most sweeps have no edge. `others` are the range tests of the other settings (batch
    sizes, optimizers), where a study searches several. A notebook shows it; plot() takes one of
    those settings.
    """

    plan: Sweep
    points: tuple[Points, ...]
    slow: Points | None
    proposal: Proposal | None
    seconds: float
    others: Mapping[str, "RangeTestResult"] = field(default_factory=dict)
    shown_by: ClassVar[str] = "search.views.notebook.range_test"

    def __repr__(self) -> str:
        if self.proposal is None:
            said = [self.why_no_proposal()]
        else:  # the proposal, and what it rests on
            said = list(dict.fromkeys([range_text(self.proposal), conclusion(self.proposal)[0]]))
        return "\n  ".join([f"RangeTestResult: {self._title()}", *said])

    def without_points(self) -> "RangeTestResult":
        """Return the same without its steps: what is left is small."""
        others = {size: other.without_points() for size, other in self.others.items()}
        return replace(self, points=(), slow=None, others=others)

    @property
    def curves(self) -> tuple[LRCurve, ...]:
        """Rates of the first param group and losses of each sweep but the slow one."""
        return tuple(LRCurve.from_points(points) for points in self.points)

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """What each of `curves` says, judged together."""
        return tuple(judged(self.points))

    @property
    def slow_curve(self) -> LRCurve | None:
        """Rates and losses of the slow sweep."""
        return None if self.slow is None else LRCurve.from_points(self.slow)

    @property
    def bracket(self) -> tuple[float, float] | None:
        """The range to search `max_lr` in."""
        return None if self.proposal is None else (self.proposal.low, self.proposal.high)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The t interval of log10(edge) across sweeps; see Proposal for when there is none."""
        return None if self.proposal is None else self.proposal.interval

    @property
    def n_steps(self) -> int:
        """Optimizer steps taken, over all sweeps: what the range test has cost."""
        return sum(len(points) for points in (*self.points, self.slow or ()))

    def why_no_proposal(self) -> str:
        """Return what to do about sweeps of which most have no edge, or that there are none."""
        return f"the range test found {self.no_bracket()}"

    def no_bracket(self) -> str:
        """Return the same after 'the range test found'."""
        if not self.points:
            return "no sweep that was finished"
        rates = {"start_lr": self.plan.start_lr, "end_lr": self.plan.end_lr}
        return no_bracket(self.judgements, **rates)

    def table(self) -> str:
        """Return one line per sweep, then bracket and proposal or why there are none, and cost."""
        rows = [f"{'sweep':>5}  {'ending':<15}  {'rebound':>8}  {'edge':>8}"]
        rows += [self._row(str(n), judgement) for n, judgement in enumerate(self.judgements)]
        if self.slow_curve is not None:
            rows.append(self._row("slow", judge(self.slow_curve)))
        said = [*self._conclusion(), *spread_lines(self.proposal)]
        cost = f"cost: {self.n_steps:,} optimizer steps, {self.seconds:.1f} s"
        return "\n".join([f"range test: {self._title()}", *rows, *said, cost])

    def _title(self) -> str:
        plan = self.plan
        return (
            f"{count(len(self.points), 'sweep')} of {plan.total_steps} steps, "
            f"lr {plan.start_lr:g} to {plan.end_lr:g}"
        )

    def _conclusion(self) -> list[str]:
        return [self.why_no_proposal()] if self.proposal is None else conclusion(self.proposal)

    def _row(self, name: str, judgement: Judgement) -> str:
        rebound, edge = (self._cell(judgement, lr) for lr in (judgement.rebound, judgement.edge))
        return f"{name:>5}  {judgement.ending:<15}  {rebound:>8}  {edge:>8}"

    def _cell(self, judgement: Judgement, lr: float | None) -> str:
        if lr is not None:
            return f"{lr:.3g}"
        return f"> {self.plan.end_lr:.3g}" if judgement.ending == "reached end_lr" else "-"


def concluded(
    plan: Sweep,
    points: tuple[Points, ...],
    slow: Points | None,
    *,
    seconds: float,
    cycle_steps: int | None = None,
) -> RangeTestResult:
    """Judge the sweeps of a plan; several that are the same to the digit count as one."""
    proposal = propose(
        judged(points[:1] if are_copies(points) else points),
        slow=None if slow is None else judge(LRCurve.from_points(slow)),
        cycle_steps=cycle_steps,
        adaptive=bool(plan.adaptive),
    )
    return RangeTestResult(plan=plan, points=points, slow=slow, proposal=proposal, seconds=seconds)


def judged(points: tuple[Points, ...]) -> list[Judgement]:
    """Judge sweeps together; copies are one sweep, however many there are."""
    if are_copies(points):
        return [judge(LRCurve.from_points(points[0]))] * len(points)
    return judge_together([LRCurve.from_points(sweep) for sweep in points])


def are_copies(points: tuple[Points, ...]) -> bool:
    """Whether several sweeps measured the same: their data order is, and nothing else differs."""
    return len(points) > 1 and len({repr(sweep) for sweep in points}) == 1


def conclusion(proposal: Proposal) -> list[str]:
    """Return edge, interval, drift, range and proposal as lines of text."""
    if proposal.edge is None:
        return [*([] if proposal.reason is None else [proposal.reason]), range_text(proposal)]
    n = count(proposal.n_sweeps, "sweep")
    return [
        f"edge {proposal.edge:.3g}: median of n = {n}{_sure(proposal)}",
        *drift_text(proposal),
        range_text(proposal),
    ]


def _sure(proposal: Proposal) -> str:
    """Return how well the edge is known."""
    if proposal.interval is not None:
        low, high = proposal.interval
        return f"; 95 % t interval of log10(edge) {low:.3g} to {high:.3g}"
    if proposal.apart is not None:
        return f", a factor of {proposal.apart:.2f} apart; too few for an interval"
    return "; no interval"


def spread_lines(proposal: Proposal | None) -> list[str]:
    """Return how far the best max_lr may lie from what the sweeps propose; nothing where they
    propose nothing, or what is searched is not the bracket around it."""
    measured = proposal is not None and proposal.origin in ("edge", "other batch size")
    return [spread_text()] if measured else []


def spread_text() -> str:
    """Return how far the best max_lr may lie from a proposal."""
    return (
        f"the best max_lr lies within a factor of {WITHIN_FACTOR:g} of the proposal in "
        f"{WITHIN_SHARE:.0%} of families of tasks (n = {WITHIN_FAMILIES})".replace("%", " %")
    )


def range_name(proposal: Proposal) -> str:
    """Return what the range of max_lr is called: 'bracket', 'own range' or 'wide range'."""
    measured = proposal.origin in ("edge", "other batch size")
    return "bracket" if measured else proposal.origin


def range_text(proposal: Proposal) -> str:
    """Return range and max_lr, and whose they are."""
    name = range_name(proposal)
    return f"{name} {proposal.low:.3g} to {proposal.high:.3g}, {max_lr_text(proposal)}"


def max_lr_text(proposal: Proposal) -> str:
    """Return the max_lr of the baseline, and whose it is."""
    value, name = f"max_lr {proposal.max_lr:.3g}", range_name(proposal)
    if proposal.origin == "other batch size":
        return f"{value}, proposed at another batch size"
    if proposal.edge is None:
        mine = "the study's own" if name == "own range" else "a wide"
        return f"baseline's {value}, the middle of {mine} range"
    clipped = name == "own range" and proposal.max_lr in (proposal.low, proposal.high)
    return f"proposed {value}" + (", cut off at the bound of the own range" if clipped else "")


def baseline_text(proposal: Proposal) -> str:
    """Return where the max_lr of the baseline is from, as in 'torch's 1cycle at ...'."""
    if proposal.origin == "edge":
        return "the max_lr that the range test proposed"
    if proposal.origin == "other batch size":
        return "the max_lr that the range test proposed at another batch size"
    if proposal.edge is not None:
        return "the max_lr that the range test proposed, within the study's own range"
    if proposal.origin == "own range":
        return "the middle (geometric mean) of the study's own range of max_lr"
    return "the middle (geometric mean) of a wide range, for the range test found no bracket"


def drift_text(proposal: Proposal) -> list[str]:
    """Return how far the edge moved in a sweep of twice the steps, and what follows.

    Sweeps that agree had no slow one, and need no word about it.
    """
    if proposal.drift is None and not proposal.widened:
        unsure = proposal.n_sweeps > 1 and not (proposal.apart or math.inf) <= AGREE_FACTOR
        return ["drift with the number of steps: not measured"] if unsure else []
    moved = "above end_lr" if proposal.drift is None else f"{proposal.drift:+.2f} decades"
    widened = "; the bracket is wider for it" if proposal.widened else ""
    return [f"drift of the edge in twice the steps (n = 1 sweep): {moved}{widened}"]


def count(n: int, noun: str) -> str:
    """Return '1 sweep' or '5 sweeps'."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
