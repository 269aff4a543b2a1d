"""Tables and JSON in a log: columns or keys by name -> Row."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from trainers.calls.log_numbers import Number, first, small, whole
from trainers.calls.log_rows import Row, is_rate

_EPOCHS = [
    "epoch",
    "epochs",
    "ep",
    "epochnum",
    "epochnumber",
    "epochidx",
    "epochindex",
    "currentepoch",
]
_STEPS = [
    "globalstep",
    "step",
    "steps",
    "iter",
    "iters",
    "iteration",
    "iterations",
    "it",
    "numupdates",
    "update",
    "updates",
    "niter",
    "trainingstep",
    "trainstep",
    "optimizerstep",
]
_BATCHES = ["batch", "batchidx", "batchindex", "minibatch", "batchnum"]
_KEYS = ["key", "metric", "tag", "name"]
_EXACT = ["lr", "learningrate"]
_BOX = str.maketrans(dict.fromkeys("│┃║╎┆┊¦", "|"))
_DEEPEST = 6
_LONGEST_HEADER = 20_000
_PATIENCE = 5
"""Other lines that may come between a table's header and its first row."""


def _plain(name: str) -> str:
    """Return a name without its path, its marks and its case: 'trainer/global_step' is one."""
    return re.sub(r"[^a-z]", "", re.split(r"[/.]|\s-\s", name.lower())[-1])


class Columns:
    """Which of some names are rates, and which one is the epoch, the step, the batch.

    A column with the exact name goes before one that only contains it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = [name.strip().strip("\"'`*") for name in names]
        plain = [_plain(name) for name in self.names]
        rates = [number for number, name in enumerate(self.names) if is_rate(name)]
        self.rates = sorted(rates, key=lambda number: plain[number] not in _EXACT)
        self.epoch = self._of(plain, _EPOCHS)
        self.step = self._of(plain, _STEPS)
        self.batch = self._of(plain, _BATCHES)
        self.key, self.value = None, None
        if not rates and "value" in plain and (self.step is not None or self.epoch is not None):
            self.key, self.value = self._of(plain, _KEYS), plain.index("value")

    def _of(self, plain: Sequence[str], wanted: Sequence[str]) -> int | None:
        """Return the first wanted name's column, last '_step', which counts a logger's calls."""
        ranked = [
            (self.names[number].startswith("_"), wanted.index(name), number)
            for number, name in enumerate(plain)
            if name in wanted
        ]
        return min(ranked)[2] if ranked else None

    @property
    def useful(self) -> bool:
        """Whether a row can have a rate."""
        return bool(self.rates) or self.value is not None

    def row(self, cells: Sequence[str], *, table: bool) -> Row | None:
        """Return what a row says; None where a cell that should be a number is a word."""
        row = Row(table=table)
        rates = self.rates
        if self.value is not None and (self.key is None or is_rate(cells[self.key])):
            rates = [self.value]
        for number in rates:
            rate = _number(cells[number])
            if rate is None and _is_word(cells[number]):
                return None
            name = cells[self.key] if self.key is not None else self.names[number]
            row.add(name, rate)
        if self.epoch is not None:
            row.epoch = small(_number(cells[self.epoch]))
            if row.epoch is None and _is_word(cells[self.epoch]):
                return None
            row.forms["epoch"] = self.names[self.epoch]
        for kind, column in (("step", self.step), ("batch", self.batch)):
            if column is not None:
                setattr(row, kind, whole(cells[column]))
                row.forms[kind] = self.names[column]
        return row


_columns = lru_cache(maxsize=256)(Columns)


def _number(cell: str) -> Number | None:
    return first(cell) if cell else None


def _is_word(cell: str) -> bool:
    return cell.strip(" \"'-").lower() not in ("", "none", "null", "n/a", "na", "–", "—")


class Tables:
    """Reads tables between other lines: a header, then rows with as many cells."""

    def __init__(self) -> None:
        self._columns: Columns | None = None
        self._delimiter = ","
        self._proposed: list[tuple[str, Columns]] = []
        self._tried = 0

    def read(self, line: str) -> Row | None:
        """Return the row of a line that belongs to a table; None for another line."""
        if not line.isascii():
            line = line.translate(_BOX)
        if self._proposed:
            if not any(character.isalnum() for character in line):
                return Row(table=True)
            for delimiter, columns in self._proposed:
                row = _row(columns, line, delimiter)
                if row is not None:
                    self._columns, self._delimiter = columns, delimiter
                    self._proposed = []
                    return row
            self._tried += 1
            if self._tried > _PATIENCE:
                self._proposed = []
        if self._columns is not None:
            row = _row(self._columns, line, self._delimiter)
            if row is not None:
                return row
        if proposed := list(_headers(line)):
            self._proposed, self._tried = proposed, 0
        return None


def _row(columns: Columns, line: str, delimiter: str) -> Row | None:
    cells = _cells(line, delimiter)
    if len(cells) == len(columns.names) + 1 and delimiter == " " and cells[0].isdigit():
        cells = cells[1:]  # pandas prints its index before the columns
    if len(cells) != len(columns.names):
        return None
    return columns.row(cells, table=True)


def _cells(line: str, delimiter: str) -> list[str]:
    line = line.strip("\r\n") if delimiter == "\t" else line.strip()
    if delimiter == " ":
        return line.split()
    if delimiter == "  ":
        return re.split(r"\s{2,}|\t", line)
    if delimiter == "|":
        return [cell.strip() for cell in line.strip("|").split("|")]
    if '"' in line:
        line = line.replace(f'{delimiter} "', f'{delimiter}"')
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    return [cell.strip() for cell in line.split(delimiter)]


def _headers(line: str) -> Iterator[tuple[str, Columns]]:
    """Yield each way in which a line may be the header of a table with a rate."""
    if len(line) > _LONGEST_HEADER or "=" in line or ":" in line:
        return
    low = line.lower()
    if not ("lr" in low or "learning" in low or "value" in low):
        return
    for delimiter in (";", ",", "\t", "|", "  ", " "):
        if delimiter.strip() and delimiter not in line:
            continue
        names = _cells(line.lstrip("# ") if delimiter != "\t" else line, delimiter)
        if len(names) < 2 and line.strip().strip("\"'").lower() not in ("lr", "learning_rate"):
            continue
        if any(name and first(name) for name in names):
            continue
        columns = _columns(tuple(names))
        if columns.useful:
            yield delimiter, columns


def json_line(line: str) -> Row | None:
    """Return the row of a JSON object on a line; None for another line."""
    if not line.startswith("{"):
        return None
    try:
        document = _loads(line)
    except (json.JSONDecodeError, RecursionError):
        return None
    return _object(document) if isinstance(document, dict) else None


def json_rows(text: str) -> list[Row]:
    """Return the rows of one JSON document: a list of objects, a trainer's state, a history."""
    try:
        rows = list(_walk(_loads(text), 0))
    except (json.JSONDecodeError, RecursionError):
        return []
    return [row for row in rows if row is not None]


