"""A study of real digits whose only worker is killed again and again: every row as undisturbed."""

from pathlib import Path

import pytest

from tests.killed import compare

SHORT = """
from dataclasses import replace
from studies.definition import Confirmation, RangeTest, Screening
from studies.digits import STUDY as DIGITS
STUDY = replace(
    DIGITS,
    name="short",
    range_test=RangeTest(n_sweeps=3),
    screening=Screening(n_trials=4, epochs=10),
    confirmation=Confirmation(n_finalists=1, n_seeds=2),
)
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_short_study_killed_and_stopped_ends_in_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text(SHORT)
    compare(tmp_path, ("--study", str(tmp_path / "short.py")), seed=1, n_signals=2)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [2, 3])
def test_a_whole_study_killed_at_random_moments_ends_in_the_same_rows(
    tmp_path: Path, seed: int
) -> None:
    compare(tmp_path, ("--study", "digits"), seed=seed, n_signals=12)
