"""Digits in cycles of a few epochs, with batch size and weight decay in the space."""

from dataclasses import replace

from studies.definition import Confirmation, RangeTest, Screening, Space
from studies.digits import STUDY as DIGITS

STUDY = replace(
    DIGITS,
    name="tuned",
    range_test=RangeTest(n_sweeps=1, n_steps=60),
    space=Space(pct_start=(0.1, 0.6), weight_decay=(1e-5, 1e-2), batch_size=(64, 128)),
    screening=Screening(n_trials=6, epochs=3, n_initial=2),
    confirmation=Confirmation(n_finalists=1, n_seeds=2),
)
