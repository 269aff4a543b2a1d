"""What the replayed searches lost against the best configuration, and the page that shows it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.lines import whole_lines
from benchmarks.tables import Page, table

BUDGETS = (5, 7, 10, 14, 20, 28, 40, 50, 70, 100, 140, 200)
"""In full cycles: what one cycle of the study's length trains."""
SHOWN = (10, 20, 50, 100, 200)
TARGETS = (0.5, 0.3, 0.2)
"""Regrets in points."""

PLAIN, RIVAL, OURS = "b without pruner", "f range test + random", "e tpe"

COMMAND = "python -m benchmarks.search --write docs/benchmarks/search.md"

OPENING = """
Of each of two tasks 768 cycles are recorded (128 quasi-random configurations, half over `max_lr`
1e-4 to 10, half within a factor of 8 of the rebound; 1, 2 and 4 epochs; 2 seeds each) and 96
sweeps: CIFAR-10 (JPEG), torch 2.14.1, bf16, one thread a run, on an AMD EPYC (Zen 4) and an Intel
Xeon (Sapphire Rapids). `cifar-small` is the study as it is (SGD); `cifar-residual` is a residual
net with group norm under AdamW. A Gaussian process through the cycles of each length gives a
configuration's mean, the two seeds of each give the noise, and sweeps are drawn from the recorded
ones. Its held-out error at 4 epochs is 1.26 and 1.38 points (root mean square), 0.44 in the
better half of the configurations: as much as the seeds' own noise in the scores that it is held
against (0.44 and 0.47).

Regret is the best mean of a dense set over the wide space minus the mean of the answer, in points
of validation accuracy. A full cycle is one of 4 epochs, 312 steps. Everything that trains is
counted: the range test is 4.5 of them (6 sweeps, 1,400 steps), a confirmation 20 (three finalists
and the baseline, 5 seeds each).

| strategy | what it does |
|---|---|
| `a` plain Optuna | TPE with the MedianPruner, both as Optuna sets them |
| `b` without pruner | TPE alone |
| `f` range test + random | our range test, then random configurations in its bracket |
| `e` | ours, by sampler and by lengths of cycles |

`a` and `b` sample `max_lr` from 1e-4 to 10, `pct_start` and `div_factor` as the study does, and
answer with their best trial. `e` and `f` answer in more than one way: the best single score; the
best *expected* score (what the product ranks finalists by); or, where that takes at most half of
the budget, the winner of a *confirmation*. The product answered as "expected, confirmed"
before its sampler was `kg`.

The surrogate is a Gaussian process, and expected scores come from one, too (other scales, other
noise, only the scores of its search). That flatters `expected`: see [trained.md](trained.md).
"""

