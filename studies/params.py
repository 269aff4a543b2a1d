"""The table of parameters: what a study samples, each declared once and read by everything.

A parameter's name, scale, range or choices, baseline value, digits and heading stand here. Space,
storage, importances, region, tables, figures, exports and protocol ask these declarations.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Value = float | int | str | bool
"""What a parameter may be: a plain JSON value."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`; `log`: equal shares for equal factors.

    `baseline` is the value outside of a search; None: the task's own. Whole numbers for both ends
    make a range of whole numbers.
    """

    low: float
    high: float
    log: bool = False
    baseline: float | None = None

    def __post_init__(self) -> None:
        numbers = _is_number(self.low) and _is_number(self.high)
        if not numbers or not -math.inf < self.low < self.high < math.inf:
            raise ValueError(
                f"a range must be two numbers that rise, got {self.low!r}, {self.high!r}"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"a range with log=True must lie above 0, got {self.low!r}")
        if self.baseline is not None and not self.holds(self.baseline):
            whole = " and be a whole number" if self.is_whole else ""
            raise ValueError(f"baseline must lie in {self}{whole}, got {self.baseline!r}")

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return type(self.low) is int and type(self.high) is int

    def holds(self, value: Value) -> bool:
        """Whether a value lies in the range."""
        fits = type(value) is int or not self.is_whole
        return fits and _is_number(value) and self.low <= float(value) <= self.high

    def at(self, share: float) -> Value:
        """Return the value at a place between 0 and 1."""
        if self.log:
            value = self.low * math.exp(share * math.log(self.high / self.low))
        else:
            value = float(self.low + (self.high - self.low) * share)
        # round(), not int(), which would hardly ever reach the upper end.
        return round(value) if self.is_whole else value

    def share(self, value: Value) -> float:
        """Return the place of a value between 0 and 1: the inverse of at()."""
        number = float(value)
        if self.log:
            return math.log(number / self.low) / math.log(self.high / self.low)
        return (number - self.low) / (self.high - self.low)

    def suggest(self, trial: "BaseTrial", name: str) -> Value:
        """Ask Optuna for a value."""
        if self.is_whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values; each has an equal share. `baseline`: as in a Range."""

    values: tuple[Value, ...]
    baseline: Value | None = None

    def __post_init__(self) -> None:
        several = isinstance(self.values, tuple) and len(self.values) > 1
        plain = several and all(_is_plain(value) for value in self.values)
        if not plain or len(set(map(_identity, self.values))) < len(self.values):
            raise ValueError(
                f"choices must be a tuple of two different numbers or texts or more, "
                f"got {self.values!r}"
            )
        if self.baseline is not None and not self.holds(self.baseline):
            raise ValueError(f"baseline must be one of {self}, got {self.baseline!r}")

    def holds(self, value: Value) -> bool:
        """Whether a value is one of the choices."""
        return _identity(value) in map(_identity, self.values)

    def at(self, share: float) -> Value:
        """Return the value at a place between 0 and 1."""
        n = len(self.values)
        # A share of exactly 1 belongs to the last choice.
        return self.values[min(n - 1, int(n * share))]

    def share(self, value: Value) -> float:
        """Return the place of a value between 0 and 1.

        Positive numbers lie where their logarithms do, for most such choices are sizes; anything
        else lies at equal distances in the order given.
        """
        if all(_is_number(each) and float(each) > 0 for each in self.values):
            numbers = [float(each) for each in self.values]
            low, high = min(numbers), max(numbers)
            return math.log(float(value) / low) / math.log(high / low)
        return self.values.index(value) / (len(self.values) - 1)

    def suggest(self, trial: "BaseTrial", name: str) -> Value:
        """Ask Optuna for a value."""
        return trial.suggest_categorical(name, self.values)  # type: ignore[return-value]

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))


@dataclass(frozen=True, slots=True)
class Fixed:
    """One value, held through a whole study: it is told to every run and sampled in none."""

    value: Value

    def __post_init__(self) -> None:
        if not _is_plain(self.value):
            raise ValueError(f"a fixed value must be a number or a text, got {self.value!r}")

    def __str__(self) -> str:
        return str(self.value)


Domain = Range | Choice
"""Where the values of a parameter that is searched come from."""


