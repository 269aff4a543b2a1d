"""What was judged, one JSON line for each repetition of a strategy on a family."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.judge.answers import Answers, Shown
from benchmarks.judge.judged import Judged
from benchmarks.lines import append, drop_torn_line, whole_lines
from trainers.errors import UserError

Key = tuple[str, str, int]
"""Family, strategy, repetition."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a confirmation showed, beside the truth: the pick minus the baseline, in points.

    `truth` is that of the split that is compared, the test split; `pick` and `baseline` are what
    they lose against the best on validation.
    """

    shown: Shown
    truth: float
    pick: float
    baseline: float
    n_search: int


@dataclass(frozen=True, slots=True)
class Row:
    """Answers of one repetition: by budget the points that they lose, and the cycles they cost."""

    family: str
    strategy: str
    repetition: int
    answers: Mapping[str, tuple[float, float]]
    verdict: Verdict | None
    seconds: float

    @classmethod
    def of(
        cls, on: Judged, strategy: str, repetition: int, found: Answers, *, seconds: float
    ) -> "Row":
        """Judge what a strategy answered."""
        compared = found.compared
        return cls(
            family=on.study.name,
            strategy=strategy,
            repetition=repetition,
            answers={
                budget: (round(on.regret(answer.params), 3), round(answer.cycles, 2))
                for budget, answer in found.by_budget.items()
            },
            verdict=None
            if compared is None
            else Verdict(
                compared.shown,
                round(on.ahead(compared.pick, compared.baseline)[1], 3),
                round(on.regret(compared.pick), 3),
                round(on.regret(compared.baseline), 3),
                compared.n_search,
            ),
            seconds=round(seconds, 2),
        )

    @property
    def key(self) -> Key:
        """What the row is of."""
        return self.family, self.strategy, self.repetition

    def to_json(self) -> list[Any]:
        """Return the row as short as it can be."""
        verdict = self.verdict
        last = [] if verdict is None else [_values(verdict)]
        flat = {budget: list(pair) for budget, pair in self.answers.items()}
        return [self.family, self.strategy, self.repetition, self.seconds, flat, *last]

    @classmethod
    def from_json(cls, line: Sequence[Any]) -> "Row":
        """Return what to_json() wrote."""
        family, strategy, repetition, seconds, answers, *last = line
        pairs = {budget: (float(regret), float(n)) for budget, (regret, n) in answers.items()}
        verdict = Verdict(*last[0]) if last else None
        return cls(family, strategy, repetition, pairs, verdict, seconds)


def _values(verdict: Verdict) -> list[Any]:
    return [
        verdict.shown,
        verdict.truth,
        verdict.pick,
        verdict.baseline,
        verdict.n_search,
    ]


class Kept:
    """The rows of a file that only ever grows; the first line says what they were made with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, str] = {}
        self.rows: dict[Key, Row] = {}
        for number, line in enumerate(whole_lines(path), 1):
            try:
                read = json.loads(line)
                if isinstance(read, dict):
                    self.header = read
                else:
                    self._keep(Row.from_json(read))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}, line {number}: not a record ({error})") from error

    def open(self, header: Mapping[str, str]) -> None:
        """Make the file ready for more rows; raises UserError where others are in it."""
        drop_torn_line(self.path)
        if not self.header:
            append(self.path, dict(header))
            self.header = dict(header)
        for name, value in header.items():
            if self.header.get(name) != value:
                raise UserError(
                    f"{self.path} has rows of {name} {self.header.get(name)!r}, this start has "
                    f"{value!r}; give another --out"
                )

    def add(self, rows: Iterable[Row]) -> None:
        """Keep more rows."""
        for row in rows:
            append(self.path, row.to_json())
            self._keep(row)

    def _keep(self, row: Row) -> None:
        self.rows[row.key] = row
