"""The space of a study: what is searched beside max_lr, as its author writes it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from studies.params import (
    CYCLE,
    TORCHS_OWN,
    Choice,
    Domain,
    Fixed,
    Parameter,
    Range,
    Value,
    check_parameter_name,
    domain_of,
    parameter,
    searched,
    values_of,
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


def _rates(values: object) -> tuple[float, float]:
    """Return two rates that rise, given as a tuple or a list."""
    pair = values if isinstance(values, (tuple, list)) else ()
    if len(pair) != 2 or not all(type(value) in (int, float) for value in pair):
        raise ValueError(f"max_lr must be two numbers, as in (0.001, 0.1), got {values!r}")
    low, high = pair
    if not 0 < low < high < math.inf:
        raise ValueError(f"max_lr must be two numbers that rise and lie above 0, got {values!r}")
    return float(low), float(high)


def _rise(values: tuple[int, ...]) -> bool:
    """Whether these are several whole numbers above 0, each greater than the one before."""
    whole = all(type(value) is int and value >= 1 for value in values)
    return whole and len(values) > 1 and list(values) == sorted(set(values))


PCT_START = (0.05, 0.6)
_PCT_START_OF_THREE_PHASES = (0.05, 0.45)


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """The ranges of the parameters; without one, that of `max_lr` is the range test's bracket.

    With `max_lr=(low, high)` the proposal of the range test is the baseline's where it lies
    inside, else the nearest bound; without one it is the geometric mean of the range. The range
    holds at all batch sizes, and only the task's own has a range test.

    The last rate is max_lr / 250,000 everywhere, so div_factor moves the start only.

    `weight_decay` (a range, log scaled) and `batch_size` (its values) are searched where they are
    given; the task's own, which must be among them, is the baseline's. Then Optuna samples max_lr
    as a multiple of the proposal, which each batch size has from a range test of its own.

    `extra` names further parameters of the training, each with a Range, a Choice, or plain
    values: two numbers are a range, several values a choice, and a single value holds it fixed.
    The run is told them (`run.params["dropout"]`). The baseline has the task's own value; where
    the task does not know one, the range says it: Range(0.0, 0.5, baseline=0.1).

    torch's own go to the cycle instead, and the baseline has torch's defaults: `anneal_strategy`,
    `three_phase`, `final_div_factor` (the last rate is then max_lr / (div_factor *
    final_div_factor), so that div_factor moves it too), `base_momentum`, `max_momentum` and
    `cycle_momentum`. With three_phase the default of pct_start ends at 0.45, for two phases of
    that length must leave room for the third.

    A choice named `optimizer` has a range test of its own for each of its values, as batch sizes
    have. Any other parameter may move the edge as well: max_lr is then sampled as a multiple of
    the proposal.
    """

    max_lr: tuple[float, float] | None = None
    pct_start: tuple[float, float] = PCT_START
    div_factor: tuple[float, float] = (2.0, 100.0)
    weight_decay: tuple[float, float] | None = None
    batch_size: tuple[int, ...] | None = None
    # A dict has no hash, and studies have one: they key caches. Equality still compares it.
    extra: Mapping[str, Domain | Fixed | Value | Sequence[Value]] = field(
        default_factory=dict, hash=False
    )

    def __post_init__(self) -> None:
        tidy(self)
        if self.max_lr is not None:
            object.__setattr__(self, "max_lr", _rates(self.max_lr))
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
            domain = _domain_of(name, given)
            if name in TORCHS_OWN:
                _check_torchs_own(name, domain)

    def domains(self) -> dict[str, Domain]:
        """Return where each parameter beside max_lr comes from, in the order of the search."""
        ranges = {
            "pct_start": self._pct_start,
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
        """Return where each further parameter that is searched comes from."""
        domains = {name: _domain_of(name, given) for name, given in self.extra.items()}
        return {name: each for name, each in domains.items() if not isinstance(each, Fixed)}

    def fixed(self) -> dict[str, Value]:
        """Return the further parameters that are held at one value."""
        domains = {name: _domain_of(name, given) for name, given in self.extra.items()}
        return {name: each.value for name, each in domains.items() if isinstance(each, Fixed)}

    @property
    def _pct_start(self) -> tuple[float, float]:
        three = self.extra.get("three_phase", False)
        # `is False`: anything else may be true in a cycle.
        may = three is not False and _domain_of("three_phase", three) != Fixed(False)
        return (
            _PCT_START_OF_THREE_PHASES if may and self.pct_start == PCT_START else self.pct_start
        )


def _domain_of(name: str, given: object) -> Domain | Fixed:
    """Return the domain of an extra parameter; an error says where it stands in the study."""
    try:
        return domain_of(name, given)
    except ValueError as error:
        raise ValueError(f"extra[{name!r}]{str(error).removeprefix(name)}") from None


def _check_torchs_own(name: str, domain: Domain | Fixed) -> None:
    """Raise ValueError for values that OneCycleLR could not take under that name."""
    values = values_of(domain)
    default = parameter(name).baseline
    allowed: tuple[Value, ...] | None = None
    if isinstance(default, bool):
        allowed = (True, False)
    elif isinstance(default, str):
        allowed = ("cos", "linear")
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if allowed is None and not numbers:
        raise ValueError(f"extra[{name!r}] must be numbers, got {domain}")
    if allowed is not None and not all(v in allowed and type(v) is type(default) for v in values):
        raise ValueError(f"extra[{name!r}] must be {allowed[0]} or {allowed[1]}, got {domain}")
