"""What one line or table row of a log says: rates by name, and where in the training it stands."""

import re
from dataclasses import dataclass, field

from trainers.calls.log_numbers import Number

_NAME = re.compile(r"(?<![a-z])(?:lr|learning[ _-]?rate)s?(?![a-z])", re.IGNORECASE)
_JOINTS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[a-zA-Z])(?=\d)")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Za-z][a-z]*")
_PLANNED = frozenset(
    [
        "max",
        "min",
        "maximum",
        "minimum",
        "initial",
        "init",
        "peak",
        "target",
        "final",
        "start",
        "starting",
        "end",
        "warmup",
        "default",
        "suggested",
        "reference",
        "best",
        "lowest",
        "highest",
        "first",
    ]
)
"""With one of these words before it a rate is that of a plan, not of the moment."""
_OPTION = _PLANNED | frozenset(
    [
        "scheduler",
        "sched",
        "decay",
        "mult",
        "multiplier",
        "ratio",
        "gamma",
        "policy",
        "factor",
        "drop",
        "schedule",
        "type",
        "find",
        "finder",
        "scale",
        "patience",
        "threshold",
        "size",
        "milestones",
        "power",
        "restart",
        "eta",
        "plateau",
        "mode",
    ]
)
"""With one of these words in it, too, a name is that of an option."""
FALLBACK = "base"
"""A base_lr counts only in a log without another rate."""
_MOST_GROUPS = 8


@dataclass(slots=True)
class Row:
    """Printed positions are as printed; `forms` says which text gave each of them, a column's
    name or a part of a line."""

    rates: list[tuple[str, Number]] = field(default_factory=list)
    epoch: Number | None = None
    epochs: int | None = None
    batch: int | None = None
    batches: int | None = None
    step: int | None = None
    steps: int | None = None
    table: bool = False
    forms: dict[str, str | tuple[str, int, int]] = field(default_factory=dict)

    def add(self, name: str, rate: Number | None) -> None:
        """Add a rate; the same name again in one line is an average or a repetition."""
        if (
            rate is not None
            and len(self.rates) < _MOST_GROUPS
            and all(name != other for other, _ in self.rates)
        ):
            self.rates.append((name, rate))


def is_rate(name: str) -> bool:
    """Whether a name (a column, a key) is that of the rate: 'x/lr0', 'lr-SGD', 'LearningRate'."""
    spaced = _JOINTS.sub("_", name)
    match = _NAME.search(spaced)
    if match is None:
        return False
    begin = max(spaced.rfind(mark, 0, match.start()) + 1 for mark in "/. ")
    return not is_option(spaced[begin:])


def is_option(name: str) -> bool:
    """Whether a name with lr in it is that of an option: 'max_lr', 'lr_scheduler'."""
    return any(word.lower() in _OPTION for word in _WORDS.findall(name))


def is_planned(before: str) -> bool:
    """Whether the words before a rate make it one of the plan: 'initial lr'."""
    return any(word.lower() in _PLANNED for word in _WORDS.findall(before))


def is_fallback(name: str) -> bool:
    """Whether a name is base_lr."""
    return any(word.lower() == FALLBACK for word in _WORDS.findall(name))
