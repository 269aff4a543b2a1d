"""The space of a study: what is searched beside max_lr, as its author writes it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from studies.params import (
    CYCLE,
    Choice,
    Domain,
    Parameter,
    Range,
    Value,
    check_parameter_name,
    domain_of,
    parameter,
    searched,
)
from trainers.given import tidy
from trainers.onecycle import LAST_RATE_DIVISOR


def _rising_within(low: float, high: float, **ranges: tuple[float, float]) -> None:
    for name, values in ranges.items():
        pair = isinstance(values, tuple) and len(values) == 2
        if not pair or not low < values[0] < values[1] < high:
            raise ValueError(
                f"{name} must be two numbers that rise between {low:,} and {high:,}, got {values}"
            )


def _rise(values: tuple[int, ...]) -> bool:
    """Whether these are several whole numbers above 0, each greater than the one before."""
    whole = all(type(value) is int and value >= 1 for value in values)
    return whole and len(values) > 1 and list(values) == sorted(set(values))


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """The ranges beside `max_lr`, whose range is the bracket of the range test.

    The last rate is max_lr / 250,000 everywhere, so div_factor moves the start only.

    `weight_decay` (a range, log scaled) and `batch_size` (its values) are searched where they are
    given; the task's own, which must be among them, is the baseline's. Then Optuna samples max_lr
    as a multiple of the proposal, which each batch size has from a range test of its own.

    `extra` names further parameters of the training, each with a Range, a Choice, or a plain
    tuple: two numbers are a range, several values a choice. The run is told them
    (`run.params["dropout"]`). The baseline has the task's own value; where the task does not know
    one, the range says it: Range(0.0, 0.5, baseline=0.1).
    """

    pct_start: tuple[float, float] = (0.05, 0.6)
    div_factor: tuple[float, float] = (2.0, 100.0)
    weight_decay: tuple[float, float] | None = None
    batch_size: tuple[int, ...] | None = None
    # A dict has no hash, and studies have one: they key caches. Equality still compares it.
    extra: Mapping[str, Domain | tuple[Value, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        tidy(self)
        _rising_within(0, 1, pct_start=self.pct_start)
        _rising_within(1, LAST_RATE_DIVISOR, div_factor=self.div_factor)
        if self.weight_decay is not None:
            _rising_within(0, math.inf, weight_decay=self.weight_decay)
        sizes = self.batch_size
        if sizes is not None and not (isinstance(sizes, tuple) and _rise(sizes)):
            raise ValueError(
                f"batch_size must be two whole numbers or more that rise from at least 1, "
                f"got {sizes!r}"
            )
        if not isinstance(self.extra, Mapping):
            raise ValueError(
                f'extra must be a dict such as {{"dropout": (0.0, 0.5)}}, got {self.extra!r}'
            )
        for name, given in self.extra.items():
            if name in (*CYCLE, "weight_decay", "batch_size"):
                raise ValueError(f"extra[{name!r}]: Space({name}=...) is the place for it")
            check_parameter_name(name)
            domain_of(f"extra[{name!r}]", given)

    def domains(self) -> dict[str, Domain]:
        """Return where each parameter beside max_lr comes from, in the order of the search."""
        ranges = {
            "pct_start": self.pct_start,
            "div_factor": self.div_factor,
            "weight_decay": self.weight_decay,
        }
        domains: dict[str, Domain] = {
            name: Range(float(ends[0]), float(ends[1]), log=parameter(name).log)
            for name, ends in ranges.items()
            if ends is not None
        }
        if self.batch_size is not None:
            domains["batch_size"] = Choice(self.batch_size)
        return domains | self.extra_domains()

    def parameters(self, own_values: Mapping[str, Value]) -> tuple[Parameter, ...]:
        """Return what is searched beside max_lr; `own_values` are the task's."""
        return tuple(
            searched(name, domain, baseline=own_values.get(name))
            for name, domain in self.domains().items()
        )

    def extra_domains(self) -> dict[str, Domain]:
        """Return where each further parameter comes from."""
        return {name: domain_of(name, given) for name, given in self.extra.items()}
