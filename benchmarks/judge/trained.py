"""Searches in which every cycle trains, and what their answers score under fresh seeds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.families.table import FAMILIES
from benchmarks.families.world import world_of
from benchmarks.judge import alone, former, ours
from benchmarks.judge.answers import Answer
from benchmarks.judge.constants import held_out
from benchmarks.judge.judged import POINT, judged
from benchmarks.lines import append, drop_torn_line, whole_lines
from benchmarks.tables import table
from search.params import Params
from studies.definition import Study
from trainers.device import Site, cache_folder
from trainers.onecycle import OneCycle
from trainers.run import Run, Trainer
from trainers.seeding import run_seed_for
from trainers.sweeps.sweep import Sweep

CHOSEN = ("textures-conv-gn", "digits-mlp", "cancer-dropout", "teacher-silu-bn")
"""A convolutional net with Nesterov momentum, an MLP with SGD and label smoothing, a table with
RMSprop, a regression with Adam: cycles of about 0.3 s."""
FILE = "judge-trained.jsonl"
BUDGET = 10
"""Cycles in all."""
N_SEARCHES, N_SEEDS = 20, 8
STRATEGIES = ("ours", "before", "tpe, careful")

Scores = Sequence[tuple[float, float]]
"""Validation and test of each fresh seed."""


class Trained:
    """A table (trainers.table) in which a look-up trains, once for each cycle and seed."""

    def __init__(self, name: str) -> None:
        self.study: Study = world_of(name).study
        self._trainer = _trainer(name)
        self._known: dict[tuple[OneCycle, int], tuple[float, float]] = {}

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        """Train one cycle; return its scores on the validation and the test split."""
        if (cycle, seed) not in self._known:
            ended = self._trainer.fit(Run(plan=cycle, seed=seed, sealed_split="test"))
            worst = self.study.diverged_value
            assert worst is not None
            scores = (ended.score, ended.sealed_score)
            validation, test = (worst if each is None else max(worst, each) for each in scores)
            self._known[cycle, seed] = validation, test
        return self._known[cycle, seed]

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        """Train one sweep; return its losses until it breaks."""
        plan = Sweep(
            start_lr=lrs[0],
            end_lr=lrs[-1],
            total_steps=len(lrs),
            adaptive=self.study.task.adaptive,
        )
        run = Run(plan=plan, seed=seed, split=None)
        self._trainer.fit(run)
        return [point.loss for point in run.points]


@cache
def _trainer(name: str) -> Trainer:
    study = FAMILIES[name].study()
    return study.task.trainer(
        Site(device="cpu", data=None, cache=cache_folder(), precision="fp32")
    )


@dataclass(frozen=True, slots=True)
class Searched:
    """The searches of one family and number: what each strategy answered, and its fresh scores."""

    family: str
    number: int
    answers: Mapping[str, tuple[Mapping[str, float], float]]
    scores: Mapping[str, Scores]

    def mean(self, strategy: str, split: int) -> float:
        """Return the mean score over fresh seeds, in points."""
        return fmean(pair[split] for pair in self.scores[strategy]) / POINT


def searched(name: str, number: int) -> Searched:
    """Do one search of each strategy, then train what they answer with common fresh seeds."""
    trained = Trained(name)
    study, seed = trained.study, run_seed_for(0, "judge trained", number)
    with held_out(name):
        search = ours.Search(study, trained, seed=seed)
        mine = ours.within_budgets(search, budgets=(BUDGET,))["ours"]
    former_search = former.FormerSearch(study, trained, seed=seed)
    before = former.within_budgets(former_search, budgets=(BUDGET,))
    careful = alone.searched(
        study,
        trained,
        seed=seed,
        sampler="tpe",
        max_lr=judged(name).careful_range,
        budgets=(BUDGET,),
    )
    found: dict[str, Answer] = {
        strategy: each.by_budget[f"{BUDGET}"]
        for strategy, each in zip(STRATEGIES, (mine, before, careful), strict=True)
    }
    seeds = [run_seed_for(0, "judge trained", "fresh", each) for each in range(N_SEEDS)]
    scores = {
        strategy: [
            trained.scores(answer.params.plan(study.cycle_steps), epochs=study.epochs, seed=each)
            for each in seeds
        ]
        for strategy, answer in found.items()
    }
    answers = {s: (_plain(a.params), round(a.cycles, 2)) for s, a in found.items()}
    return Searched(name, number, answers, scores)


def _plain(params: Params) -> dict[str, float]:
    return {name: float(f"{float(value):.6g}") for name, value in params.items()}


class KeptSearches:
    """Trained searches, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        read = (Searched(**json.loads(line)) for line in whole_lines(path))
        self.found = {(each.family, each.number): each for each in read}

    def lacking(self, n: int) -> list[tuple[str, int]]:
        """Return what is to be searched, all families in turns; makes the file ready for it."""
        drop_torn_line(self.path)
        every = [(name, number) for number in range(n) for name in CHOSEN]
        return [key for key in every if key not in self.found]

    def add(self, each: Searched) -> None:
        """Keep one more."""
        scores = {s: [[round(v, 5) for v in pair] for pair in p] for s, p in each.scores.items()}
        append(
            self.path,
            {
                "family": each.family,
                "number": each.number,
                "answers": each.answers,
                "scores": scores,
            },
        )
        self.found[each.family, each.number] = each


def differences(kept: KeptSearches) -> str:
    """Return ours minus the others, paired by search, by family and over all, as Markdown."""
    by_family = {
        name: [each for (family, _), each in sorted(kept.found.items()) if family == name]
        for name in CHOSEN
    }
    rows = []
    for other in STRATEGIES[1:]:
        apart = {
            name: [
                [each.mean("ours", split) - each.mean(other, split) for each in searches]
                for split in (0, 1)
            ]
            for name, searches in by_family.items()
            if len(searches) > 1
        }
        for name, (validation, test) in apart.items():
            rows.append([other, name, len(validation), *map(_interval, ([validation], [test]))])
        if apart:
            splits = zip(*apart.values(), strict=True)
            n = sum(len(validation) for validation, _ in apart.values())
            rows.append([other, "all", n, *map(_interval, splits)])
    return table(["ours minus", "family", "n", "validation", "test"], rows)


def _interval(strata: Sequence[Sequence[float]]) -> str:
    """Return the mean of the families' means with its 95 % t interval, families as they are."""
    from scipy.special import stdtrit

    mean = fmean(fmean(each) for each in strata)
    error = sqrt(sum(stdev(each) ** 2 / len(each) for each in strata)) / len(strata)
    reach = float(stdtrit(sum(len(each) - 1 for each in strata), 0.975)) * error
    return f"{mean:+.2f} [{mean - reach:+.2f}, {mean + reach:+.2f}]"


def means(kept: KeptSearches) -> str:
    """Return what the answers of each strategy score, and what the searches cost."""
    rows = []
    for name in CHOSEN:
        own = [each for (family, _), each in sorted(kept.found.items()) if family == name]
        for strategy in STRATEGIES if own else ():
            cost = fmean(each.answers[strategy][1] for each in own)
            cells = [
                f"{fmean(each.mean(strategy, split) for each in own):.2f}" for split in (0, 1)
            ]
            rows.append([name, strategy, len(own), f"{cost:.1f}", *cells])
    return table(["family", "strategy", "n", "cycles", "validation", "test"], rows)
