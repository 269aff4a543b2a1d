"""What the answers of searches score when they are trained, in tables."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from benchmarks.search_report import OURS, PLAIN, RIVAL
from benchmarks.tables import table
from search.params import Params
from search.stages.statistics import compare, estimate

PRODUCT = f"{OURS}, expected, confirmed"
"""The strategy that answers as the product does."""

COMPARED = {
    "a plain Optuna": ("a plain Optuna",),
    PLAIN: (PLAIN,),
    RIVAL: (RIVAL, f"{RIVAL}, expected"),
    OURS: (OURS, f"{OURS}, confirmed", f"{OURS}, expected", PRODUCT),
}
"""Search -> the strategies whose answers are trained."""

DIFFERENCES = {
    **{
        f"ours minus {strategy}": (PRODUCT, strategy)
        for strategies in COMPARED.values()
        for strategy in strategies
        if strategy != PRODUCT
    },
    **{
        f"{strategy}: expected minus single": (f"{strategy}, expected", strategy)
        for strategy in (RIVAL, OURS)
    },
}
"""A difference: the strategy, and the other one that is taken off it."""

Answer = dict[str, float]
"""A configuration."""


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Accuracies of the answers of each strategy in percent: means over the fresh seeds.

    `replayed` is what a replay takes the answers to score on the validation split. The searches of
    all strategies are in the same order.
    """

    answers: Mapping[str, Sequence[Answer]]
    replayed: Mapping[str, Sequence[float]]
    validation: Mapping[str, Sequence[float]]
    test: Mapping[str, Sequence[float]]

    @classmethod
    def of(
        cls,
        answers: Mapping[str, Sequence[Answer]],
        scores: Mapping[str, Sequence[Sequence[float]]],
        truth: Callable[[Sequence[Params]], Sequence[float]],
    ) -> "Accuracies":
        """Average the `scores` of each answer: per seed one of validation and one of test."""

        def means(split: int) -> dict[str, list[float]]:
            return {
                strategy: [
                    100 * fmean(pair[split] for pair in scores[json.dumps(params)])
                    for params in given
                ]
                for strategy, given in answers.items()
            }

        replayed = {
            strategy: [100 * score for score in truth([Params(**params) for params in given])]
            for strategy, given in answers.items()
        }
        return cls(answers, replayed, means(0), means(1))

    def table(self) -> str:
        """Return the means over searches, with t intervals, as Markdown."""
        heads = ["strategy", "n", "replay says", "validation", "test", "max_lr, pct_start of each"]
        rows = []
        for strategy, given in self.answers.items():
            cells = [strategy, str(len(given)), f"{fmean(self.replayed[strategy]):.2f}"]
            for split in (self.validation, self.test):
                means = estimate(split[strategy])
                cells.append(f"{means.mean:.2f} ± {means.half_width:.2f}")
            cells.append("; ".join("{max_lr:.3g}, {pct_start:.2f}".format(**p) for p in given))
            rows.append(cells)
        return table(heads, rows)

    def differences(self) -> str:
        """Return DIFFERENCES, paired by search, with t intervals, as Markdown."""
        rows = []
        for label, (one, other) in DIFFERENCES.items():
            cells = [label, f"{fmean(self.replayed[one]) - fmean(self.replayed[other]):+.2f}"]
            for split in (self.validation, self.test):
                ahead = compare(split[one], split[other]).difference
                cells.append(f"{ahead.mean:+.2f} [{ahead.low:+.2f}, {ahead.high:+.2f}]")
            rows.append(cells)
        return table(["difference", "replay says", "validation", "test"], rows)

    def agreement(self) -> str:
        """Return how the replay's scores of the answers, each counted once, fit trained ones."""
        by_answer = {
            json.dumps(params): (replayed, trained)
            for strategy, given in self.answers.items()
            for params, replayed, trained in zip(
                given, self.replayed[strategy], self.validation[strategy], strict=True
            )
        }
        replayed, trained = np.array(list(by_answer.values())).T
        off, correlation = trained - replayed, np.corrcoef(replayed, trained)[0, 1]
        return (
            f"Over {len(off)} answers, trained scores (validation) and the replay's correlate "
            f"{correlation:.2f}; trained minus replay: {off.mean():+.2f}, "
            f"standard deviation {off.std(ddof=1):.2f}."
        )
