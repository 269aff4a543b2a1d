"""Recorded runs and the files that keep them: JSON lines, only ever appended to."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.lines import append, drop_torn_line, whole_lines
from benchmarks.plan import Work
from search.params import Params
from trainers.errors import UserError
from trainers.run import Outcome
from trainers.sweeps.judgement import Judgement
from trainers.sweeps.sweep import LRCurve, Sweep

MAY_DIFFER = ("device", "torch build")
"""What of a header may change while a recording grows; the records after it are from there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRecord:
    """One sweep: its losses step by step, to five digits, and what the judgement says of them.

    `losses` ends early, with NaN (null in the file), where the loss was no longer a number.
    `cpu_seconds` counts this process only; `seconds` shows what else the machine did.
    """

    work: Work
    start_lr: float
    end_lr: float
    losses: tuple[float, ...]
    judgement: Judgement
    outcome: Outcome
    diverged_step: int | None
    n_images: int
    seconds: float
    cpu_seconds: float

    def curve(self) -> LRCurve:
        """Return rates and losses; the rates are those of the plan."""
        plan = Sweep(start_lr=self.start_lr, end_lr=self.end_lr, total_steps=self.work.length)
        return LRCurve(tuple(plan.lrs())[: len(self.losses)], self.losses)


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleRecord:
    """One complete cycle: scores (accuracies in [0, 1], R^2) on the validation split, epoch by
    epoch, and at the end on the test split; both are None where training broke.
    `validation_loss` is that of the end; None where nobody recorded it, or training broke.
    """

    work: Work
    params: Params
    score: float | None
    test_score: float | None
    validation: tuple[float, ...]
    outcome: Outcome
    diverged_step: int | None
    n_images: int
    seconds: float
    cpu_seconds: float
    validation_loss: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SuggestionRecord:
    """What one other tool, of `version`, suggested in one test: a rate by the name of each rule.

    None where it gave no number. `error` is what it raised; `n_steps` is what it trained.
    """

    work: Work
    version: str
    suggestions: dict[str, float | None]
    error: str | None
    n_steps: int
    seconds: float
    cpu_seconds: float


Record = SweepRecord | CycleRecord | SuggestionRecord


def to_row(record: Record) -> dict[str, Any]:
    """Return one line of a file, not yet as text."""
    row = asdict(record)
    flat = {**row.pop("work"), **row}
    if isinstance(record, CycleRecord):
        flat["params"] = dict(record.params)
        if record.validation_loss is None:
            del flat["validation_loss"]
    if isinstance(record, SweepRecord):
        flat["losses"] = [None if math.isnan(loss) else loss for loss in record.losses]
    return flat


def from_row(row: Mapping[str, Any]) -> Record:
    """Return the record of a line that was read."""
    rest = dict(row)
    work = Work(**{name: rest.pop(name) for name in ("task", "kind", "number", "length", "seed")})
    if work.kind == "cycle":
        params, validation = Params(**rest.pop("params")), tuple(rest.pop("validation"))
        return CycleRecord(work=work, params=params, validation=validation, **rest)
    if work.kind != "sweep":
        return SuggestionRecord(work=work, **rest)
    losses = tuple(math.nan if loss is None else loss for loss in rest.pop("losses"))
    judgement = Judgement(**rest.pop("judgement"))
    return SweepRecord(work=work, losses=losses, judgement=judgement, **rest)


def five_digits(loss: float) -> float:
    """Return a loss to five significant digits; infinity, which JSON has not, becomes NaN."""
    return float(f"{loss:.5g}") if math.isfinite(loss) else math.nan


class Journal:
    """The recorded runs of one task and kind, in the order in which they ended.

    A line with the key "header" says how the records after it were made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, str] | None = None
        self.records: dict[Work, Record] = {}
        for number, line in enumerate(whole_lines(path), 1):
            try:
                row = json.loads(line)
                if "header" in row:
                    self.header = row["header"]
                else:
                    record = from_row(row)
                    self.records[record.work] = record
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}, line {number}: not a record ({error})") from error

    def open(self, header: dict[str, str]) -> None:
        """Make the file ready for more records, made as `header` says.

        A line that a kill has torn is dropped. Raises UserError where the records that are there
        were made otherwise.
        """
        for name in header if self.header else ():
            kept = (self.header or {}).get(name)
            if name not in MAY_DIFFER and kept != header[name]:
                raise UserError(
                    f"{self.path} was recorded with {name} {kept!r}, this start has "
                    f"{header[name]!r}; give another --out"
                )
        drop_torn_line(self.path)
        if header != self.header:
            append(self.path, {"header": header})
            self.header = header

    def add(self, record: Record) -> None:
        """Keep one more record."""
        append(self.path, to_row(record))
        self.records[record.work] = record
