"""Markdown tables, and the pages of docs/benchmarks that the benchmarks' own commands write."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainers.errors import UserError


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    empty: str = "Nothing is recorded yet.",
) -> str:
    """Return a Markdown table; without rows the sentence `empty`."""
    lines = [" | ".join(str(cell) for cell in row) for row in rows]
    if not lines:
        return empty
    rule = "|" + "---|" * len(heads)
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {line} |" for line in lines)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of long tables; `sections` are pairs of a heading and Markdown.

    `command` is what writes the page, up to the name of the file.
    """

    title: str
    command: str
    opening: str
    sections: Sequence[tuple[str, str]]

    def markdown(self) -> str:
        """Return the page, which says in its first lines that it is not edited by hand."""
        marker = f"Written by `{self.command}`; not edited by hand."
        parts = [f"# {self.title}", marker, self.opening]
        parts += [f"## {heading}\n\n{text}" for heading, text in self.sections]
        return "\n\n".join(part.strip() for part in parts) + "\n"

    def write(self, path: Path) -> None:
        """Write the page to a file; raises UserError where that is not possible."""
        try:
            path.write_text(self.markdown())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
