"""Printed learning rates: a log's text -> epochs, rates, and how far each is rounded."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from trainers.errors import UserError

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LR_NAME = r"(?:lr|learning[ _-]?rate)(?:[-_/]\w+)*"
_LR = re.compile(
    rf"(?<![a-z]){_LR_NAME}['\"]?\s*(?:[:=]|\bis\b)?\s*[\[(]?\s*({_NUMBER})", re.IGNORECASE
)
_EPOCH = re.compile(r"(?<![a-z])ep(?:och)?['\"]?\s*[:=#\[]?\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
_LR_COLUMN = re.compile(rf"(?:.*[^a-z])?{_LR_NAME}", re.IGNORECASE)
_EPOCH_COLUMN = re.compile(r"(?:.*[^a-z])?ep(?:och)?", re.IGNORECASE)
_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Reading:
    """A printed rate; `epoch` counts from 1, a fraction within an epoch; the true rate lies
    within `half` (half a unit of the last digit) of `lr`."""

    epoch: float
    lr: float
    half: float


@dataclass(frozen=True, slots=True)
class Log:
    """The rates of one run, in order, one for each epoch; what was not used is counted.

    `numbered`: whether the log names its epochs; else its rates were counted, one an epoch.
    """

    readings: tuple[Reading, ...]
    numbered: bool
    n_repeated: int
    n_of_earlier_runs: int

    @property
    def last_epoch(self) -> float:
        """The last epoch that has a rate."""
        return self.readings[-1].epoch


def parse(text: str) -> Log:
    """Read lines such as `Epoch 3 ... LR=0.0004`, comma-separated values or JSON lines.

    Of several rates in an epoch the last one counts; where the epochs start again, the last run.
    Raises UserError for a text without any rate.
    """
    found = list(_found(text.splitlines()))
    if not found:
        raise UserError(
            "no learning rate in the log; lines like 'Epoch 3 ... LR=0.0004', CSV with a column "
            "lr, or JSON lines with a key lr are read"
        )
    numbered = all(epoch is not None for epoch, _ in found)
    epochs = [
        float(number if epoch is None or not numbered else epoch)
        for number, (epoch, _) in enumerate(found, 1)
    ]
    begin = max((i for i in range(1, len(found)) if epochs[i] < epochs[i - 1]), default=0)
    last = {epochs[i]: found[i][1] for i in range(begin, len(found))}
    base = 1 if 0 in last and all(epoch.is_integer() for epoch in last) else 0
    values = list(last.values())
    readings = tuple(
        Reading(epoch + base, float(value), float(half))
        for epoch, value, half in zip(last, values, _halves(values), strict=True)
    )
    return Log(readings, numbered, len(found) - begin - len(last), begin)


def _halves(values: list[Decimal]) -> list[Decimal]:
    """Return half a unit of the last digit of each.

    One log has one format, which may strip zeros: a rate is as exact as the most decimals of the
    log say, if its own count of digits stays within the most digits of the log.
    """
    digits = max(len(value.as_tuple().digits) for value in values)
    finest = min(_exponent(value) for value in values)
    return [
        Decimal(1).scaleb(min(_exponent(v), max(finest, v.adjusted() - digits + 1))) / 2
        for v in values
    ]


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


_Found = tuple[Decimal | None, Decimal]


def _found(lines: Iterable[str]) -> Iterator[_Found]:
    """Yield (epoch, rate) of each line that has a rate; an epoch holds for the lines after it."""
    header: list[str] = []
    delimiter, epoch = ",", None
    for line in (line.strip() for line in lines):
        if not line:
            continue
        if not header and (named := _header(line)):
            header, delimiter = named
            continue
        row: Mapping[str, object]
        if header:
            row = dict(zip(header, next(csv.reader([line], delimiter=delimiter)), strict=False))
        else:
            row = _json(line)
        if row:
            epoch, rate = _of_columns(row)
        else:
            epoch = _matched(_EPOCH, line) or epoch
            rate = _matched(_LR, line)
        if rate is not None:
            yield epoch, rate


def _header(line: str) -> tuple[list[str], str] | None:
    """Return the columns of a CSV header and what separates them; None for another line."""
    for delimiter in _DELIMITERS:
        names = [name.strip().strip('"') for name in line.split(delimiter)]
        if len(names) > 1 and any(_LR_COLUMN.fullmatch(name) for name in names):
            return names, delimiter
    return None


def _json(line: str) -> Mapping[str, object]:
    if not line.startswith("{"):
        return {}
    try:
        row = json.loads(line, parse_float=Decimal, parse_int=Decimal)
    except json.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}


def _of_columns(row: Mapping[str, object]) -> tuple[Decimal | None, Decimal | None]:
    """Return epoch and rate of a row with names; the first rate where it has several."""
    epochs = [_number(v) for k, v in row.items() if _EPOCH_COLUMN.fullmatch(k)]
    rates = [_number(v) for k, v in row.items() if _LR_COLUMN.fullmatch(k)]
    return next(iter(epochs), None), next((rate for rate in rates if rate is not None), None)


def _matched(pattern: re.Pattern[str], line: str) -> Decimal | None:
    match = pattern.search(line)
    return None if match is None else _number(match.group(1))


def _number(value: object) -> Decimal | None:
    try:
        number = Decimal(str(value[0] if isinstance(value, list) and value else value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
