"""The page of long tables."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.judge import trained
from benchmarks.judge.judged import FITTED
from benchmarks.judge.kept import Kept
from benchmarks.judge.report import (
    Regrets,
    confirmations,
    differences,
    lost,
    median,
    per_family,
)
from benchmarks.tables import Page, table
from trainers.errors import UserError

REFITS = "judge-refits.json"
COMMAND = "python -m benchmarks.judge --write docs/benchmarks/judge.md"

OPENING = """
Whole studies are replayed on recorded families of tasks (`benchmarks/families`), each a small net
with data and an optimizer of its own; a family's configurations have a surface of scores and the
noise of its seeds. The surrogate's constants are those of a fit without the family and all that
share its net or data; but its folds take the images of `cifar-small` and `cifar-residual` for
other data than those of the three families of CIFAR-10. These two (marked *) had a part in the
first choices, the others had none. All strategies of a repetition have the same seed.

Regret is the best noiseless score of validation over a dense Sobol set of the recorded space minus
that of the answer, in points (0.01 of accuracy or of R^2). Everything that trains is counted, in
cycles of the family's own length; a sweep of 200 steps is 2 cycles of 100 steps. Where a range
test takes more than a budget, the answer is that of the range test, and "at" gives what answers
cost on average.

- **ours** is the product: sweeps until two agree, first choices, the knowledge gradient; the
  answer is what is expected to score best, tried or not. **ours, tried** answers with the best
  expected of what was tried.
- **ours, confirmed** is a search that ends by itself, a race of finalists and pairs that decide;
  the answer is what the verdict recommends.
- **before** is the former product: five sweeps and a slow one, TPE after 8 Sobol points, expected
  scores of a process fitted to them. **before, confirmed** has 24 configurations, then 3 finalists
  and the baseline with 5 seeds each, and answers with the winner.
- **tpe** and **gp** are Optuna's TPESampler and GPSampler as they are set; the answer is the best
  trial. **careful**: over a factor of 30 in all around 0.1 (SGD with momentum) or 0.001 (Adam's
  kinds). **wide**: over 1e-5 to 10, as far as it was recorded.

The careful range misses the best rates of several of these small nets, which are trained for a
few hundred steps and take rates far above 0.001. OptunaHub's AutoSampler is not here: it is loaded
from a host that could not be reached.
"""

_LOST = """
Points lost: mean over families of the median over repetitions (of the 90th percentile), by cycles
in all.
"""
_LOST_IN_MOST = """
A few families lose tens of points where a range misses their best rates. The same, median over
families:
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


_REFITS = """
Each fit leaves out a family, and all that share its net or data, and is judged on it: points lost
by the truth of the surface, median over 24 range tests, mean over families; at most 5 count.
Less than zero in the difference: the fit is better than the product.
"""
_SPREAD = """
Decades from the proposal to the nearest rate that is best within 0.1 points, median over range
tests; with torch's default shape, and with that of the first choices:
"""
_TRAINED = """
Every cycle and sweep of these searches was trained by the product's own loop, 10 cycles in all.
Their answers were trained with 8 fresh seeds, the same for all. In points; paired by search, 95 %
t interval over searches; "all" is the mean of the families, which are taken as they are.
"""


def refits(kept: Mapping[str, Any]) -> str:
    """Return what fits with families left out lose beside the product."""
    rows = [
        [
            row["what"],
            row["n"],
            f"{row['now']:.2f}",
            f"{row['fit']:.2f}",
            "{:+.2f} [{:+.2f}, {:+.2f}]".format(*row["difference"]),
            f"`{row['usual']}`",
        ]
        for row in kept["fits"]
    ]
    return table(["what", "families", "product", "fit", "difference", "usual fit"], rows)


def spread(kept: Mapping[str, Any]) -> str:
    """Return how far the best max_lr lies from the proposal."""
    found = kept["spread"]
    rows = [[name, f"{a:+.2f}", f"{b:+.2f}"] for name, (a, b) in found["families"].items()]
    said = (
        f"In 80 % of {found['n']} families the best max_lr lies within a factor of "
        f"{found['defaults']:.1f} of the proposal with torch's default shape, of "
        f"{found['first choice']:.1f} with that of the first choices."
    )
    head = table(["family", "torch's defaults", "first choices"], rows)
    return f"{_SPREAD.strip()}\n\n{head}\n\n{said}"


def page(kept: Kept) -> Page:
    """Return the page of what is kept in a file and beside it."""
    rows = list(kept.rows.values())
    regrets = Regrets.from_rows(rows)
    header = ", ".join(f"{name} {value}" for name, value in kept.header.items())
    families = per_family(regrets, COLUMNS, FITTED)
    points = (_LOST, lost(regrets), _LOST_IN_MOST, lost(regrets, median))
    sections = [
        ("Points lost", "\n\n".join(part.strip() for part in points)),
        ("Differences", f"{_DIFFERENCES.strip()}\n\n{differences(regrets)}"),
        ("Confirmed answers", f"{_CONFIRMED.strip()}\n\n{confirmations(rows)}"),
        ("Families", f"Median points lost. {header}.\n\n{families}"),
    ]
    fits = kept.path.with_name(REFITS)
    if fits.exists():
        read = json.loads(fits.read_text())
        sections += [
            ("Fitted again", f"{_REFITS.strip()}\n\n{refits(read)}"),
            ("The spread of the proposal", spread(read)),
        ]
    searches = trained.KeptSearches(kept.path.with_name(trained.FILE))
    if searches.found:
        text = "\n\n".join([trained.differences(searches), trained.means(searches)])
        sections.append(("Trained for real", f"{_TRAINED.strip()}\n\n{text}"))
    title = "The judge: whole studies on recorded families"
    return Page(title=title, command=COMMAND, opening=OPENING, sections=sections)


def write(kept: Path, path: Path) -> None:
    """Write the page of a file of repetitions; raises UserError where it holds none."""
    rows = Kept(kept)
    if not rows.rows:
        raise UserError(f"{kept}: no repetition is kept there")
    page(rows).write(path)
