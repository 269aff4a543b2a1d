"""Digits in short cycles, with label smoothing in the space."""

from dataclasses import replace

from studies.definition import Confirmation, RangeTest, Screening, Space
from studies.digits import STUDY as DIGITS

STUDY = replace(
    DIGITS,
    name="smoothed",
    range_test=RangeTest(n_sweeps=1, n_steps=60),
    space=Space(pct_start=(0.1, 0.6), extra={"label_smoothing": (0.0, 0.2)}),
    # Four first choices, with the baseline's label smoothing, two initial points, one proposal.
    screening=Screening(n_trials=7, epochs=3, n_initial=2, exact=True),
    confirmation=Confirmation(n_finalists=1, n_seeds=2),
)
