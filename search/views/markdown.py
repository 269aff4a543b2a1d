"""Markdown that shows texts of any kind as they are: tables, lists, escapes."""

import re
from collections.abc import Sequence

from search.text import printable


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, gap: str = "") -> str:
    """Return a table; columns after the first are set to the right, `gap` stands before them."""
    ruler = ["---", *["---:"] * (len(headings) - 1)]
    cells = [[literal(str(cell)) for cell in row] for row in (headings, *rows)]
    cells = [[first, *(gap + each for each in rest)] for first, *rest in cells]
    lines = (cells[0], ruler, *cells[1:])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """Return a list, one item per line."""
    return "\n".join(f"- {literal(line)}" for line in lines)


def literal(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    # GitHub reads $ as mathematics, ~ as struck out, and | ends a cell. Underscores within a word
    # are no emphasis there, and stay readable: max_lr.
    line = " ".join(printable(text).split())
    return re.sub(r"([\\`*\[\]<>|$~&]|\b_|_\b)", r"\\\1", line)


def code(text: str) -> str:
    """Return text as code within a line, whatever backticks it has."""
    line = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"{fence}{line}{fence}"
