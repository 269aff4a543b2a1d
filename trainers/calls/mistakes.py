"""Each mistake with the scheduler, tried on the placed readings of a log -> Explanations."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from trainers.calls.fits import Explanation, Fits
from trainers.calls.placings import Whole
from trainers.calls.schedule import Steps
from trainers.calls.within import Fraction, Step, Within

PLAN = "follows-the-plan"
UNNUMBERED = "unnumbered"
ORDER = (
    PLAN,
    "stepped-per-epoch",
    "stepped-twice",
    "wrong-steps-per-epoch",
    "accumulation-counted",
    "constant-rate",
    "cycle-restarted",
    "resumed-without-state",
    "shifted-by-one",
    "other-max-lr",
    UNNUMBERED,
)
"""The likeliest first, where several reproduce every digit."""
_FEW = 9
"""So many calls of scheduler.step() an epoch are still 'a few', not a loader's batches."""
_MOST_ACCUMULATED = 64
_ENOUGH = 3
"""Rates that tell another max_lr: one or two are in some proportion to anything."""
FAR = 1.5
"""From this factor on, another max_lr or another number of steps is a mistake that digits have to
exclude; nearer ones are listed only."""


def the_plan(fits: Fits, planned: int) -> Explanation:
    """The scheduler is stepped after every optimizer step, as the call plans."""
    plan = fits.best(PLAN, [planned], lambda p, k: p.evenly(k))
    assert plan is not None
    return replace(plan, what="the plan")


def mistakes(fits: Fits, steps: Steps, planned: int) -> list[Explanation]:
    """Return every mistake that the log's places allow to be tried."""
    found = [
        *_stepped(fits, steps, planned),
        *_again(fits, planned),
        _other_max_lr(fits, planned),
        _constant(fits),
        _unnumbered(fits),
    ]
    return [explanation for explanation in found if explanation is not None]


