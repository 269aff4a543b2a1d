"""Tables and lines that fit a terminal: no word of a heading is cut, and nothing is left out."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.text import printable

_GAP = 2  # columns of characters between two columns of a table
_WHOLE = 6
"""A heading of so many characters stays in one line: 'max_lr'."""
_FOLDED = 16
"""A column that may be folded keeps so many characters, as far as its cells have them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A heading with the cells below it; `folds`: long cells take several lines."""

    heading: str
    cells: Sequence[str]
    left: bool = False
    folds: bool = False

    @property
    def width(self) -> int:
        """Columns of characters that it takes with its heading in one line."""
        return max(cell_len(self.heading), self._of_cells)

    @property
    def least(self) -> int:
        """Columns of characters that it takes with its heading in several lines."""
        cells = self._of_cells
        if self.folds:
            words = (word for cell in self.cells for word in cell.split())
            cells = min(_FOLDED, max(map(cell_len, words), default=0))
        return max(cells, *map(cell_len, _pieces(self.heading)))

    @property
    def _of_cells(self) -> int:
        return max(map(cell_len, self.cells), default=0)


def columns_of(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, folds: int | None = None
) -> list[Column]:
    """Return the columns of rows: the one that `folds` to the left, the others to the right."""
    kept = [tuple(map(printable, row)) for row in rows]
    return [
        Column(
            heading=printable(heading),
            cells=[row[n] for row in kept],
            left=n == folds,
            folds=n == folds,
        )
        for n, heading in enumerate(headings)
    ]


def fits(columns: Sequence[Column], width: int) -> bool:
    """Whether a table of these has room, its headings in several lines where that must be."""
    return _with_gaps(column.least for column in columns) <= width


def table_of(columns: Sequence[Column], width: int) -> Table:
    """Return a table; headings are broken between words, long cells folded, as room asks for it.

    Where that is not enough, see blocks_of().
    """
    widths = _widths(columns, width)
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, min_width=0
    )
    for column, room in zip(columns, widths, strict=True):
        table.add_column(
            Text("\n".join(_broken(column.heading, room))),
            justify="left" if column.left else "right",
            overflow="fold",
            width=room,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def blocks_of(columns: Sequence[Column], width: int, *, n_keys: int = 1) -> list[Table]:
    """Return tables side by side in thought: each begins with the first `n_keys` columns, and
    holds as many of the others as have room."""
    keys, others = list(columns[:n_keys]), list(columns[n_keys:])
    blocks = [keys]
    for column in others:
        if blocks[-1] != keys and not fits([*blocks[-1], column], width):
            blocks.append(keys)
        blocks[-1] = [*blocks[-1], column]
    return [table_of(block, width) for block in blocks]


def print_blocks(console: Console, blocks: Sequence[Table]) -> None:
    """Print tables with an empty line between them."""
    for number, table in enumerate(blocks):
        if number:
            console.print()
        console.print(table, soft_wrap=True)


def wrapped(line: str, width: int, *, hang: int = 2) -> list[str]:
    """Return a line as lines of at most `width` columns of characters.

    The second and those after it are indented by `hang` more than the first. A word that has no
    line to itself is folded.
    """
    if cell_len(line) <= width:
        return [line]
    indent = re.match(" *", line)
    assert indent is not None
    further = indent[0] + " " * hang
    if len(further) > width // 2:
        further = ""
    lines, now = list[str](), indent[0]
    for word in line.split():
        joined = f"{now} {word}" if now.strip() else now + word
        if cell_len(joined) <= width:
            now = joined
            continue
        if now.strip():
            lines.append(now)
        *whole, now = chop_cells(word, width - len(further)) or [""]
        lines += [further + part for part in whole]
        now = further + now
    return [*lines, now]


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """Return the room of each column: all that it likes where there is as much."""
    widths = [column.width for column in columns]
    if _with_gaps(widths) <= width:
        return widths
    # Long cells give way before headings do, as far as their words allow.
    for shrinks in (True, False):
        for n, column in enumerate(columns):
            excess = _with_gaps(widths) - width
            if column.folds == shrinks and excess > 0:
                widths[n] = max(column.least, widths[n] - excess)
    excess = _with_gaps(widths) - width
    if excess > 0:  # a terminal too narrow for any layout: the widest column is folded
        widest = widths.index(max(widths))
        widths[widest] = max(1, widths[widest] - excess)
    return widths


def _with_gaps(widths: Iterable[int]) -> int:
    kept = list(widths)
    return sum(kept) + _GAP * (len(kept) - 1)


def _pieces(heading: str) -> list[str]:
    """Return where a heading may be broken."""
    return [heading] if len(heading) <= _WHOLE else re.split("[_ ]+", heading)


def _broken(heading: str, width: int) -> Iterator[str]:
    """Yield the lines of a heading, none broken within a word."""
    if cell_len(heading) <= width:
        yield heading
        return
    now = ""
    for piece in _pieces(heading):
        joined = f"{now}_{piece}" if now and "_" in heading else f"{now} {piece}".strip()
        if now and cell_len(joined) > width:
            yield now
            joined = piece
        now = joined
    yield now
