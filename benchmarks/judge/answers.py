"""What a strategy answers: configurations by budget, and what each cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from search.params import Params

Shown = Literal["better", "worse", "no"]
"""What a comparison of the pick with the baseline shows; "no" where the baseline was picked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A configuration, and the cycles of the family's own length that led to it, all counted."""

    params: Params
    cycles: float


@dataclass(frozen=True, slots=True)
class Compared:
    """What a confirmation compared: the pick with the baseline; the same where that was picked."""

    pick: Params
    baseline: Params
    shown: Shown
    n_search: int


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one repetition by name of the budget; `compared` where one was confirmed."""

    by_budget: Mapping[str, Answer]
    compared: Compared | None = None
