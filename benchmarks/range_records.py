"""What the recorded files of the range test's benchmark say, before it is put into tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev

from benchmarks.optimum import Optimum, fit
from benchmarks.plan import Work
from benchmarks.records import CycleRecord, Journal, Record, SuggestionRecord, SweepRecord
from benchmarks.settings import (
    CHECK_SEEDS,
    GRID_SEEDS,
    N_BEST,
    N_SWEEPS,
    SETTINGS,
    Setting,
    number_of,
)
from trainers.sweeps.judgement import Judgement, Proposal, judge_together, propose

KINDS = ("sweeps", "cycles", "suggestions")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What one tool and rule suggested in the repetitions of one length, None where nothing."""

    name: str
    n_steps: int
    rates: tuple[float | None, ...]
    costs: tuple[int, ...]
    errors: tuple[str, ...] = ()

    @property
    def given(self) -> list[float]:
        """The suggestions that are numbers, as log10."""
        return [math.log10(rate) for rate in self.rates if rate is not None]

    @property
    def middle(self) -> float | None:
        """The median of log10 over repetitions."""
        return median(self.given) if self.given else None

    @property
    def sd(self) -> float | None:
        """The standard deviation of log10 over repetitions."""
        return stdev(self.given) if len(self.given) > 1 else None


class RangeRecords:
    """The files of a folder: one of sweeps, of cycles and of suggestions for each setting."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journals = {
            (name, kind): Journal(folder / f"{name}.{kind}.jsonl")
            for name in SETTINGS
            for kind in KINDS
        }

    def journal(self, work: Work) -> Journal:
        """Return the file that keeps this work."""
        kind = f"{work.kind}s" if work.kind in ("sweep", "cycle") else "suggestions"
        return self.journals[work.task, kind]

    def record(self, work: Work) -> Record | None:
        """Return what came of this work; None while it is to do."""
        return self.journal(work).records.get(work)

    def scores(
        self, setting: Setting, epochs: int, *, checks: bool = False
    ) -> dict[float, list[float]]:
        """Return test accuracies by max_lr: of the grid, or of cycles trained at suggestions.

        A cycle that broke has accuracy 1 / number of classes.
        """
        found: dict[float, list[float]] = {}
        for record in self.journals[setting.name, "cycles"].records.values():
            assert isinstance(record, CycleRecord)
            at_suggestion = record.work.seed in CHECK_SEEDS
            if record.work.length == epochs and at_suggestion == checks:
                score = record.test_score
                worth = setting.study.diverged_value if score is None else score
                found.setdefault(record.params.max_lr, []).append(worth)
        return found

    def optimum(self, setting: Setting, epochs: int) -> Optimum | None:
        """Return the fitted optimum of a length; None unless the whole grid is there."""
        scores = self.scores(setting, epochs)
        at_full_length = epochs == setting.study.epochs
        if not scores or (at_full_length and not self.best(setting)):
            return None
        return fit(scores)

    def best(self, setting: Setting) -> list[int]:
        """Return the best rates of a complete grid by mean validation score, as numbers."""
        means = {}
        for rate in setting.rates:
            cycles = [self.record(w) for w in setting.grid() if w.number == rate]
            scores = [c.score or 0.0 for c in cycles if isinstance(c, CycleRecord)]
            if len(scores) < len(GRID_SEEDS):
                return []
            means[rate] = fmean(scores)
        return sorted(sorted(means, key=means.__getitem__)[-N_BEST:])

    def suggested(self, setting: Setting) -> list[int]:
        """Return the numbers of each source's median suggestion at its usual length, for checks.

        None while a suggestion is to come; below the lowest rate of the grid nothing is trained.
        """
        tools = setting.suggestions(100)
        if not self.best(setting) or any(self.record(work) is None for work in tools):
            return []
        usual = [*self.ours(setting, 200)[1:], *self.theirs(setting, 100)]
        numbers = {number_of(10**source.middle) for source in usual if source.middle is not None}
        return sorted(number for number in numbers if number >= min(setting.rates))

    def judgements(self, works: Sequence[Work]) -> list[Judgement]:
        """Return what each recorded sweep of `works` says, by the rule of today."""
        records = [self.record(work) for work in works]
        return judge_together([r.curve() for r in records if isinstance(r, SweepRecord)])

    def proposals(
        self, setting: Setting, n_steps: int, *, epochs: int | None = None
    ) -> list[Proposal | None]:
        """Return what each complete repetition of ours proposes, with its slow sweep if any.

        For a cycle of so many `epochs`, by default the study's.
        """
        study = setting.study
        cycle_steps = study.steps_of(epochs or study.epochs)
        proposals = []
        works = setting.sweeps(n_steps)
        for first in range(0, len(works), N_SWEEPS):
            said = self.judgements(works[first : first + N_SWEEPS])
            slow = self.judgements([setting.slow_sweep(works[first])])
            if len(said) == N_SWEEPS:
                proposals.append(
                    propose(
                        said,
                        slow=slow[0] if slow else None,
                        cycle_steps=cycle_steps,
                        adaptive=study.task.adaptive,
                    )
                )
        return proposals

    def ours(self, setting: Setting, n_steps: int) -> list[Source]:
        """Return our proposals of one length: from single sweeps, and from whole range tests."""
        single = [
            propose(
                [said],
                cycle_steps=setting.study.cycle_steps,
                adaptive=setting.study.task.adaptive,
            )
            for said in self.judgements(setting.sweeps(n_steps))
        ]
        whole = self.proposals(setting, n_steps)
        slow_steps = 2 * n_steps if any(p and p.drift is not None for p in whole) else 0
        return [
            _ours("ours, K = 1", n_steps, single, n_steps),
            _ours(f"ours, K = {N_SWEEPS}", n_steps, whole, N_SWEEPS * n_steps + slow_steps),
        ]

    def theirs(self, setting: Setting, n_steps: int) -> list[Source]:
        """Return the suggestions of each rule of each other tool at one length."""
        by_rule: dict[str, list[tuple[float | None, SuggestionRecord]]] = {}
        records = [self.record(work) for work in setting.suggestions(n_steps)]
        known = [record for record in records if isinstance(record, SuggestionRecord)]
        rules = {r.work.kind: tuple(r.suggestions) for r in known if r.suggestions}
        for record in known:
            for rule in rules.get(record.work.kind, ("",)):
                name = f"{record.work.kind} {rule}".strip()
                by_rule.setdefault(name, []).append((record.suggestions.get(rule), record))
        return [
            Source(
                name=name,
                n_steps=n_steps,
                rates=tuple(rate for rate, _ in said),
                costs=tuple(record.n_steps for _, record in said),
                errors=tuple(sorted({r.error for _, r in said if r.error is not None})),
            )
            for name, said in sorted(by_rule.items())
        ]


def _ours(name: str, n_steps: int, proposals: Sequence[Proposal | None], cost: int) -> Source:
    rates = tuple(p.max_lr if p is not None else None for p in proposals)
    return Source(name=name, n_steps=n_steps, rates=rates, costs=(cost,) * len(rates))
