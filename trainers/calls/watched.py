"""What a watch over a training saw, and the reasons that the moves of the scheduler show."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from trainers.calls.pitfalls import BY_NAME


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """The steps of a training while it was watched.

    `lrs` by param group and `momenta` are those of each optimizer step, `positions` how often the
    scheduler had been stepped by then, `begin` how often when the watch began, `now` how often
    until now. `loaded`: the scheduler's state was loaded between that and the first step; `late`:
    the optimizer had been stepped before. The steps that a GradScaler made a fused optimizer skip,
    and those before a scheduler's turn in a SequentialLR, are counted and left out.
    `shares_rates`: one tensor is the rate of several param groups.
    """

    lrs: tuple[tuple[float, ...], ...]
    momenta: tuple[float, ...]
    positions: tuple[float, ...]
    begin: int
    now: int
    loaded: bool = False
    late: bool = False
    n_overflowed: int = 0
    n_waiting: int = 0
    shares_rates: bool = False

    @property
    def start(self) -> int:
        """The scheduler step that the first optimizer step was due to get."""
        if not self.positions:
            return self.begin
        first = self.positions[0]
        # made between an optimizer.step() and the scheduler.step() that belongs to it
        between = self.late and first == self.begin + 1 and self.now > self.positions[-1]
        return int(first) if self.loaded or between else self.begin


def reasons_of(watched: Watched, total: int, wrong: Sequence[int]) -> list[str]:
    """Name the pitfalls that the moves of the scheduler between the optimizer's steps show.

    `wrong` are the first steps, at most two, that ran at another rate than planned.
    """
    positions, start = watched.positions, watched.start
    n, due = len(positions), total - start
    moves = Counter(after - before for before, after in pairwise(positions))
    usual = moves.most_common(1)[0][0] if moves else 1
    if usual == 0:
        times = f"{positions[-1] - positions[0]:,.10g} times in {n:,} optimizer steps"
        return [_named("stepped-per-epoch", f"the scheduler moved {times}")]
    if usual == 2:
        return [_named("stepped-twice", "the scheduler moved twice a step, or counted 2 batches")]
    if usual > 2:
        counted = f"the scheduler moved {usual:g} times a step: batches were counted, not steps"
        return [_named("total-steps-too-big", counted)]
    reasons = [*_before_the_first(watched, total), *_between(moves), *_after_the_last(watched)]
    if not reasons and wrong:
        reasons.append(_other_rate(watched, wrong))
    if n < due and watched.now < total and positions[-1] < total - 1:
        reasons.append(_named("total-steps-too-big", f"{n:,} steps of {due:,} were taken"))
    elif n > due:
        reasons.append(_named("total-steps-too-small", f"{n:,} steps were taken, {due:,} planned"))
    return reasons


def _before_the_first(watched: Watched, total: int) -> Iterator[str]:
    """Say why the scheduler had moved when the first step began."""
    ahead = watched.positions[0] - watched.start
    if ahead <= 0:
        return
    # a loop that steps it first leaves it where the last optimizer step was
    stepped_first = watched.now == watched.positions[-1]
    skipped = (
        f"the first {'step was' if ahead == 1 else f'{ahead:g} steps were'} skipped, as a "
        "GradScaler does, and the scheduler moved all the same: step it only where "
        "scaler.get_scale() did not fall"
    )
    if ahead == 1 and stepped_first:
        yield _named("scheduler-before-optimizer", "it had moved before the first step")
        if watched.positions[-1] < total:  # else it ran beyond the end: no doubt is left
            yield f"or {skipped}"
    else:
        yield skipped


def _between(moves: Counter[float]) -> Iterator[str]:
    if odd := sum(count for move, count in moves.items() if move != 1):
        pairs = "1 pair" if odd == 1 else f"{odd:,} pairs"
        yield (
            f"the scheduler moved another number of times than once between {pairs} of "
            "steps: a GradScaler that skips steps, or a branch that misses scheduler.step()"
        )


def _after_the_last(watched: Watched) -> Iterator[str]:
    if (more := watched.now - watched.positions[-1] - 1) > 0:
        yield (
            f"the scheduler moved {more:g} more times after the last step than once: the last "
            "steps were skipped, as a GradScaler does"
        )


def _other_rate(watched: Watched, wrong: Sequence[int]) -> str:
    """Name what changed a rate although the scheduler moved as it should."""
    if watched.start and tuple(wrong) == (0,):  # the next scheduler.step() mends it
        what = f"the first step ran at {watched.lrs[0][0]:.6g}"
        return _named("resumed-without-state", what)
    if watched.shares_rates:  # torch gives every group the tensor that it was made with
        return (
            "one tensor is the rate of several param groups, so the rate of the last one is that "
            "of all: write a tensor of its own into each group before the scheduler is made"
        )
    return "the scheduler moved as it should: something else sets the rate"


def _named(name: str, what: str) -> str:
    return f"{name}: {what}. {BY_NAME[name].why}"


def nothing_seen(watched: Watched) -> str:
    """Return why no step can be compared."""
    if watched.n_overflowed:
        return "no optimizer step changed anything: a GradScaler skipped every one"
    if watched.n_waiting:
        return "no optimizer step was seen in this scheduler's turn: it waits in a SequentialLR"
    moved = watched.now - watched.begin
    if moved > 0:
        return (
            f"no optimizer step was seen, while the scheduler moved {moved:,} times: another "
            "optimizer than the one that was given is stepped, or a GradScaler skips every step"
        )
    return "no optimizer step was seen"


def remarks(watched: Watched, total: int) -> Iterator[str]:
    """Say which steps were left out, and why."""
    if watched.n_overflowed:
        yield (
            f"a GradScaler skipped the update of {_steps(watched.n_overflowed)}, not counted here"
        )
    if watched.n_waiting:
        yield f"{_steps(watched.n_waiting)} came before the turn of this scheduler, not read here"
    if 0 < watched.start < total:
        begun = f"the watch began after step {watched.start:,} of {total:,}"
        yield f"{begun}: earlier ones were not read"


def _steps(n: int) -> str:
    return f"{n:,} step" if n == 1 else f"{n:,} steps"
