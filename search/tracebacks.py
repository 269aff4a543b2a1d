"""What the text of a traceback says: the exception, and the lines of the user's own files."""

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.text import printable

_FRAME = re.compile(r'^ +File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_LIBRARY = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python3[^/\\]*[/\\]|^<frozen "
)
_ROOT = Path(__file__).parent.parent
_OURS = tuple(str(_ROOT / package) for package in ("search", "studies", "trainers"))
# torch's messages have several lines of which the first ones count; a chain of calls its last.
_MOST_MESSAGE_LINES = 3
_MOST_FRAMES = 5
_NOTE = "in your code"


@dataclass(frozen=True, slots=True)
class Frame:
    """One call of a traceback: where it stands, and the code in that line."""

    file: str
    line: int
    function: str
    code: str

    @property
    def is_own(self) -> bool:
        """Whether the file is the user's: neither a library's, nor Python's, nor ours."""
        return not _LIBRARY.search(self.file) and not self.file.startswith(_OURS)

    def text(self) -> str:
        """Return the frame as Python writes it, which editors can jump to."""
        where = f'  File "{self.file}", line {self.line}, in {self.function}'
        return f"{where}\n    {self.code}" if self.code else where


def text_of(error: BaseException) -> str:
    """Return the whole traceback of an exception, as Python prints it."""
    return "".join(traceback.format_exception(error))


def frames(text: str) -> list[Frame]:
    """Return the calls that a traceback names, in its order, chained exceptions included."""
    lines, seen = text.splitlines(), []
    for number, line in enumerate(lines):
        if match := _FRAME.match(line):
            after = lines[number + 1] if number + 1 < len(lines) else ""
            code = after.strip() if after.startswith("    ") else ""
            seen.append(Frame(match["file"], int(match["line"]), match["function"] or "?", code))
    return seen


def message_of(text: str) -> list[str]:
    """Return the lines of the exception itself: its type and its words."""
    lines = text.strip().splitlines()
    last_frame = max((n for n, line in enumerate(lines) if _FRAME.match(line)), default=None)
    if last_frame is None:
        return lines[-1:]
    # What belongs to a frame is indented: its code, and the marks below that.
    heads = (n for n in range(last_frame + 1, len(lines)) if not lines[n].startswith(" "))
    first = next(heads, len(lines) - 1)
    return lines[first:]


def headline(text: str) -> str:
    """Return the exception and the first line of its words."""
    return message_of(text)[0] if text.strip() else "no traceback"


def in_short(text: str) -> str:
    """Return what to look at first: the user's own lines, and what was raised."""
    return "\n".join(part for part in (own_lines(text), harmless(_cut(message_of(text)))) if part)


def own_lines(text: str) -> str:
    """Return the user's own lines of a traceback, the innermost last.

    Where no file of the user's is part of it, the line that raised stands for them.
    """
    seen = frames(text)
    own = [frame for frame in seen if frame.is_own] or seen[-1:]
    return harmless("\n".join(frame.text() for frame in own[-_MOST_FRAMES:]))


def tell_where(error: Exception, when: str) -> None:
    """Add to an exception of the user's code a note of their own lines, which told() reads."""
    error.add_note(f"{_NOTE}, {when}:\n{own_lines(text_of(error))}")


def told(error: Exception) -> str | None:
    """Return the note of tell_where(), None for an exception that has none."""
    notes: Sequence[str] = getattr(error, "__notes__", ())
    return next((note for note in notes if note.startswith(_NOTE)), None)


def harmless(text: str) -> str:
    """Return a traceback that moves no cursor; its lines stay lines."""
    return printable(text, keep="\n")


def place_of(text: str) -> tuple[object, ...]:
    """Return what two attempts share that failed alike: the calls, and the exception's type."""
    calls = tuple((frame.file, frame.line, frame.function) for frame in frames(text))
    return (*calls, headline(text).partition(":")[0])


def _cut(lines: Sequence[str]) -> str:
    more = ["..."] if len(lines) > _MOST_MESSAGE_LINES else []
    return "\n".join([*lines[:_MOST_MESSAGE_LINES], *more])