_REGRET = """
Regret in points, median (90th percentile) of n repetitions, against compute in full cycles, and
the compute from which on the median is at most 0.5, 0.3 or 0.2:
"""
_SAMPLERS = """
Other samplers, expected scores in all of them: median regret minus that of TPE [95 % paired
bootstrap], and CPU time for a configuration as a multiple of TPE's (half of `gp` was timed on
another machine).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One search of one repetition: points lost by each strategy at each budget."""

    search: str
    repetition: int
    points: Mapping[str, Sequence[float | None]]
    n_configurations: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Regrets:
    """Points lost by the answers of each repetition at each budget; None: no answer."""

    strategy: str
    points: Mapping[int, Sequence[float | None]]

    def median(self, budget: int) -> float:
        """Return the median; no answer counts as infinitely bad."""
        return float(np.median(self._at(budget)))

    def ninth(self, budget: int) -> float:
        """Return the 90th percentile."""
        return float(np.quantile(self._at(budget), 0.9, method="higher"))

    def reaches(self, target: float) -> int | None:
        """Return the first budget at which the median regret is at most `target` points."""
        return next((b for b in BUDGETS if self.median(b) <= target), None)

    def behind(self, other: "Regrets", budget: int) -> tuple[float, float, float]:
        """Return how far the median lies behind another's, with its paired bootstrap interval."""
        both = sorted(self.points.keys() & other.points.keys())
        pairs = np.stack([self._at(budget, both), other._at(budget, both)])
        draws = np.random.default_rng(0).integers(pairs.shape[1], size=(2000, pairs.shape[1]))
        with np.errstate(invalid="ignore"):
            medians = np.median(pairs[:, draws], axis=2)
            low, high = np.nanquantile(medians[0] - medians[1], [0.025, 0.975])
            middle = float(np.subtract(*np.median(pairs, axis=1)))
        return middle, float(low), float(high)

    def _at(self, budget: int, repetitions: Iterable[int] | None = None) -> np.ndarray:
        rows = [self.points[r] for r in (self.points if repetitions is None else repetitions)]
        found = [row[BUDGETS.index(budget)] for row in rows]
        return np.array([np.inf if points is None else points for points in found])


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of a file of searches; `world` says in one line what they were simulated on."""

    world: str
    rows: Sequence[Row]

    @classmethod
    def read(cls, path: Path) -> "Kept":
        """Read a file that is whole."""
        first, *rest = map(json.loads, whole_lines(path))
        return cls(first["world"], [Row(**row) for row in rest])

    def regrets(self, order: Iterable[str]) -> list[Regrets]:
        """Return what each strategy lost, in the order of the searches."""
        found: list[Regrets] = []
        for search in order:
            rows = self._of(search)
            found += [
                Regrets(strategy, {row.repetition: row.points[strategy] for row in rows})
                for strategy in (rows[0].points if rows else ())
            ]
        return found

    def seconds(self, search: str) -> float | None:
        """Return the CPU time of a configuration; None where nothing was searched so."""
        rows = self._of(search)
        if not rows:
            return None
        return sum(r.cpu_seconds for r in rows) / sum(r.n_configurations for r in rows)

    def _of(self, search: str) -> list[Row]:
        return [row for row in self.rows if row.search == search]


def page(files: Sequence[Path], order: Sequence[str]) -> Page:
    """Return the page of the kept searches, one file for each task."""
    sections = []
    for path in files:
        kept = Kept.read(path)
        text = "\n\n".join([f"{kept.world}.", tables(kept.regrets(order)), samplers(kept, order)])
        sections.append((f"`{path.stem}`", text))
    title = "The search: long tables of replayed searches"
    return Page(title=title, command=COMMAND, opening=OPENING, sections=sections)


def tables(regrets: Sequence[Regrets]) -> str:
    """Return what strategies lost, and ours beside its two rivals, as Markdown."""
    shown = [each for each in regrets if _is_shown(each.strategy)]
    heads = ["strategy", "n", *map(str, SHOWN), *(f"to {target:g}" for target in TARGETS)]
    rows = [
        [
            each.strategy,
            len(each.points),
            *(f"{each.median(b):.2f} ({each.ninth(b):.2f})" for b in SHOWN),
            *(each.reaches(target) or f"> {BUDGETS[-1]}" for target in TARGETS),
        ]
        for each in shown
    ]
    parts = [_REGRET.strip(), table(heads, rows)]
    for rival in [each for each in shown if each.strategy in (PLAIN, RIVAL)]:
        ours = [each for each in shown if each.strategy.startswith("e ")]
        rows = [[each.strategy, *(_behind(each, rival, b) for b in SHOWN)] for each in ours]
        parts += [
            f"Median regret minus that of {rival.strategy} [95 % paired bootstrap]:",
            table(["strategy", *map(str, SHOWN)], rows),
        ]
    return "\n\n".join(parts)


def samplers(kept: Kept, order: Sequence[str]) -> str:
    """Return the other samplers beside TPE, all with one length, as Markdown."""
    regrets = {each.strategy: each for each in kept.regrets(order)}
    tpe, seconds = regrets.get(f"{OURS}, expected"), kept.seconds(OURS)
    rows = []
    for search in order:
        each, own = regrets.get(f"{search}, expected"), kept.seconds(search)
        if search == OURS or "lengths" in search or not (tpe and seconds and each and own):
            continue
        cells = [_behind(each, tpe, b) for b in SHOWN[1:]]
        rows.append([search, len(each.points), *cells, f"{own / seconds:.1f}"])
    heads = ["sampler", "n", *map(str, SHOWN[1:]), "time"]
    return f"{_SAMPLERS.strip()}\n\n{table(heads, rows)}"


def _behind(one: Regrets, other: Regrets, budget: int) -> str:
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*one.behind(other, budget))


def _is_shown(strategy: str) -> bool:
    """Whether the tables have a strategy: our other samplers and lengths answer as expected."""
    search = strategy.split(", ")[0] if "lengths" not in strategy else strategy
    return search in (RIVAL, OURS) or search[0] in "ab" or strategy.endswith("expected")
