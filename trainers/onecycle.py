"""The plan of a cycle: torch's OneCycleLR, its parameters checked before anything is trained."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from textwrap import indent
from typing import TYPE_CHECKING, Any

from trainers.calls.schedule import Anneal, Schedule
from trainers.errors import ScheduleError
from trainers.groups import Driven, check_takes_rates, say_what_is_cycled

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

LAST_RATE_DIVISOR = 250_000
"""Every cycle ends at max_lr / this: torch's defaults (25 * 1e4), whatever div_factor is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OneCycle:
    """One 1cycle over `total_steps` optimizer steps (torch.optim.lr_scheduler.OneCycleLR).

    The first rate is `max_lr / div_factor`, the last `max_lr / last_rate_divisor`. Momentum (Adam:
    beta1) falls from `max_momentum` to `base_momentum` at the peak and rises again; an optimizer
    that has none, or `cycle_momentum=False`, leaves it out. `driven` says what optimizers the
    plan's schedulers were made for, the last one last.
    Raises ScheduleError for a plan that torch would refuse or could not follow.
    """

    max_lr: float
    total_steps: int
    # torch's own defaults, from here on.
    pct_start: float = 0.3
    div_factor: float = 25.0
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    anneal_strategy: Anneal = "cos"
    three_phase: bool = False
    cycle_momentum: bool = True
    last_rate_divisor: float = LAST_RATE_DIVISOR
    driven: list[Driven] = field(default_factory=list, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.max_lr > 0 and math.isfinite(self.max_lr)):
            raise ScheduleError(f"max_lr must be a number above 0, got {self.max_lr}")
        if type(self.total_steps) is not int or self.total_steps < 2:
            raise ScheduleError(
                f"total_steps must be a whole number of at least 2, got {self.total_steps!r}"
            )
        # torch divides by zero at a warm-up of 1 step, and silently skips a shorter one: the cycle
        # then starts at max_lr (torch 2.14.1).
        warm_up_steps = self.pct_start * self.total_steps
        if not (0 < self.pct_start < 1) or warm_up_steps < 2:
            raise ScheduleError(
                f"pct_start must leave a warm-up of at least 2 of the {self.total_steps} steps "
                f"and an anneal phase, got {self.pct_start:g} ({warm_up_steps:.2g} steps)"
            )
        # torch checks neither end: at 1 there is no warm-up, below it the cycle starts above its
        # peak, and at the other end it would start below its last rate.
        if not (1 < self.div_factor < LAST_RATE_DIVISOR):
            raise ScheduleError(
                f"div_factor must lie between 1 and {LAST_RATE_DIVISOR:,}, got {self.div_factor:g}"
            )
        if not (1 < self.final_div_factor < math.inf):
            raise ScheduleError(
                f"final_div_factor must be a number above 1, got {self.final_div_factor:g}: the "
                "cycle would end above its first rate"
            )
        # The third phase ends the cycle: torch leaves out what lies beyond total_steps.
        if self.three_phase and 2 * warm_up_steps > self.total_steps - 1:
            raise ScheduleError(
                f"pct_start must stay below 0.5 with three_phase, got {self.pct_start:g} of "
                f"{self.total_steps} steps: two phases of this length leave no third one"
            )
        if not 0 <= self.base_momentum <= self.max_momentum < 1:
            raise ScheduleError(
                "base_momentum and max_momentum must rise from at least 0 to below 1, "
                f"got base_momentum={self.base_momentum:g}, max_momentum={self.max_momentum:g}"
            )

    @property
    def final_div_factor(self) -> float:
        """torch's final_div_factor, relative to the *first* rate: 250,000 / div_factor."""
        # So div_factor moves the start only: torch's fixed 1e4 would move the last rate as well.
        return self.last_rate_divisor / self.div_factor

    @property
    def schedule(self) -> Schedule:
        """The call that makes this cycle, in torch's arguments."""
        return Schedule(
            max_lr=self.max_lr,
            total_steps=self.total_steps,
            pct_start=self.pct_start,
            anneal_strategy=self.anneal_strategy,
            cycle_momentum=self.cycle_momentum,
            base_momentum=self.base_momentum,
            max_momentum=self.max_momentum,
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            three_phase=self.three_phase,
        )

    def scheduler(self, optimizer: "Optimizer") -> "LRScheduler":
        """Return torch's OneCycleLR on `optimizer`; it sets the first rate at once.

        `max_lr` is that of the first param group; the others keep their present ratio to it, as
        in a sweep. An optimizer without momentum gets cycle_momentum=False. Raises ScheduleError
        where the first group's lr gives no ratio.
        """
        check_takes_rates(optimizer)
        driven = Driven.of(optimizer)
        self.driven.append(driven)
        schedule = self.schedule
        if self.cycle_momentum:
            say_what_is_cycled(optimizer)
            schedule = replace(schedule, cycle_momentum=bool(driven.has_momentum))
        return schedule.scheduler(optimizer, driven.lr_ratios)

    def lrs(self) -> Sequence[float]:
        """Return the rate of each of the `total_steps` steps: torch's numbers to the last digit.

        Computed as OneCycleLR.get_lr() does, so that nothing but a training loop needs torch.
        """
        first, last = self.max_lr / self.div_factor, self._last_lr
        middle = [(self.max_lr, first)] if self.three_phase else []
        start = first if self.three_phase else self.max_lr
        return self._annealed((first, self.max_lr), *middle, (start, last))

    def momenta(self) -> Sequence[float]:
        """Return the momentum (Adam: beta1) of each step, as OneCycleLR.get_lr() computes it.

        None at all where the cycle leaves it as it is.
        """
        high, low = self.max_momentum, self.base_momentum
        if not self.cycle_momentum:
            return ()
        rest = [(high, high)] if self.three_phase else []
        return self._annealed((high, low), (low, high), *rest)

    @property
    def _last_lr(self) -> float:
        return self.max_lr / self.div_factor / self.final_div_factor

    def _annealed(self, *phases: tuple[float, float]) -> tuple[float, ...]:
        """Return a value of each step, from the ends of each phase and what lies between them."""
        # torch's own numbers: seldom a whole step
        ends = [float(self.pct_start * self.total_steps) - 1, float(self.total_steps - 1)]
        if self.three_phase:
            ends.insert(1, float(2 * self.pct_start * self.total_steps) - 2)
        values, begin = list[float](), 0.0
        for end, (start, goal) in zip(ends, phases, strict=True):
            while len(values) <= end:
                share = (len(values) - begin) / (end - begin)
                values.append(self._between(start, goal, share))
            begin = end
        return tuple(values)

    def _between(self, start: float, end: float, share: float) -> float:
        # In torch's order of operations: another one moves the last digit.
        if self.anneal_strategy == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)

    def samples(self, n: int) -> list[tuple[int, float]]:
        """Return (step, rate) of about `n` steps to draw: first, last and peak among them."""
        rates = self.lrs()
        last = self.total_steps - 1
        peak = max(range(self.total_steps), key=rates.__getitem__)
        steps = {round(last * k / (n - 1)) for k in range(n)} | {peak}
        return [(step, rates[step]) for step in sorted(steps)]

    def call(self, *, total_steps: str | None = None, driven: Driven | None = None) -> str:
        """Return the constructor call as Python source, for your own loop.

        Six digits of each parameter; torch's defaults are left out. `driven`: the optimizer that
        it is meant for, whose groups keep their ratio, where one is known.
        """
        max_lr, *others = self.arguments(digits=6, driven=driven).items()
        steps = ("total_steps", total_steps or str(self.total_steps))
        lines = "".join(f"{name}={value},\n" for name, value in (max_lr, steps, *others))
        inside = indent(f"optimizer,\n{lines}", "    ")
        return f"torch.optim.lr_scheduler.OneCycleLR(\n{inside})"

    def keywords(self, driven: Driven | None = None) -> dict[str, Any]:
        """Return the arguments that make this cycle beside total_steps, by torch's names.

        What is torch's default is left out, but for what every study searches. `driven`: as in
        call(); max_lr is then a list where its groups have rates of their own.
        """
        call = self.schedule
        first = ("pct_start", "div_factor", "final_div_factor")
        given = {"max_lr": self._max_lr_of(driven)} | {name: getattr(call, name) for name in first}
        for each in fields(Schedule):
            value = getattr(call, each.name)
            if each.name not in ("max_lr", "total_steps", *first) and value != each.default:
                given[each.name] = value
        if not self.cycles_momentum_of(driven):
            moving = ("base_momentum", "max_momentum")
            given = {name: value for name, value in given.items() if name not in moving}
            given["cycle_momentum"] = False
        return given

    def _max_lr_of(self, driven: Driven | None) -> float | list[float]:
        ratios = (1.0,) if driven is None else driven.lr_ratios
        of_each = [self.max_lr * ratio for ratio in ratios]
        return self.max_lr if set(ratios) == {1.0} else of_each

    def arguments(
        self, *, digits: int | None = None, driven: Driven | None = None
    ) -> dict[str, str]:
        """Return keywords() as Python source; `digits` of each number, None: all of them."""

        def text(value: object) -> str:
            if isinstance(value, str):
                return f'"{value}"'
            return f"{value:.{digits}g}" if digits and type(value) is float else repr(value)

        arguments = {name: text(value) for name, value in self.keywords(driven).items()}
        if isinstance(self._max_lr_of(driven), list):
            arguments["max_lr"] = _of_each_group(text(self.max_lr))
        if self.last_rate_divisor == LAST_RATE_DIVISOR:
            # A quotient shows that the last rate is max_lr / 250,000; its decimals would not.
            arguments["final_div_factor"] = f"{LAST_RATE_DIVISOR:_} / {text(self.div_factor)}"
        return arguments

    def cycles_momentum_of(self, driven: Driven | None) -> bool:
        """Return whether the cycle moves the momentum of such an optimizer; None: of any."""
        return self.cycle_momentum and (driven is None or driven.has_momentum is not False)


def cycle_of(params: Mapping[str, Any], total_steps: int) -> OneCycle:
    """Return the cycle of `total_steps` optimizer steps of a configuration, in torch's names.

    Those that are there are used; final_div_factor makes the last rate, which otherwise is
    max_lr / 250,000.
    """
    others = ("total_steps", "last_rate_divisor", "driven")
    known = [f.name for f in fields(OneCycle) if f.name not in others]
    given = {name: params[name] for name in known if name in params}
    cycle = OneCycle(total_steps=total_steps, **given)
    if "final_div_factor" not in params:
        return cycle
    return replace(cycle, last_rate_divisor=cycle.div_factor * params["final_div_factor"])


def _of_each_group(max_lr: str) -> str:
    """Return the source of a list of rates that keep the ratios of the optimizer's groups."""
    ratio = 'group["lr"] / optimizer.param_groups[0]["lr"]'
    return f"[\n    {max_lr} * {ratio}\n    for group in optimizer.param_groups\n]"