def _stepped(fits: Fits, steps: Steps, planned: int) -> Iterator[Explanation | None]:
    """The scheduler stepped another number of times an epoch, all through the log."""
    most, placing = len(fits.lrs) - 1, fits.placing
    few = range(1, min(_FEW, (planned - 1) // 2) + 1)
    yield _said(
        fits.best("stepped-per-epoch", few, lambda p, k: p.by_epoch(k, planned)),
        lambda v: f"scheduler.step() called {_times(v)}, not once a batch ({planned:,})",
        "call scheduler.step() after every optimizer.step()",
    )
    most_batches = _MOST_ACCUMULATED if _counts_batches(fits, planned) else 1
    accumulated = [a for a in range(2, most_batches + 1) if -(-planned // a) < planned]
    yield _said(
        _in_steps(
            fits.best("accumulation-counted", accumulated, lambda p, a: p.accumulated(a, planned)),
            planned,
        ),
        lambda v: (
            f"gradients accumulated over {_batches(v, planned)} batches, each counted "
            f"as a step: {listed(v)} optimizer steps an epoch, not {planned:,}"
        ),
        "divide steps_per_epoch by the batches to a step",
    )
    others: Sequence[int] = placing.lengths(most)
    if isinstance(placing, Whole | Fraction):
        others = others if steps.loader_steps is None else [steps.loader_steps]
        others = [k for k in others if k > len(few)]
    yield _said(
        fits.best(
            "wrong-steps-per-epoch", [k for k in others if k != planned], lambda p, k: p.evenly(k)
        ),
        lambda v: (
            f"{_said_as(steps, planned)} is wrong: an epoch has {listed(v)} steps"
            f"{_of_the_data(v, steps)}"
        ),
        "count len(train_loader) steps an epoch",
    )
    yield _said(
        fits.best("stepped-twice", [planned], lambda p, k: p.twice(k)),
        lambda v: "scheduler.step() called twice a batch: torch raises at half of the training",
        "let the framework or the loop step it, not both",
    )


def _counts_batches(fits: Fits, planned: int) -> bool:
    """Whether the places can be those of the batches that the call counts as steps."""
    placing = fits.placing
    if isinstance(placing, Step):
        return not placing.counted or fits.n > planned
    return not isinstance(placing, Within) or placing.length in (None, planned)


def _again(fits: Fits, planned: int) -> Iterator[Explanation | None]:
    """The scheduler one step ahead, a cycle begun again, a resumed run whose optimizer was new."""
    placing = fits.placing
    yield _said(
        fits.best("shifted-by-one", [1], lambda p, _: p.ahead(planned)),
        lambda v: "the scheduler is one step ahead: stepped before the optimizer",
        "call optimizer.step() first, then scheduler.step()",
    )
    last = min(math.ceil(placing.epochs_done.max()), len(fits.lrs) // planned)
    yield _said(
        fits.best("cycle-restarted", range(2, last + 1), lambda p, r: p.restarted(r, planned)),
        lambda v: f"the cycle began again at epoch {listed(v)}",
        "load the scheduler's and the optimizer's state when you resume",
    )
    yield _said(
        fits.best("cycle-restarted", range(1, last), lambda p, every: p.repeated(every, planned)),
        lambda v: f"the cycle begins again every {listed(v)} epochs",
        "make the scheduler once, before the loop over epochs",
    )
    if isinstance(placing, Whole):
        whole = placing
        resumed = [r for r in range(2, last + 1) if (whole.epoch == r).any()]
        yield _said(
            fits.best(
                "resumed-without-state",
                resumed,
                lambda p, r: p.resumed(r, planned) if isinstance(p, Whole) else [],
            ),
            lambda v: (
                f"epoch {listed(v)} began at the first rate: resumed without the optimizer's state"
            ),
            "load the optimizer's state after the scheduler is made",
        )


def _constant(fits: Fits) -> Explanation | None:
    if not fits.constant:
        return None
    rate = float((fits.low.max() + fits.high.min()) / 2)
    return Explanation(
        name="constant-rate",
        n_fit=fits.n,
        missed=0.0,
        values=(),
        what=f"the rate does not move: {rate:.4g} gives every printed digit",
        instead="look whether scheduler.step() is called, and on the optimizer that is printed",
    )


def _unnumbered(fits: Fits) -> Explanation | None:
    """A log without numbers follows the plan if its rates were printed every so many steps."""
    placing = fits.placing
    if not (isinstance(placing, Step) and placing.counted):
        return None
    most = len(fits.lrs) // fits.n
    return _said(
        fits.best(
            UNNUMBERED,
            range(2, most + 1),
            lambda p, k: p.every(k) if isinstance(p, Step) else [],
        ),
        lambda v: (
            f"the plan gives the rates if one was printed every {listed(v)} steps, which "
            "the log does not say"
        ),
        "print the number of the step with the rate",
    )


def _other_max_lr(fits: Fits, planned: int) -> Explanation | None:
    factors = fits.scaled(fits.placing.evenly(np.array([[planned]])))
    if factors is None or factors[1] <= 0 or fits.n < _ENOUGH:
        return None
    if factors[0] <= 1 <= factors[1] and not _far(*factors):
        return None
    low, high = (max(0.0, factor) * float(fits.lrs.max()) for factor in factors)
    rates = f"{low:.3g}" if high - low < 0.005 * high else f"{low:.3g} to {high:.3g}"
    return Explanation(
        name="other-max-lr",
        n_fit=fits.n,
        missed=0.0,
        values=(),
        what=f"the rates are those of the plan under another max_lr: {rates}",
        instead="give the max_lr of the param group that the log prints",
    )


def _far(low: float, high: float) -> bool:
    return low <= 1 / FAR or high >= FAR


def _in_steps(found: Explanation | None, planned: int) -> Explanation | None:
    """Return an explanation by batches to a step as one by steps an epoch."""
    if found is None:
        return None
    return replace(found, values=tuple(sorted({-(-planned // a) for a in found.values})))


def _said(
    found: Explanation | None, what: Callable[[Sequence[int]], str], instead: str
) -> Explanation | None:
    return None if found is None else replace(found, what=what(found.values), instead=instead)


def _times(values: Sequence[int]) -> str:
    if tuple(values) == (1,):
        return "once an epoch"
    phases = "once a phase: train, validate, test"
    return f"{listed(values)} times an epoch" + (f" ({phases}?)" if {2, 3} & set(values) else "")


def _batches(values: Sequence[int], planned: int) -> str:
    return listed(
        [a for a in range(2, _MOST_ACCUMULATED + 1) if math.ceil(planned / a) in set(values)]
    )


def _said_as(steps: Steps, planned: int) -> str:
    if steps.total_steps is not None:
        return f"total_steps={steps.total_steps} ({planned:,} an epoch)"
    return f"steps_per_epoch={planned}"


def _of_the_data(values: Sequence[int], steps: Steps) -> str:
    if steps.loader_steps in values:
        return f" (your data: {steps.explained_epoch()})"
    return ""


def listed(values: Sequence[int]) -> str:
    """Return numbers as runs: '3 to 5', '2, 4 or 8', shortened where there are many."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [f"{r[0]:,}" if len(r) == 1 else f"{r[0]:,} to {r[-1]:,}" for r in runs]
    if len(texts) > 4:
        texts = [*texts[:3], f"others up to {max(values):,}"]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"
