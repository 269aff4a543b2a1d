"""A log's text -> its rows: one JSON document, or free lines, tables and JSON lines."""

from collections.abc import Iterable, Iterator

from trainers.calls.log_lines import clean, read_line
from trainers.calls.log_rows import Row
from trainers.calls.log_tables import Tables, json_line, json_rows

_MOST_BUFFERED = 200_000_000
"""Characters of a JSON document that is read as a whole."""
_LONGEST = 200_000


def rows(lines: Iterable[str]) -> Iterator[Row]:
    """Yield what each line says, lines that say nothing left out."""
    tables, kept = Tables(), iter(lines)
    for line in _document(kept):
        if isinstance(line, Row):
            yield line
            continue
        line = clean(line)
        if len(line) > _LONGEST:
            line = line[:_LONGEST]
        stripped = line.strip()
        if not stripped:
            continue
        row = json_line(stripped)
        if row is None or not (row.rates or row.epoch):
            row = tables.read(line) or read_line(stripped)
        if row is not None:
            yield row


def _document(lines: Iterator[str]) -> Iterator[str | Row]:
    """Yield the rows of a text that is one JSON document; of any other text its lines."""
    buffered: list[str] = []
    size, is_line = 0, False
    for line in lines:
        buffered.append(line)
        if not line.strip():
            continue
        if is_line or not buffered[0].lstrip().startswith(("{", "[")) or size > _MOST_BUFFERED:
            break
        is_line = size == 0 and line.rstrip().endswith(("}", "]"))
        size += len(line)
    else:
        found = json_rows("".join(buffered))
        if any(row.rates for row in found):
            yield from found
            return
    yield from buffered
    yield from lines
