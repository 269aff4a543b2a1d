"""What the judge found, in tables: points lost, differences of strategies, confirmations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from benchmarks.judge.kept import Row, Verdict
from benchmarks.tables import table

GOALS = {"range test": "0.55", "6": "0.42", "10": "0.35 (0.65)", "20": "0.22"}
"""What was hoped for, by budget: mean over families of the median regret (90th percentile)."""
OURS = "ours"
COLUMNS = ("range test", "6", "8.5", "10", "20", "confirmed")
_DRAWS = 4_000
_MUCH = 0.1
"""Points by which one may be behind the other in a family."""
_POWER_AT = 0.7
_NEAR = 0.25
"""Pairs whose true difference lies so near to _POWER_AT count for the power at it."""

Middle = Callable[[Sequence[float]], float]


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(np.median(values))


def ninth(values: Sequence[float]) -> float:
    """Return the 90th percentile."""
    return float(np.quantile(values, 0.9))


@dataclass(frozen=True, slots=True)
class Regrets:
    """Points lost and cycles spent, by strategy, budget, family: one pair for each repetition."""

    of: Mapping[tuple[str, str], Mapping[str, Mapping[int, tuple[float, float]]]]

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> "Regrets":
        """Sort rows by strategy and budget."""
        found: dict[tuple[str, str], dict[str, dict[int, tuple[float, float]]]] = {}
        for row in rows:
            for budget, pair in row.answers.items():
                by_family = found.setdefault((row.strategy, budget), {})
                by_family.setdefault(row.family, {})[row.repetition] = pair
        return cls(found)

    @property
    def strategies(self) -> list[str]:
        """The strategies, in the order of their first rows' names."""
        return sorted({strategy for strategy, _ in self.of}, key=_place)

    def by_family(self, strategy: str, budget: str, middle: Middle) -> dict[str, float]:
        """Return the median or another quantile of the points lost in each family."""
        return {
            family: middle([regret for regret, _ in pairs.values()])
            for family, pairs in self.of.get((strategy, budget), {}).items()
        }

    def cycles(self, strategy: str, budget: str, middle: Middle = fmean) -> float:
        """Return what the answers cost, mean over families."""
        pairs = self.of[strategy, budget].values()
        return fmean(middle([cycles for _, cycles in each.values()]) for each in pairs)

    def n(self, strategy: str, budget: str) -> int:
        """Return the number of repetitions that every family has."""
        return min(len(each) for each in self.of[strategy, budget].values())

    def behind(
        self, one: tuple[str, str], other: tuple[str, str], middle: Middle
    ) -> tuple[float, float, float, int]:
        """Return one minus another, mean over families, with a 95 % bootstrap over families.

        Only repetitions that both have count: they had the same seeds.
        """
        differences = np.array(list(self.differences(one, other, middle).values()))
        draws = np.random.default_rng(0).integers(
            len(differences), size=(_DRAWS, len(differences))
        )
        low, high = np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
        return float(differences.mean()), float(low), float(high), len(differences)

    def differences(
        self, one: tuple[str, str], other: tuple[str, str], middle: Middle
    ) -> dict[str, float]:
        """Return one minus another by family, over the repetitions that both have."""
        ours, theirs = self.of.get(one, {}), self.of.get(other, {})
        found = {}
        for family in sorted(ours.keys() & theirs.keys()):
            both = sorted(ours[family].keys() & theirs[family].keys())
            if both:
                a, b = ([side[family][r][0] for r in both] for side in (ours, theirs))
                found[family] = middle(a) - middle(b)
        return found


_ORDER = ("ours", "before", "tpe", "gp")


def _place(strategy: str) -> tuple[int, str]:
    return _ORDER.index(strategy.split(", ")[0]), strategy


def lost(regrets: Regrets, over: Middle = fmean) -> str:
    """Return the table of points lost: mean `over` families of the median (90th percentile)."""
    rows = []
    for strategy in regrets.strategies:
        cells = []
        for budget in COLUMNS:
            found = regrets.by_family(strategy, budget, median)
            if not found:
                cells.append("")
                continue
            tail = regrets.by_family(strategy, budget, ninth)
            cost = regrets.cycles(strategy, budget)
            text = f"{over(list(found.values())):.2f} ({over(list(tail.values())):.2f})"
            cells.append(text if _is_its_budget(budget, cost) else f"{text} at {cost:.1f}")
        budget = next(b for b in COLUMNS if (strategy, b) in regrets.of)
        n = f"{len(regrets.of[strategy, budget])} x {regrets.n(strategy, budget)}"
        rows.append([strategy, n, *cells])
    if over is fmean:
        rows.append(["*hoped for*", "", *(GOALS.get(budget, "") for budget in COLUMNS)])
    return table(["strategy", "families x repetitions", *COLUMNS], rows)


