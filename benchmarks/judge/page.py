"""The page of long tables."""

from pathlib import Path

from benchmarks.judge.judged import FITTED
from benchmarks.judge.kept import Kept
from benchmarks.judge.report import (
    Regrets,
    confirmations,
    differences,
    lost,
    per_family,
)
from benchmarks.tables import Page

COMMAND = "python -m benchmarks.judge --write docs/benchmarks/judge.md"

OPENING = """
Whole studies are replayed on recorded families of tasks (`benchmarks/families`), each a small net
with data and an optimizer of its own; a family's configurations have a surface of scores and the
noise of its seeds. `cifar-small` and `cifar-residual` (marked *) had a part in the surrogate's
constants, the others had none. All strategies of a repetition have the same seed.

Regret is the best noiseless score of validation over a dense Sobol set of the recorded space minus
that of the answer, in points (0.01 of accuracy or of R^2). Everything that trains is counted, in
cycles of the family's own length; a sweep of 200 steps is 2 cycles of 100 steps. Where a range
test takes more than a budget, the answer is that of the range test, and "at" gives what answers
cost on average.

- **ours** is the product: sweeps until two agree, first choices, the knowledge gradient; the answer
  is what is expected to score best, tried or not. **ours, tried** answers with the best expected of
  what was tried.
- **ours, confirmed** is a search that ends by itself, a race of finalists and pairs that decide;
  the answer is what the verdict recommends.
- **before** is the former product: five sweeps and a slow one, TPE after 8 Sobol points, expected
  scores of a process fitted to them. **before, confirmed** has 24 configurations, then 3 finalists
  and the baseline with 5 seeds each, and answers with the winner.
- **tpe** and **gp** are Optuna's TPESampler and GPSampler as they are set; the answer is the best
  trial. **careful**: over a factor of 30 in all around 0.1 (SGD with momentum) or 0.001 (Adam's
  kinds). **wide**: over 1e-5 to 10, as far as it was recorded.

OptunaHub's AutoSampler is not here: it is loaded from a host that could not be reached.
"""

_LOST = """
Points lost: mean over families of the median over repetitions (of the 90th percentile), by cycles
in all.
"""
_DIFFERENCES = """
Ours minus another strategy at equal compute, paired by repetition: mean over families [95 %
bootstrap over families]. Less than zero: ours is ahead.
"""
_CONFIRMED = """
Recommended, pick and baseline: points lost, as above. The pick is what the confirmation chose;
ours recommends it only where it is shown to be better than the baseline, the former product
always. The error is the share of picks that are truly no better than the baseline, on the split
that is compared, and are said to be; its nominal value is 2.5 %. The power counts picks that are
truly better by 0.45 to 0.95 points, then by at least 1.5.
"""

COLUMNS = (
    ("ours", "range test"),
    ("ours", "6"),
    ("ours", "10"),
    ("ours", "20"),
    ("ours, confirmed", "confirmed"),
    ("before", "8.5"),
    ("before", "10"),
    ("before", "20"),
    ("before, confirmed", "confirmed"),
    ("tpe, careful", "6"),
    ("tpe, careful", "10"),
    ("tpe, careful", "20"),
    ("tpe, wide", "10"),
    ("tpe, wide", "20"),
)


def page(kept: Kept) -> Page:
    """Return the page of what is kept."""
    rows = list(kept.rows.values())
    regrets = Regrets.from_rows(rows)
    header = ", ".join(f"{name} {value}" for name, value in kept.header.items())
    sections = [
        ("Points lost", f"{_LOST.strip()}\n\n{lost(regrets)}"),
        ("Differences", f"{_DIFFERENCES.strip()}\n\n{differences(regrets)}"),
        ("Confirmed answers", f"{_CONFIRMED.strip()}\n\n{confirmations(rows)}"),
        ("Families", f"Median points lost. {header}.\n\n{per_family(regrets, COLUMNS, FITTED)}"),
    ]
    title = "The judge: whole studies on recorded families"
    return Page(title=title, command=COMMAND, opening=OPENING, sections=sections)


def write(kept: Path, path: Path) -> None:
    """Write the page of a file of repetitions."""
    page(Kept(kept)).write(path)
