"""How well `diagnose` tells mistakes apart.

    python -m benchmarks.diagnose                 print the confusion matrix of 50 logs per mistake
    python -m benchmarks.diagnose --logs 10       a smaller one, in half a minute
    python -m benchmarks.diagnose --write docs/benchmarks/diagnose.md

Every log is printed by a loop that makes the mistake with torch's own optimizer and scheduler, its
rates rounded to 4 decimals. 50 logs take three minutes of one core.
"""

import argparse
import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Literal, get_args

import torch
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.commands import Flags, at_least, ended
from benchmarks.tables import Page, table
from trainers.calls.diagnose import diagnose
from trainers.calls.logs import parse
from trainers.calls.schedule import Anneal, Schedule, Steps

COMMAND = "python -m benchmarks.diagnose --write docs/benchmarks/diagnose.md"

OPENING = """
They are printed by loops that make the mistake with torch's own optimizer and scheduler, every
rate rounded to 4 decimals. The calls are random: 10 to 60 epochs of 20 to 200 steps, `max_lr`
0.003 to 1, `pct_start` 0.1 to 0.6, cosine or linear. The loop prints the rate of an epoch's first
step, of its last, or the one that is next.

"Digits show it": so many of the logs differ from what the plan itself prints at any of these three
moments. The others cannot be told from a sound training, and are not called a mistake. "First or
equal": the mistake was named first, or is listed among those that give every digit. The numbered
columns say what was named first.
"""

Moment = Literal["first", "last", "next"]
"""When a loop prints: the rate of an epoch's first or last step, or the next epoch's first."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call, and when its loop prints; `random` picks the details of the mistake."""

    epochs: int
    per_epoch: int
    max_lr: float
    pct_start: float
    anneal_strategy: Anneal
    moment: Moment
    seed: int

    @property
    def schedule(self) -> Schedule:
        """The call."""
        return Schedule(
            max_lr=self.max_lr,
            total_steps=self.epochs * self.per_epoch,
            pct_start=self.pct_start,
            anneal_strategy=self.anneal_strategy,
        )

    @property
    def random(self) -> Random:
        """A generator of its own for the mistake."""
        return Random(self.seed)

    def made(self) -> tuple[torch.optim.Optimizer, OneCycleLR]:
        """Return a new optimizer and its scheduler, as the call makes it."""
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
        return optimizer, self.schedule.scheduler(optimizer)


Rates = Iterator[tuple[float, float, float]]
"""Of each epoch: the rate of its first step, of its last, and of the next."""


def epochs_of(
    case: Case,
    optimizer: torch.optim.Optimizer,
    scheduler: OneCycleLR,
    *,
    epochs: int,
    batches: int,
    calls: Callable[[int], int] = lambda batch: 1,
    ahead: bool = False,
) -> Rates:
    """Train; `calls` of scheduler.step() follow a batch (`ahead`: come before it)."""
    group = optimizer.param_groups[0]
    for _ in range(epochs):
        used = []
        for batch in range(batches):
            for _ in range(calls(batch) if ahead else 0):
                scheduler.step()
            used.append(group["lr"])
            optimizer.step()
            for _ in range(0 if ahead else calls(batch)):
                scheduler.step()
        yield used[0], used[-1], group["lr"]


def follows(case: Case) -> Rates:
    """Train as torch's documentation says."""
    return epochs_of(case, *case.made(), epochs=case.epochs, batches=case.per_epoch)


def truncated(case: Case) -> Rates:
    """End early."""
    epochs = max(2, round(case.random.uniform(0.2, 0.9) * case.epochs))
    return epochs_of(case, *case.made(), epochs=epochs, batches=case.per_epoch)


def per_epoch(case: Case) -> Rates:
    """Step the scheduler 1 to 5 times an epoch: at its end, or once a phase."""
    times, last = case.random.randint(1, 5), case.per_epoch - 1
    return epochs_of(
        case,
        *case.made(),
        epochs=case.epochs,
        batches=case.per_epoch,
        calls=lambda batch: times if batch == last else 0,
    )


def wrong_steps(case: Case) -> Rates:
    """Train on another number of batches than steps_per_epoch says."""
    low, high = case.random.choice([(0.3, 0.9), (1.1, 2.5)])
    batches = max(10, round(case.random.uniform(low, high) * case.per_epoch))
    return epochs_of(case, *case.made(), epochs=case.epochs, batches=batches)


def accumulated(case: Case) -> Rates:
    """Step once for several batches, each of which steps_per_epoch counts."""
    batches = math.ceil(case.per_epoch / case.random.choice([2, 4, 8]))
    return epochs_of(case, *case.made(), epochs=case.epochs, batches=batches)


def restarted(case: Case) -> Rates:
    """Make a new optimizer and scheduler in the middle; the epochs count on."""
    first = round(case.random.uniform(0.1, 0.9) * case.epochs)
    yield from epochs_of(case, *case.made(), epochs=first, batches=case.per_epoch)
    rest = case.epochs - first
    yield from epochs_of(case, *case.made(), epochs=rest, batches=case.per_epoch)


def twice(case: Case) -> Rates:
    """Step the scheduler twice a batch."""
    return epochs_of(
        case, *case.made(), epochs=case.epochs, batches=case.per_epoch, calls=lambda batch: 2
    )


