"""What fits the database, SQLite and PostgreSQL alike: refused at the start, not at the write."""

GREATEST_INTEGER = 2**31 - 1
"""Of an INTEGER column of PostgreSQL: steps, epochs, batch sizes."""
MOST_RUNS = 1_000_000
"""Of a stage; each is a row, and a stage's rows are made at once."""
MOST_SCORE = 1e100
"""A score beyond this, to either side, counts as no number: its square would overflow."""
MOST_METRIC_CHARACTERS = 40
MOST_BUDGET_CHARACTERS = 40


def within(low: float, high: float, **values: float) -> None:
    """Raise ValueError for the first value, by its name, that is not between two others."""
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must lie between {low:,} and {high:,}, got {short(value)}")


def short(value: object) -> str:
    """Return a value as text that fits a line."""
    if isinstance(value, int) and value.bit_length() > 200:  # str() refuses 4,300 digits
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}..."
