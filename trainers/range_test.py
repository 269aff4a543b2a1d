"""The range test on any model, optimizer and loader, which it leaves as it found them."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainers.audit import audit_run
from trainers.batches import Batch, Batches
from trainers.errors import ScheduleError, TaskError
from trainers.judgement import Judgement, Proposal, judge, propose, why_no_proposal
from trainers.run import Outcome, Point, Run, RunResult
from trainers.seeding import seed_for
from trainers.sweep import LEAST_STEPS, LRCurve, Shape, Sweep
from trainers.untouched import seed_everything, untouched

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeTestResult:
    """What the sweeps measured, step by step, what they say, and what they cost."""

    plan: Sweep
    points: tuple[tuple[Point, ...], ...]
    judgements: tuple[Judgement, ...]
    proposal: Proposal | None
    seconds: float

    @property
    def curves(self) -> tuple[LRCurve, ...]:
        """Rates of the first param group and losses of each sweep."""
        return tuple(LRCurve.from_points(points) for points in self.points)

    @property
    def bracket(self) -> tuple[float, float] | None:
        """The range to search `max_lr` in; None where most sweeps have no rebound."""
        return None if self.proposal is None else (self.proposal.low, self.proposal.high)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The t interval of log10(rebound) across sweeps; see Proposal for when there is none."""
        return None if self.proposal is None else self.proposal.interval

    @property
    def n_steps(self) -> int:
        """Optimizer steps taken, over all sweeps: what the range test has cost."""
        return sum(len(points) for points in self.points)

    def table(self) -> str:
        """Return one line per sweep, then bracket and proposal or why there are none, and cost."""
        plan = self.plan
        title = (
            f"range test: {_count(len(self.points), 'sweep')} of {plan.total_steps} steps, "
            f"{plan.shape}, lr {plan.start_lr:g} to {plan.end_lr:g}"
        )
        rows = [f"{'sweep':>5}  {'ending':<15}  {'rebound':>8}  {'edge':>8}"]
        for number, said in enumerate(self.judgements):
            rebound, edge = (self._cell(said, lr) for lr in (said.rebound, said.edge))
            rows.append(f"{number:>5}  {said.ending:<15}  {rebound:>8}  {edge:>8}")
        cost = f"cost: {self.n_steps:,} optimizer steps, {self.seconds:.1f} s"
        return "\n".join([title, *rows, *self._conclusion(), cost])

    def _cell(self, said: Judgement, lr: float | None) -> str:
        if lr is not None:
            return f"{lr:.3g}"
        return f"> {self.plan.end_lr:.3g}" if said.ending == "reached end_lr" else "-"

    def _conclusion(self) -> list[str]:
        plan, said = self.plan, self.proposal
        if said is None:
            why = why_no_proposal(self.judgements, start_lr=plan.start_lr, end_lr=plan.end_lr)
            return [why]
        sure = "no interval"
        if said.interval is not None:
            sure = f"95 % t interval of log10(rebound) {said.interval[0]:.3g} to "
            sure += f"{said.interval[1]:.3g}"
        return [
            f"centre {said.centre:.3g}: median rebound of n = {_count(said.n_sweeps, 'sweep')}; "
            f"{sure}",
            f"bracket {said.low:.3g} to {said.high:.3g}, proposed max_lr {said.max_lr:.3g}",
        ]


