"""The picture of a terminal in the README: what a person saw of a real run, as an SVG.

    python -m benchmarks.recording --svg docs/terminal.svg -- --study digits

What stands after `--` are flags of `run`. The command runs in a terminal of 80 columns; the
picture shows its screen at a share of the way (`--at`), and the first lines of the answer.
"""

import argparse
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from fcntl import ioctl
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 80, 24
# What rich writes before it draws its lines again: it goes up and clears each of them.
_REPAINT = re.compile(r"(?:\r?\x1b\[2K|\x1b\[1A|\r)*\x1b\[1A\x1b\[2K")
# Cursor hidden and shown, and other settings of the terminal; Text reads colours alone.
_SETTINGS = re.compile(r"\x1b\[\?\d+[hl]|\r")


def seen(arguments: Sequence[str]) -> str:
    """Return all that `python -m search.run ARGUMENTS` wrote to its terminal.

    Raises SystemExit with its exit code where it did not end well.
    """
    ours, theirs = pty.openpty()
    ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    unset = ("CI", "NO_COLOR", "COLUMNS", "LINES")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    process = subprocess.Popen(
        [sys.executable, "-m", "search.run", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's word for the end: nobody writes any more
            break
        if not part:
            break
        parts.append(part)
    code = process.wait()
    text = b"".join(parts).decode(errors="replace")
    if code:
        sys.stderr.write(text[-2000:])
        raise SystemExit(code)
    return text


def frames(text: str) -> list[str]:
    """Return what stood there before each repaint; the last holds all that came after."""
    return [_SETTINGS.sub("", part) for part in _REPAINT.split(text) if part.strip()]


def picture(text: str, command: str, *, at: float, n_lines: int) -> Console:
    """Return a recording console: the command, its screen at a share of the way, the answer."""
    *drawn, last = frames(text)
    drawn = [each for each in drawn if "running" in each] or drawn  # runs show how they learn
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(f"$ {command}", style="bold", highlight=False)
    console.print(Text.from_ansi(drawn[int(at * (len(drawn) - 1))].strip("\n")))
    console.print("...", style="dim")
    answer = last.strip("\n").splitlines()
    console.print(Text.from_ansi("\n".join(answer[:n_lines])))
    if len(answer) > n_lines:
        console.print("...", style="dim")
    return console


def main(argv: Sequence[str] | None = None) -> None:
    """Run a study in a terminal and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--svg", type=Path, required=True, help="the file to write")
    parser.add_argument("--at", type=float, default=0.5, help="which share of the way is shown")
    parser.add_argument("--lines", type=int, default=24, help="lines of the end that are shown")
    parser.add_argument("run", nargs="+", help="flags of run, after --")
    arguments = parser.parse_args(argv)
    told = seen(arguments.run)
    name = arguments.run[arguments.run.index("--study") + 1]
    command = f"python -m search.run --study {shlex.quote(name)}"
    console = picture(told, command, at=arguments.at, n_lines=arguments.lines)
    console.save_svg(str(arguments.svg), title=command)


if __name__ == "__main__":
    main()