def _loads(text: str) -> object:
    """Read JSON with its numbers as they are printed."""
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)


def _walk(value: object, depth: int) -> Iterator[Row | None]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value:
            if isinstance(item, list) and len(item) == 3 and all(isinstance(c, str) for c in item):
                yield _columns(("wall time", "step", "value")).row(item, table=True)
            elif isinstance(item, dict):
                yield from _walk(item, depth + 1)
    elif isinstance(value, dict):
        series = {k: v for k, v in value.items() if isinstance(v, list) and _are_numbers(v)}
        length = max((len(v) for k, v in series.items() if is_rate(k)), default=0)
        if length > 2:
            whole_series = {k: v for k, v in series.items() if len(v) == length}
            columns = _columns(tuple(whole_series))
            for cells in zip(*whole_series.values(), strict=True):
                yield columns.row(cells, table=True)
            return
        inner = [v for v in value.values() if isinstance(v, list) and v and _are_objects(v)]
        yield _object(value) if not inner or _has_rate(value) else None
        for item in inner:
            yield from _walk(item, depth + 1)


def _has_rate(value: Mapping[str, object]) -> bool:
    return any(is_rate(name) for name in value)


def _are_objects(values: Sequence[object]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _are_numbers(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) and first(value) is not None for value in values)


def _object(value: Mapping[str, object]) -> Row | None:
    cells = dict(_flat("", value, 0))
    return _columns(tuple(cells)).row(tuple(cells.values()), table=False)


def _flat(name: str, value: object, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the numbers and texts of nested JSON under joined names, few levels deep."""
    if isinstance(value, str):
        yield name, value
    elif depth < _DEEPEST and isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}/{key}" if name else str(key), inner, depth + 1)
    elif depth < _DEEPEST and isinstance(value, list):
        for number, inner in enumerate(value[:16]):
            yield from _flat(f"{name}/{number}" if number else name, inner, depth + 1)
