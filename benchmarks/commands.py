"""What the commands of the benchmarks have in common: their flags, and how they end."""

import argparse
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from trainers.errors import UserError

DONE, NOT_AS_HOPED, TO_FIX, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class Flags(argparse.ArgumentParser):
    """The flags of a command `python -m benchmarks.NAME`; `text` is the head of its module.

    A wrong one is told in one line.
    """

    def __init__(self, name: str, text: str | None) -> None:
        super().__init__(
            prog=f"python -m benchmarks.{name}",
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_places(self, kept: str) -> None:
        """Add --save and --write, of which one is needed; `kept`: what the page is of."""
        where = self.add_mutually_exclusive_group(required=True)
        where.add_argument("--save", type=Path, metavar="FILE", help="where results are kept")
        where.add_argument(
            "--write",
            type=Path,
            metavar="PAGE",
            help=f"write the page of the kept {kept}, and end",
        )

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(TO_FIX, f"error: {message}; --help shows all flags\n")


def at_least(low: int) -> Callable[[str], int]:
    """Return what reads a whole number from `low` on."""

    def read(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {low}, got {text!r}"
            )
        return int(text)

    return read


def seconds(text: str) -> float:
    """Return a duration, which may be 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be seconds, 0 or more, got {text!r}")
    return number


def existing_folder(text: str) -> Path:
    """Return a folder that is there."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"must be a folder that is there, got {text!r}")
    return path


def ended(command: Callable[[], int | None]) -> int:
    """Do what a command does and return its exit code.

    That is what it returns, else DONE. What a user can fix is told in one line: 2. 130 where it
    was interrupted.
    """
    logging.basicConfig(format="%(levelname)s %(message)s")
    try:
        return command() or DONE
    except UserError as error:
        told = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        told = f"{error.filename}: {error.strerror}"
    except KeyboardInterrupt:
        return INTERRUPTED
    print(f"error: {told}", file=sys.stderr)
    return TO_FIX
