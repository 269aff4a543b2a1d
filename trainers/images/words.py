"""Counts and lists in words, for what is said of a folder of images."""

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """Return '1 image', '1,300 images'."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def some(names: Sequence[str], at_most: int = 10) -> str:
    """Return the first names and how many more there are; 'none' where there is none."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(names[:at_most]) or "none") + more


def one_line(error: BaseException) -> str:
    """Return an error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__