def _is_its_budget(budget: str, cost: float) -> bool:
    """Whether a mean cost needs no words: it is the budget's, within a cycle not used up."""
    try:
        return float(budget) - 1 <= cost <= float(budget)
    except ValueError:
        return False


PAIRED = (("6", "6"), ("10", "8.5"), ("10", "10"), ("20", "20"))


def differences(regrets: Regrets) -> str:
    """Return ours minus each other strategy at the same compute."""
    rows = []
    for other in regrets.strategies:
        if other == OURS:
            continue
        for own, their in PAIRED:
            if (other, their) not in regrets.of or (OURS, own) not in regrets.of:
                continue
            cells = [
                "{:+.2f} [{:+.2f}, {:+.2f}]".format(
                    *regrets.behind((OURS, own), (other, their), middle)[:3]
                )
                for middle in (median, ninth)
            ]
            apart = regrets.differences((OURS, own), (other, their), median)
            worst = max(apart, key=lambda family: apart[family])
            ahead = sum(value < -_MUCH for value in apart.values())
            behind = sum(value > _MUCH for value in apart.values())
            which = own if own == their else f"{own} against {their}"
            rows.append(
                [other, which, *cells, ahead, behind, len(apart), f"{worst} {apart[worst]:+.2f}"]
            )
    heads = ["ours minus", "cycles", "median", "90th percentile"]
    heads += ["ahead by over 0.1 in", "behind by over 0.1 in", "of families", "worst family"]
    return table(heads, rows)


def per_family(regrets: Regrets, columns: Sequence[tuple[str, str]], marked: Iterable[str]) -> str:
    """Return the median of each family; `marked` ones had a part in the constants."""
    shown = [column for column in columns if column in regrets.of]
    families = sorted({family for column in shown for family in regrets.of[column]})
    rows = []
    for family in families:
        cells = []
        for strategy, budget in shown:
            value = regrets.by_family(strategy, budget, median).get(family)
            cells.append("" if value is None else f"{value:.2f}")
        spent = [c for _, c in regrets.of[OURS, "range test"].get(family, {}).values()]
        cost = f"{fmean(spent):.1f}" if spent else ""
        name = f"{family} *" if family in marked else family
        rows.append([name, cost, *cells])
    heads = ["family", "range test in cycles"]
    return table([*heads, *(f"{s}, {b}" for s, b in shown)], rows)


def confirmations(rows: Sequence[Row]) -> str:
    """Return what confirmed answers lose and cost, and how often a gain is shown."""
    lines = []
    for strategy in sorted({row.strategy for row in rows if row.verdict}, key=_place):
        own = [row for row in rows if row.strategy == strategy and row.verdict]
        regrets = Regrets.from_rows(own)
        families = {row.family for row in own}

        def mean_of(
            value: Callable[[Row], float],
            middle: Middle,
            own: Sequence[Row] = own,
            families: Iterable[str] = families,
        ) -> float:
            return fmean(
                middle([value(row) for row in own if row.family == family]) for family in families
            )

        def pick(row: Row) -> float:
            return _verdict(row).pick

        def baseline(row: Row) -> float:
            return _verdict(row).baseline

        def cost(row: Row) -> float:
            return row.answers["confirmed"][1]

        def n_search(row: Row) -> float:
            return _verdict(row).n_search

        taken = [regrets.by_family(strategy, "confirmed", m) for m in (median, ninth)]
        lines.append(
            [
                strategy,
                f"{fmean(taken[0].values()):.2f} ({fmean(taken[1].values()):.2f})",
                f"{mean_of(pick, median):.2f} ({mean_of(pick, ninth):.2f})",
                f"{mean_of(baseline, median):.2f}",
                f"{mean_of(cost, fmean):.1f} ({ninth([cost(row) for row in own]):.1f})",
                f"{mean_of(n_search, fmean):.1f}",
                *_errors([_verdict(row) for row in own]),
            ]
        )
    heads = [
        "strategy",
        "recommended",
        "pick",
        "baseline",
        "cycles in all (90th)",
        "of them search",
        "shows a gain",
        "error where there is none",
        f"power at {_POWER_AT} points",
        "power at 1.5 points and more",
    ]
    return table(heads, lines)


def _verdict(row: Row) -> Verdict:
    assert row.verdict is not None
    return row.verdict


def _errors(verdicts: Sequence[Verdict]) -> list[str]:
    """Return how often 'better' is shown: in all, where it is wrong, and where it is right."""
    kinds = (
        verdicts,
        [v for v in verdicts if v.truth <= 0 and v.pick != v.baseline],
        [v for v in verdicts if abs(v.truth - _POWER_AT) <= _NEAR],
        [v for v in verdicts if v.truth >= 1.5],
    )
    found = []
    for number, of_a_kind in enumerate(kinds):
        shown = sum(v.shown == "better" for v in of_a_kind)
        share = f"{shown / len(of_a_kind):.0%}" if of_a_kind else "-"
        found.append(share if number == 0 else f"{share} of {len(of_a_kind)}")
    return found
