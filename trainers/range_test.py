"""The range test on any model, optimizer and loader, which it leaves as it found them."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainers.batches import Batch, Batches
from trainers.calls.audit import audit_run
from trainers.errors import ScheduleError, TaskError
from trainers.gradients import gradient_norm
from trainers.groups import is_adaptive
from trainers.run import Outcome, Run, RunResult
from trainers.seeding import seed_for
from trainers.sweeps.parts import check_parts, loss_of
from trainers.sweeps.result import Points, RangeTestResult, are_copies, concluded, judged
from trainers.sweeps.stopping import next_sweep
from trainers.sweeps.sweep import LEAST_STEPS, Sweep
from trainers.sweeps.untouched import seed_everything, untouched
from trainers.torch_objects import optimizers_of

log = logging.getLogger(__name__)


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
    momentum: float = 0.85,
    accumulate: int = 1,
    cycle_steps: int | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> RangeTestResult:
    """Sweep the learning rate until it is known where the loss turns and breaks; return that, and
    the `max_lr` for a cycle of `cycle_steps` optimizer steps.

    Two sweeps that agree are enough; else more are made, `n_sweeps` at most, and one in twice the
    steps (trainers.sweeps.stopping).

    `loss_fn(model, batch)` returns the mean loss of a batch, a tensor of one number with its
    gradient; autocast belongs inside it, gradient clipping in a step pre-hook of the optimizer.
    The tensors of a batch are moved to `device` (default: where the first parameter is).
    `accumulate` batches make one step.

    Afterwards model, optimizer, generators and data order are what they were, also when a sweep
    raises (trainers.sweeps.untouched says what that covers). Every sweep starts from the weights
    and the optimizer state as given and has its own seed for data order and dropout: the interval
    says nothing about other initial weights. A model in eval mode is trained all the same; in
    one in train mode, frozen parts stay frozen. `momentum`: see Sweep. A loader that is too short
    is read again.

    An optimizer that wraps another one, as accelerate's does, is restored with it.

    Not supported: a GradScaler (steps it skips would take a rate without using it), more than one
    process, optimizers whose step needs a closure, Rprop. These and whatever makes no range test
    are refused before anything is changed: ScheduleError for rates, counts (at least 50 steps a
    sweep) or an optimizer with a scheduler, DataError for a loader that can be read only once,
    TaskError for model, optimizer and loss_fn. What only a batch can show is refused with the same
    errors, and everything is put back: an empty loader, a loss that is not one number or is not
    finite in any sweep.
    """
    _check_counts(
        n_steps=(n_steps, LEAST_STEPS), n_sweeps=(n_sweeps, 1), accumulate=(accumulate, 1)
    )
    check_parts(model, optimizer, loader, loss_fn)
    plan = Sweep(
        start_lr=start_lr,
        end_lr=end_lr,
        total_steps=n_steps,
        momentum=momentum,
        adaptive=is_adaptive(optimizer),
    )
    place = torch.device(device) if device is not None else _parameters(optimizer)[0].device
    batches, started = Batches(loader, place), time.perf_counter()
    fast, slow = tuple[Points, ...](), None
    while kind := next_sweep(judged(fast), most=n_sweeps, slow=slow is not None):
        run = Run(
            plan=plan if kind == "fast" else replace(plan, total_steps=2 * n_steps),
            seed=seed_for(seed, "sweep", len(fast) if kind == "fast" else n_sweeps),
            split=None,
        )
        with untouched(model, optimizer, loader), torch.enable_grad():
            seed_everything(run.seed, loader)
            _give_momentum(optimizer)
            # closed before everything is put back: a loader may tidy up as its reading ends
            with closing(batches.first(run.plan.total_steps * accumulate)) as source:
                losses = (
                    _backward(loss_of(loss_fn, model, batch), accumulate) for batch in source
                )
                _sweep(run, model, optimizer, losses, accumulate)
        if kind == "fast":
            fast = (*fast, tuple(run.points))
        else:
            slow = tuple(run.points)
    seconds = time.perf_counter() - started
    return _check(concluded(plan, fast, slow, seconds=seconds, cycle_steps=cycle_steps))


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
        norm = gradient_norm(_parameters(optimizer))
        optimizer.step()
        run.report(step, loss, lrs=lrs, grad_norm=norm)
        run.look()  # at every step: a loss_fn may well raise on weights that are not numbers
        step += 1
        if step < run.plan.total_steps:
            scheduler.step()
    outcome: Outcome = "diverged" if run.diverged() else "completed"
    ended = RunResult(score=None, outcome=outcome, n_steps=step, n_images=0, seconds=0.0)
    audit_run(run.plan, run.points, ended)


def _give_momentum(optimizer: Optimizer) -> None:
    """Add the momentum that a sweep switches on to the state of an RMSprop that had none.

    torch (2.14) makes that buffer at an optimizer's first step only, and later misses it.
    """
    for one in optimizers_of(optimizer):
        if isinstance(one, torch.optim.RMSprop):
            for parameter, state in one.state.items():
                if "square_avg" in state and "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)


def _backward(loss: Tensor, accumulate: int) -> Tensor:
    """Add the gradient of one batch; return its share of the step's loss."""
    share = loss / accumulate
    share.backward()  # type: ignore[no-untyped-call]
    return share.detach()


def _check(result: RangeTestResult) -> RangeTestResult:
    """Refuse sweeps that all broke before they could say anything; say so where they are all the
    same."""
    if all(j.ending in ("no finite loss", "broke at once") for j in result.judgements):
        raise TaskError(result.why_no_proposal())
    if are_copies(result.points):
        log.warning("all sweeps are the same, for the data order is: they count as one")
    return result


def _check_counts(**counts: tuple[int, int]) -> None:
    for name, (value, least) in counts.items():
        if type(value) is not int or value < least:
            raise ScheduleError(
                f"{name} must be a whole number of at least {least}, got {value!r}"
            )


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