def range_test(
    model: nn.Module,
    optimizer: Optimizer,
    loader: Iterable[Batch],
    loss_fn: Callable[[nn.Module, Batch], Tensor],
    *,
    start_lr: float = 1e-5,
    end_lr: float = 10.0,
    n_steps: int = 200,
    n_sweeps: int = 5,
    shape: Shape = "exponential",
    hold_steps: int = 1,
    momentum: float = 0.85,
    accumulate: int = 1,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> RangeTestResult:
    """Sweep the learning rate `n_sweeps` times and return where the loss turns and breaks.

    `loss_fn(model, batch)` returns the mean loss of a batch, a tensor of one number with its
    gradient; autocast belongs inside it, gradient clipping in a step pre-hook of the optimizer.
    The tensors of a batch are moved to `device` (default: where the first parameter is).
    `accumulate` batches make one step.

    Afterwards model, optimizer, generators and data order are what they were, also when a sweep
    raises (trainers.untouched says what that covers). Every sweep starts from the weights and the
    optimizer state as given and has its own seed for data order and dropout: the interval says
    nothing about other initial weights. A model in eval mode is trained all the same; in one in
    train mode, frozen parts stay frozen. `shape`, `hold_steps`, `momentum`: see Sweep. A loader
    that is too short is read again.

    Not supported: a GradScaler (steps it skips would take a rate without using it), more than one
    process, optimizers whose step needs a closure.

    Raises ScheduleError for rates or counts that make no range test (at least 50 steps a sweep)
    and for an optimizer with a scheduler, DataError for a loader that is empty or can be read only
    once, TaskError for a loss that is not one number or is not finite in any sweep.
    """
    _check_counts(
        n_steps=(n_steps, LEAST_STEPS), n_sweeps=(n_sweeps, 1), accumulate=(accumulate, 1)
    )
    plan = Sweep(
        start_lr=start_lr,
        end_lr=end_lr,
        total_steps=n_steps,
        shape=shape,
        hold_steps=hold_steps,
        momentum=momentum,
    )
    _check_parts(model, optimizer, loss_fn)
    place = torch.device(device) if device is not None else _parameters(optimizer)[0].device
    batches, started = Batches(loader, place), time.perf_counter()
    sweeps = []
    for number in range(n_sweeps):
        run = Run(plan=plan, seed=seed_for(seed, "sweep", number), split=None)
        with untouched(model, optimizer, loader), torch.enable_grad():
            seed_everything(run.seed, loader)
            with closing(batches.first(n_steps * accumulate)) as source:
                losses = (_backward(loss_fn(model, batch), accumulate) for batch in source)
                _sweep(run, model, optimizer, losses, accumulate)
        sweeps.append(tuple(run.points))
    return _judged(plan, sweeps, time.perf_counter() - started)


def _sweep(
    run: Run, model: nn.Module, optimizer: Optimizer, losses: Iterator[Tensor], accumulate: int
) -> None:
    """Train once under the plan; `run.points` then holds the loss before each update.

    Each of `losses` is a batch's share of a step's loss; reading it has added its gradient.
    """
    if not model.training:
        model.train()
    scheduler, step = run.plan.scheduler(optimizer), 0
    while step < run.plan.total_steps and not run.should_stop():
        optimizer.zero_grad()
        loss = sum(islice(losses, accumulate))
        lrs = [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        run.report(step, loss, lrs=lrs)
        run.look()  # at every step: a loss_fn may well raise on weights that are not numbers
        step += 1
        if step < run.plan.total_steps:
            scheduler.step()
    outcome: Outcome = "diverged" if run.diverged() else "completed"
    ended = RunResult(score=None, outcome=outcome, n_steps=step, n_images=0, seconds=0.0)
    audit_run(run.plan, run.points, ended)


def _backward(loss: Tensor, accumulate: int) -> Tensor:
    """Add the gradient of one batch; return its share of the step's loss."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TaskError(f"loss_fn must return a tensor of one number, got {shape}")
    share = loss / accumulate
    share.backward()  # type: ignore[no-untyped-call]
    return share.detach()


def _judged(plan: Sweep, sweeps: Sequence[tuple[Point, ...]], seconds: float) -> RangeTestResult:
    judgements = tuple(judge(LRCurve.from_points(points)) for points in sweeps)
    if all(said.ending == "no finite loss" for said in judgements):
        raise TaskError(
            f"loss_fn gives fewer than 10 finite losses from start_lr={plan.start_lr:g} on "
            f"(n = {_count(len(sweeps), 'sweep')}): check data and model, or lower start_lr"
        )
    independent = judgements
    if len(sweeps) > 1 and len({repr(points) for points in sweeps}) == 1:
        log.warning("all sweeps are the same, for the data order is: they count as one")
        independent = judgements[:1]
    return RangeTestResult(
        plan=plan,
        points=tuple(sweeps),
        judgements=judgements,
        proposal=propose(independent),
        seconds=seconds,
    )


def _check_counts(**counts: tuple[int, int]) -> None:
    for name, (value, least) in counts.items():
        if type(value) is not int or value < least:
            raise ScheduleError(
                f"{name} must be a whole number of at least {least}, got {value!r}"
            )


def _check_parts(model: nn.Module, optimizer: Optimizer, loss_fn: Callable[..., Tensor]) -> None:
    """Refuse what would otherwise be swept in silence, or fail far from its cause."""
    scheduled = any("initial_lr" in group for group in optimizer.param_groups)
    if scheduled or hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        raise ScheduleError(
            "the optimizer has a learning-rate scheduler, and a sweep sets the rates itself: "
            "make the scheduler after the range test, or give an optimizer without one"
        )
    if not set(model.parameters()) & set(_parameters(optimizer)):
        raise TaskError("the optimizer holds none of the model's parameters")
    if isinstance(loss_fn, nn.modules.loss._Loss):
        raise TaskError(
            f"loss_fn is called as loss_fn(model, batch), got {type(loss_fn).__name__}; write "
            "lambda model, batch: criterion(model(batch[0]), batch[1])"
        )


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
