"""A OneCycleLR call as anybody writes it: its arguments, its steps, and what torch applies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from trainers.errors import ScheduleError

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import OneCycleLR

Anneal = Literal["cos", "linear"]

# A float, in which torch reckons the phases, counts every step up to here.
_MOST = 2**53


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The arguments of torch.optim.lr_scheduler.OneCycleLR, good or bad, with torch's defaults.

    Bad ones can be held on purpose: trainers.calls.lint says what is wrong with them. Raises
    ScheduleError for what is no number at all.
    """

    max_lr: float
    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: Anneal = "cos"
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        if not (self.max_lr > 0 and math.isfinite(self.max_lr)):
            raise ScheduleError(f"max_lr must be a number above 0, got {self.max_lr}")
        _whole(1, total_steps=self.total_steps)
        if self.anneal_strategy not in ("cos", "linear"):
            raise ScheduleError(
                f"anneal_strategy must be cos or linear, got {self.anneal_strategy!r}"
            )
        for name in ("pct_start", "div_factor", "final_div_factor"):
            if not math.isfinite(getattr(self, name)):
                raise ScheduleError(f"{name} must be a number, got {getattr(self, name)}")
        if not 0 <= self.pct_start <= 1:
            raise ScheduleError(f"pct_start must lie between 0 and 1, got {self.pct_start:g}")
        for name in ("base_momentum", "max_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ScheduleError(f"{name} must lie in [0, 1), got {getattr(self, name):g}")
        if self.div_factor and self.final_div_factor:  # a zero is the lint's to name
            rates = {"first": self.first_lr, "last": self.last_lr}
            for name, rate in rates.items():
                if not 0 < abs(rate) < math.inf:
                    raise ScheduleError(
                        f"the {name} rate must be a number above 0, got {rate:g} from max_lr="
                        f"{self.max_lr:g}, div_factor={self.div_factor:g} and "
                        f"final_div_factor={self.final_div_factor:g}"
                    )

    @property
    def first_lr(self) -> float:
        """max_lr / div_factor, whatever the optimizer's lr was."""
        return self.max_lr / self.div_factor

    @property
    def last_lr(self) -> float:
        """max_lr / (div_factor * final_div_factor): what the last step of a whole cycle gets."""
        return self.first_lr / self.final_div_factor

    @property
    def warm_up_steps(self) -> float:
        """pct_start * total_steps: the peak is at this minus 1, counted from 0."""
        return self.pct_start * self.total_steps

    def scheduler(
        self, optimizer: "Optimizer", ratios: Sequence[float] | None = None
    ) -> "OneCycleLR":
        """Return torch's OneCycleLR on `optimizer`; it sets the first rate at once.

        `ratios` of the param groups make max_lr a list; without, all groups share it.
        """
        from torch.optim.lr_scheduler import OneCycleLR

        arguments = asdict(self)
        if ratios is not None:
            arguments["max_lr"] = [self.max_lr * ratio for ratio in ratios]
        return OneCycleLR(optimizer, **arguments)

    def call(self, names: Mapping[str, object] | None = None) -> str:
        """Return the call on one line, what is torch's default left out.

        `names` replaces total_steps, as in {"epochs": 200, "steps_per_epoch": 391}.
        """
        written: dict[str, object] = {"max_lr": self.max_lr}
        written |= names or {"total_steps": self.total_steps}
        for field in fields(self)[2:]:
            if getattr(self, field.name) != field.default:
                written[field.name] = getattr(self, field.name)
        return f"OneCycleLR({', '.join(f'{k}={_plain(v)}' for k, v in written.items())})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """Where total_steps came from, and how many optimizer steps the loop will really take.

    A batch that is left over counts (`drop_last`: it does not), and so does the optimizer step
    that ends an epoch on fewer than `accumulate` batches.
    """

    total_steps: int | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None
    dataset_size: int | None = None
    batch_size: int | None = None
    drop_last: bool = False
    accumulate: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "drop_last" and value is not None:
                _whole(1, **{field.name: value})
        if self.dataset_size is None and (self.drop_last or self.accumulate > 1):
            name = "drop_last" if self.drop_last else f"accumulate={self.accumulate}"
            raise ScheduleError(f"{name} needs dataset_size and batch_size")
        if self.dataset_size is not None and self.batch_size is None:
            raise ScheduleError(f"dataset_size={self.dataset_size} needs batch_size")
        if self.dataset_size is not None and self.loader_steps == 0:
            raise ScheduleError(
                f"batch_size={self.batch_size} with drop_last leaves no batch of "
                f"dataset_size={self.dataset_size}"
            )
        if self.total_steps is None and self._planned_per_epoch * (self.epochs or 0) == 0:
            raise ScheduleError(
                "give total_steps, or epochs with steps_per_epoch (the number of batches, not "
                "the size of one) or with dataset_size and batch_size"
            )

    @property
    def loader_steps(self) -> int | None:
        """Optimizer steps of one epoch over the data, None where the data is not given."""
        batches = self.batches
        return None if batches is None else -(-batches // self.accumulate)

    @property
    def batches(self) -> int | None:
        """len(train_loader), None where the data is not given."""
        if self.dataset_size is None or self.batch_size is None:
            return None
        whole, left = divmod(self.dataset_size, self.batch_size)
        return whole + (left > 0 and not self.drop_last)

    @property
    def _planned_per_epoch(self) -> int:
        return self.steps_per_epoch or self.loader_steps or 0

    @property
    def planned(self) -> int:
        """What torch takes as total_steps."""
        if self.total_steps is not None:
            return self.total_steps
        assert self.epochs is not None
        return self.epochs * self._planned_per_epoch

    @property
    def taken(self) -> int | None:
        """Optimizer steps that the loop will take, None where that is not known."""
        per_epoch = self.loader_steps
        if per_epoch is None and self.total_steps is not None:
            per_epoch = self.steps_per_epoch
        return None if self.epochs is None or per_epoch is None else self.epochs * per_epoch

    @property
    def per_epoch(self) -> int | None:
        """Optimizer steps of an epoch as the call plans them, None without epochs."""
        if self.epochs is None:
            return None
        return self._planned_per_epoch or max(1, round(self.planned / self.epochs))

    @property
    def names(self) -> dict[str, int]:
        """What the call says instead of total_steps, as written."""
        if self.total_steps is not None:
            return {"total_steps": self.total_steps}
        assert self.epochs is not None
        return {"epochs": self.epochs, "steps_per_epoch": self._planned_per_epoch}

    def explained(self) -> str:
        """Return how total_steps came about: '200 epochs x 391 steps'."""
        parts = []
        if self.total_steps is not None:
            parts.append("given as total_steps")
        else:
            parts.append(f"{self.epochs:,} epochs x {self._planned_per_epoch:,} steps")
        if self.loader_steps is not None:
            parts.append(self.explained_epoch())
        return "; ".join(parts)

    def explained_epoch(self) -> str:
        """Return the steps of an epoch over the data: '50,000 / 128 = 390.6, so 391 batches'."""
        assert self.dataset_size is not None
        assert self.batch_size is not None
        text = (
            f"{self.dataset_size:,} / {self.batch_size:,} = "
            f"{self.dataset_size / self.batch_size:.6g}, so {self.batches:,} batches"
        )
        if self.drop_last:
            text += " (drop_last)"
        if self.accumulate > 1:
            text += f", {self.accumulate} to a step: {self.loader_steps:,} steps"
        return text


@dataclass(frozen=True, slots=True)
class Preview:
    """What torch's class applies: rate and momentum (Adam: beta1) of each optimizer step.

    `after` is what get_last_lr() says after one more scheduler.step(), which torch accepts and no
    step of a whole cycle uses; None where torch raises. `momenta` is empty where nothing cycles.
    """

    lrs: tuple[float, ...]
    momenta: tuple[float, ...]
    after: float | None

    @property
    def peak(self) -> int:
        """The step with the highest rate, counted from 0."""
        return max(range(len(self.lrs)), key=self.lrs.__getitem__)

    @property
    def mean_lr(self) -> float:
        """Mean rate over the steps."""
        return math.fsum(self.lrs) / len(self.lrs)


# A command asks several times about one call; each entry holds two numbers a step.
@lru_cache(maxsize=8)
def preview(schedule: Schedule) -> Preview:
    """Step torch's class on an optimizer of one number.

    Raises ScheduleError with torch's words for a call that torch refuses.
    """
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0, momentum=0.9)
    group = optimizer.param_groups[0]
    lrs, momenta = [], []
    try:
        scheduler = schedule.scheduler(optimizer)
        optimizer.step()  # once, or torch warns of the wrong order; it has nothing to update
        for step in range(schedule.total_steps):
            if step:
                scheduler.step()
            lrs.append(float(group["lr"]))
            momenta.append(float(group["momentum"]))
    except (ArithmeticError, ValueError) as error:
        raise ScheduleError(
            f"torch refuses {schedule.call()}: {type(error).__name__}: {error}"
        ) from error
    after: float | None
    try:
        scheduler.step()
        after = float(group["lr"])
    except ArithmeticError:
        after = None
    return Preview(tuple(lrs), tuple(momenta) if schedule.cycle_momentum else (), after)


def rate_at(schedule: Schedule, step: int) -> float:
    """Return the rate of `step` (from 0) in closed form, without torch.

    A copy of OneCycleLR.get_lr's arithmetic, held to torch step by step in the tests. Raises
    ZeroDivisionError where torch does.
    """
    first, top, last = schedule.first_lr, schedule.max_lr, schedule.last_lr
    up = float(schedule.warm_up_steps) - 1
    phases = [(up, first, top)]
    if schedule.three_phase:
        phases.append((float(2 * schedule.pct_start * schedule.total_steps) - 2, top, first))
        phases.append((schedule.total_steps - 1, first, last))
    else:
        phases.append((schedule.total_steps - 1, top, last))
    begin = 0.0
    for number, (end, start_lr, end_lr) in enumerate(phases):
        if step <= end or number == len(phases) - 1:
            # as in OneCycleLR.get_lr: a first phase of 0 steps divides by zero there too
            share = (step - begin) / (end - begin)
            if schedule.anneal_strategy == "linear":
                return (end_lr - start_lr) * share + start_lr
            return end_lr + (start_lr - end_lr) / 2.0 * (math.cos(math.pi * share) + 1)
        begin = end
    raise AssertionError("a schedule has phases")


def _whole(low: int, **values: Any) -> None:
    for name, value in values.items():
        if type(value) is not int or value < low:
            raise ScheduleError(f"{name} must be a whole number of at least {low}, got {value!r}")
        if value > _MOST:
            raise ScheduleError(f"{name} must be at most {_MOST:,}, got a larger number")


def _plain(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else repr(value)
