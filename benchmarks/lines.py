"""Files of JSON lines that grow while a benchmark runs, and that a kill may tear.

A line counts once it has an end; one without is what a kill left.
"""

import json
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines that have an end; none where there is no file yet."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def append(path: Path, row: object) -> None:
    """Add one line."""
    with path.open("a") as file:
        file.write(json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n")


def drop_torn_line(path: Path) -> None:
    """Make the file ready for more lines."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        log.warning("%s: dropped a torn last line of %d bytes", path, len(content) - whole)
        os.truncate(path, whole)