def without_state(case: Case) -> Rates:
    """Resume in the middle with the scheduler's state and a new optimizer."""
    first = round(case.random.uniform(0.1, 0.9) * case.epochs)
    optimizer, scheduler = case.made()
    yield from epochs_of(case, optimizer, scheduler, epochs=first, batches=case.per_epoch)
    kept = scheduler.state_dict()
    optimizer, scheduler = case.made()
    scheduler.load_state_dict(kept)
    rest = case.epochs - first
    yield from epochs_of(case, optimizer, scheduler, epochs=rest, batches=case.per_epoch)


def ahead(case: Case) -> Rates:
    """Step the scheduler before the optimizer."""
    return epochs_of(case, *case.made(), epochs=case.epochs, batches=case.per_epoch, ahead=True)


MISTAKES: dict[str, Callable[[Case], Rates]] = {
    "follows-the-plan": follows,
    "truncated": truncated,
    "stepped-per-epoch": per_epoch,
    "wrong-steps-per-epoch": wrong_steps,
    "accumulation-counted": accumulated,
    "stepped-twice": twice,
    "cycle-restarted": restarted,
    "resumed-without-state": without_state,
    "shifted-by-one": ahead,
}


def cases(n: int, seed: int) -> list[Case]:
    """Return random calls of 10 to 60 epochs of 20 to 200 steps."""
    random = Random(seed)
    return [
        Case(
            epochs=random.randint(10, 60),
            per_epoch=random.randint(20, 200),
            max_lr=math.exp(random.uniform(math.log(0.003), 0)),
            pct_start=random.uniform(0.1, 0.6),
            anneal_strategy=random.choice(get_args(Anneal)),
            moment=random.choice(get_args(Moment)),
            seed=random.getrandbits(32),
        )
        for _ in range(n)
    ]


def printed(case: Case, mistake: Callable[[Case], Rates]) -> str:
    """Return the log of a loop, as far as torch lets it run."""
    lines = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the wrong order once
        try:
            for epoch, rates in enumerate(mistake(case), 1):
                lr = rates[get_args(Moment).index(case.moment)]
                lines.append(f"Epoch {epoch}/{case.epochs} loss=1.234 LR={lr:.4f}")
        except ValueError:
            lines.append("ValueError: Tried to step too many times")
    return "\n".join(lines)


@dataclass(frozen=True)
class Judged:
    """What came of one log."""

    verdict: str
    equals: tuple[str, ...]
    identifiable: bool

    def right(self, name: str) -> bool:
        """Whether the mistake was named first, or is listed among the equals."""
        return name == self.verdict or name in self.equals


def judged(case: Case, name: str) -> Judged:
    """Diagnose one log; it shows its mistake unless the plan, printed at some moment of the epoch,
    has the very same lines."""
    text = printed(case, MISTAKES[name])
    steps = Steps(epochs=case.epochs, steps_per_epoch=case.per_epoch)
    found = diagnose(parse(text), case.schedule, steps)
    planned = {printed(replace(case, moment=moment), follows) for moment in get_args(Moment)}
    told_apart = name == "follows-the-plan" or text not in planned
    return Judged(found.verdict, tuple(dict.fromkeys(e.name for e in found.equals)), told_apart)


def matrix(n: int) -> str:
    """Return the confusion matrix over `n` logs of each mistake."""
    names = list(MISTAKES)
    columns = [*names, "says-nothing", "unexplained"]
    head = ["mistake made", "digits show it", "named first", "first or equal", "median equals"]
    heads = [*head, *(str(number) for number in range(1, len(names) + 1)), "nothing", "none"]
    rows = []
    for number, name in enumerate(names, 1):
        found = [j for case in cases(n, seed=1) if (j := judged(case, name)).identifiable]
        counts = Counter(j.verdict for j in found)
        right = sum(j.right(name) for j in found)
        first = sum(j.verdict == name for j in found)
        equals = f"{median(len(j.equals) for j in found):g}" if found else "-"
        share = f"{right} ({right / len(found):.0%})" if found else "-"
        cells = [
            f"{number} {name}",
            len(found),
            first,
            share,
            equals,
            *(counts[c] or "" for c in columns),
        ]
        rows.append(cells)
    return table(heads, rows)


def page(n: int, made: str) -> Page:
    """Return the page of a matrix that was `made` of `n` logs of each mistake."""
    version = torch.__version__.partition("+")[0]
    return Page(
        title="`diagnose`: long table",
        command=COMMAND,
        opening=f"{n} logs of each mistake, torch {version}.\n\n{OPENING.strip()}",
        sections=[("What was named first", made)],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the matrix, or write its page; return the exit code."""
    flags = Flags("diagnose", __doc__)
    flags.add_argument("--logs", type=at_least(1), default=50, metavar="N", help="of each mistake")
    flags.add_argument("--write", type=Path, metavar="PAGE", help="write the page to this file")
    return ended(partial(_diagnose, flags.parse_args(argv)))


def _diagnose(asked: argparse.Namespace) -> None:
    begun = time.perf_counter()
    made = matrix(asked.logs)
    if asked.write is not None:
        page(asked.logs, made).write(asked.write)
    else:
        print(made)
    took = time.perf_counter() - begun
    print(f"\n{asked.logs} logs per mistake, {took:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
