"""What fits the database, SQLite and PostgreSQL alike: refused at the start, not at the write."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.definition import Study

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
            raise ValueError(f"{name} must lie between {low:,} and {high:,}, got {_short(value)}")


def check_limits(study: "Study") -> None:
    """Raise ValueError for the first field of a study that the database could not hold."""
    metric, worst = study.metric, study.diverged_value
    plain = isinstance(metric, str) and metric.isprintable() and metric.strip()
    if not plain or len(metric) > MOST_METRIC_CHARACTERS:
        raise ValueError(
            f"metric must be plain text of 1 to {MOST_METRIC_CHARACTERS} characters, "
            f"got {_short(metric)}"
        )
    number = isinstance(worst, (int, float)) and not isinstance(worst, bool)
    if not number or not abs(worst) <= MOST_SCORE:
        raise ValueError(
            f"diverged_value must be a number of at most {MOST_SCORE:g}, got {_short(worst)}"
        )
    sweeps, confirmation, sizes = study.range_test, study.confirmation, study.batch_sizes
    within(1, MOST_RUNS, n_trials=study.screening.n_trials)
    within(0, MOST_RUNS, n_initial=study.screening.n_initial)
    within(1, MOST_RUNS // len(sizes) - 1, n_sweeps=sweeps.n_sweeps)
    within(1, MOST_RUNS, n_finalists=confirmation.n_finalists)
    within(1, MOST_RUNS // (confirmation.n_finalists + 1), n_seeds=confirmation.n_seeds)
    within(1, GREATEST_INTEGER // 2, n_steps=sweeps.n_steps)
    for size in sizes:
        steps = study.steps_of(1, batch_size=size)
        within(1, GREATEST_INTEGER, batch_size=size, steps_per_epoch=steps)
        within(1, GREATEST_INTEGER // steps, epochs=study.epochs)


def _short(value: object) -> str:
    """Return a value as text that fits a line."""
    if isinstance(value, int) and value.bit_length() > 200:  # str() refuses 4,300 digits
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}..."
