"""Numbers as people print them: text -> value, and how far it was rounded."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache

_MANTISSA = r"(?:\d[\d_]{0,30})?(?:\.\d{1,40}|,\d{1,40}(?![\d.]|,\d))|\d[\d_]{0,30}\.?"
_POWER = (
    r"[eEdD][+\-−]?\d{1,4}|\s?[x×*·⋅]\s?10\s?(?:\^|\*\*)?\s?[({]?[+\-−⁻]?[\d⁰¹²³⁴-⁹]{1,4}[)}]?"
)
NUMBER = rf"[+\-−]?(?:(?:{_MANTISSA})(?:{_POWER})?|(?:nan|inf(?:inity)?)(?![a-z]))"
"""A pattern for re.IGNORECASE: 0.0004, 4.0e-04, 4.0×10^-4, 0,0004, nan. A comma between digits is
a decimal comma where the number has no point and no second comma."""
WRAP = (
    r"(?:[\[({<'\"`$*~≈\s]|(?:np|numpy|torch|jnp|jax|decimal)\.|"
    r"(?:float(?:16|32|64)?|bfloat16|tensor|array|decimal|devicearray|parameter|list|tuple)\()"
)
"""What may stand around a number, one piece: a bracket, a quote, `np.float64(`, `tensor(`."""

_WRAPPED = re.compile(rf"{WRAP}{{0,12}}({NUMBER})(\s?%)?", re.IGNORECASE)
_GROUPED = re.compile(r"\d{1,3}(?:[,_ ']\d{3})+")
_MOST_EPOCHS = 1e9
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--")
_TIMES_TEN = re.compile(r"\s?[x×*·⋅]\s?10\s?(?:\^|\*\*)?\s?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Number:
    """A printed number: its value, its digits, and the power of ten of the last one."""

    value: float
    digits: int = 1
    exponent: int = 0


@lru_cache(maxsize=4096)
def number(text: str) -> Number | None:
    """Return the number of a text that NUMBER matches; one too large for a float is infinite."""
    plain = text.translate(_RAISED).replace("_", "").replace(",", ".").strip()
    try:
        decimal = Decimal(plain)
    except InvalidOperation:
        plain = _TIMES_TEN.sub("e", plain).strip(" ({})").replace("(", "").replace("{", "")
        try:
            decimal = Decimal(plain.replace("d", "e").replace("D", "e"))
        except InvalidOperation:
            return None
    if not decimal.is_finite():
        return Number(float(decimal))
    _, digits, exponent = decimal.as_tuple()
    assert isinstance(exponent, int)
    try:
        return Number(float(decimal), len(digits), exponent)
    except OverflowError:
        return Number(math.inf)


def first(text: str) -> Number | None:
    """Return the number that a cell holds: '0.0004', '[0.0004]', '0.04 %', 'tensor(0.0004)'."""
    match = _WRAPPED.match(text)
    if match is None:
        return None
    read = number(match.group(1))
    return read if read is None or match.group(2) is None else percent(read)


def small(read: Number | None) -> Number | None:
    """Return a number that can be an epoch's, None for another one."""
    return read if read is not None and 0 <= read.value < _MOST_EPOCHS else None


def percent(read: Number) -> Number:
    """Return a hundredth."""
    return Number(read.value / 100, read.digits, read.exponent - 2)


@lru_cache(maxsize=4096)
def whole(text: str) -> int | None:
    """Return a count: '1200', '1,200', '1_200' or '1200.0'; None for another text."""
    if text.isdecimal():
        return int(text) if len(text) <= 15 else None
    text = text.strip().strip("'\"[]()#")
    if _GROUPED.fullmatch(text):
        text = re.sub(r"[,_ ']", "", text)
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and 0 <= value < 1e15 else None