def values_of(domain: "Domain | Fixed") -> tuple[Value, ...]:
    """Return the values that bound a domain: both ends, every choice, the one value."""
    if isinstance(domain, Range):
        return (domain.low, domain.high)
    return domain.values if isinstance(domain, Choice) else (domain.value,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One thing that a study samples.

    `digits` is how numbers are written (a format specification), `heading` what stands over a
    narrow column. `domain` and `baseline` are those of a study; None in the table of this module,
    and for max_lr, whose range the range test measures.
    """

    name: str
    log: bool = False
    digits: str = ".3g"
    heading: str = ""
    domain: Domain | None = None
    baseline: Value | None = None

    def text(self, value: Value) -> str:
        """Return a value as it is shown."""
        if isinstance(value, (str, bool)):
            return str(value)
        return f"{value:d}" if isinstance(value, int) else f"{value:{self.digits}}"


def spanned(name: str, values: Iterable[Value], *, choices: bool = False) -> tuple[Value, ...]:
    """Return what values of a parameter span: lowest and highest, of choices each that is met.

    `choices`: the study says that these are choices, which numbers do not show.
    """
    met = list(values)
    if choices or _are_choices(name, met):
        return tuple(sorted(set(met), key=str if any(isinstance(v, str) for v in met) else float))
    return (min(met), max(met))


def span_text(name: str, span: Iterable[Value], *, choices: bool = False) -> str:
    """Return what spanned() found in words: '0.1 to 0.4', or '64 or 128'."""
    met = list(dict.fromkeys(span)) if choices else list(span)
    between = " or " if choices or _are_choices(name, met) else " to "
    return between.join(parameter(name).text(value) for value in met)


def _are_choices(name: str, values: Iterable[Value]) -> bool:
    """Whether values are told one by one: batch sizes, and whatever is no number."""
    return name == "batch_size" or not all(_is_number(value) for value in values)


TABLE: Mapping[str, Parameter] = {
    each.name: each
    for each in (
        Parameter(name="max_lr", log=True),
        Parameter(name="pct_start", digits=".2f", heading="pct", baseline=0.3),
        Parameter(name="div_factor", log=True, heading="div", baseline=25.0),
        Parameter(name="weight_decay", log=True, heading="decay"),
        Parameter(name="batch_size", heading="batch"),
        Parameter(name="label_smoothing", digits=".2f", heading="smooth"),
        Parameter(name="anneal_strategy", heading="anneal", baseline="cos"),
        Parameter(name="three_phase", heading="three", baseline=False),
        Parameter(name="final_div_factor", log=True, heading="final", baseline=1e4),
        Parameter(name="base_momentum", heading="base", baseline=0.85),
        Parameter(name="max_momentum", heading="max_m", baseline=0.95),
        Parameter(name="cycle_momentum", heading="cycled", baseline=True),
    )
}
"""The parameters that this project knows. The baselines are torch's defaults (OneCycleLR); those
of the others are the task's own."""

CYCLE = ("max_lr", "pct_start", "div_factor")
"""What every study searches: the parameters of the cycle itself, in torch's names."""

TORCHS_OWN = (
    *("anneal_strategy", "three_phase", "final_div_factor"),
    *("base_momentum", "max_momentum", "cycle_momentum"),
)
"""What else OneCycleLR takes: searched or held fixed where Space(extra=...) names it."""

MOVES_EDGE = ("batch_size", "optimizer")
"""What has a range test of its own at each value: the edge moves by decades between optimizers."""

LEAVES_EDGE = frozenset({"anneal_strategy", "three_phase", "final_div_factor"})
"""What a sweep does not see; of any other parameter nothing is known, and it may move the edge."""


def setting_key(setting: Mapping[str, Value]) -> str:
    """Return the name of one setting of what moves the edge, as it is stored: '64' of batch sizes,
    'optimizer adamw' of others."""
    if tuple(setting) == ("batch_size",):
        return str(setting["batch_size"])
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def size_of(setting: Mapping[str, Value]) -> int | None:
    """Return the batch size of a setting or a configuration; None: the task's own."""
    size = setting.get("batch_size")
    return None if size is None else int(size)


def setting_text(key: str) -> str:
    """Return setting_key() in words: 'batch_size 64', 'optimizer adamw'."""
    return f"batch_size {key}" if key.isdecimal() else key


def parameter(name: str) -> Parameter:
    """Return the declaration of a parameter; one that is not in the table is the user's own."""
    return TABLE.get(name) or Parameter(name=name, heading=name)


def searched(name: str, domain: Domain, *, baseline: Value | None) -> Parameter:
    """Return a parameter as a study searches it; its domain's baseline goes first."""
    declared = parameter(name)
    known = (domain.baseline, baseline, declared.baseline)
    value = next((each for each in known if each is not None), None)
    return replace(declared, domain=domain, baseline=value)


RESERVED = frozenset(
    (
        *("slot", "trial_number", "state", "outcome", "score", "epochs", "n_steps", "n_images"),
        *("seconds", "diverged_step", "diverged_lr", "failure", "device", "slots", "n_cycles"),
        "max_lr_over_proposal",
    )
)
"""Columns of the files of trials, and names that stand beside parameters elsewhere."""


def check_parameter_name(name: object) -> None:
    """Raise ValueError for a name that a parameter of the user's own may not have."""
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
        raise ValueError(
            f"extra[{name!r}]: a parameter is named like a Python variable, but not like a column "
            f"of the trials ({', '.join(sorted(RESERVED))})"
        )


def domain_of(name: str, given: object) -> Domain | Fixed:
    """Return what a study file gives for a parameter as a Range, a Choice, or one fixed value.

    Two numbers are a range, anything else that has several values is a choice, and a single value
    holds the parameter fixed. Raises ValueError naming the parameter for what is none of these.
    """
    if isinstance(given, (Range, Choice, Fixed)):
        return given
    several = isinstance(given, (tuple, list))
    values = tuple(given) if several else (given,)  # type: ignore[arg-type]
    if not values or (not several and not _is_plain(given)):
        raise ValueError(
            f"{name} must be two numbers that rise, two choices or more, or one value to hold "
            f"fixed, got {given!r}"
        )
    try:
        if len(values) == 1:
            return Fixed(values[0])  # type: ignore[arg-type]
        if len(values) == 2 and all(_is_number(value) for value in values):
            return Range(*values, log=parameter(name).log)  # type: ignore[arg-type]
        return Choice(values)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _is_plain(value: object) -> bool:
    """Whether JSON holds a value as it is: text, a truth value or a finite number."""
    return isinstance(value, (str, bool)) or (_is_number(value) and math.isfinite(float(value)))  # type: ignore[arg-type]


def _identity(value: object) -> tuple[bool, object]:
    """Return what tells values apart: to Python 1 and True are equal."""
    return isinstance(value, bool), value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
