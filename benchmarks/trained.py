"""What a few searches of `cifar-small` answer, trained for real.

    python -m benchmarks.trained --data FOLDER --save FILE --workers 2
    python -m benchmarks.trained --data FOLDER --save FILE --workers 2 --replayed --budget 100

It says whether benchmarks.search points the right way. The searches themselves train, too, or are
`--replayed`. Each answer is trained with fresh seeds, the same for all. The same line goes on
where a killed start ended, and prints the tables of a file that is whole.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import typer

from benchmarks.lines import append, drop_torn_line, whole_lines
from benchmarks.perform import classifier_of
from benchmarks.processes import as_they_end
from benchmarks.replay import padded, world_of
from benchmarks.search import OURS, RIVAL, SEARCHES
from search.params import Params
from search.stages.statistics import compare, estimate
from studies.cifar_small import STUDY
from trainers.device import Site, cache_folder, resolve_device
from trainers.errors import UserError
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Run
from trainers.seeding import seed_for
from trainers.sweeps.sweep import Sweep

PRODUCT = f"{OURS}, expected, confirmed"
"""The strategy that answers as the product does."""

COMPARED = {
    "a plain Optuna": ("a plain Optuna",),
    "b without pruner": ("b without pruner",),
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
"""What is said of which strategy, and which other is taken off it."""

Answer = dict[str, float]
"""A configuration."""


class Trained:
    """A world (benchmarks.replay.World) in which every look-up trains."""

    def __init__(self, site: Site) -> None:
        self.study, self.table = STUDY, self
        self.classifier = classifier_of(STUDY, site)
        self._known: dict[tuple[OneCycle, int], tuple[float, float]] = {}

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        """Train one cycle once; return its scores on the validation and the test split."""
        if (cycle, seed) not in self._known:
            ended = self.classifier.fit(Run(plan=cycle, seed=seed, sealed_split="test"))
            broken = self.study.diverged_value
            self._known[cycle, seed] = (
                broken if ended.score is None else ended.score,
                broken if ended.sealed_score is None else ended.sealed_score,
            )
        return self._known[cycle, seed]

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        """Train one sweep; return its losses."""
        plan = Sweep(start_lr=lrs[0], end_lr=lrs[-1], total_steps=len(lrs))
        run = Run(plan=plan, seed=seed, split=None)
        self.classifier.fit(run)
        return [point.loss for point in run.points]

    def curve(self, params: Params, *, seed: int) -> Sequence[float]:
        """Train one cycle; return its validation accuracy after each epoch."""
        rows: list[EpochRow] = []
        plan = params.plan(self.study.cycle_steps)
        self.classifier.fit(Run(plan=plan, seed=seed, on_epoch=rows.append))
        accuracies = [row.validation_accuracy for row in rows]
        return padded(accuracies, self.study.full_epochs, self.study.diverged_value)


def search(
    site: Site, name: str, number: int, *, budget: int, replayed: bool
) -> dict[str, Answer]:
    """Do one search; return the answer of each strategy."""
    world = world_of(STUDY.name) if replayed else Trained(site)
    found = SEARCHES[name](world, seed_for(0, "trained", number), budgets=(budget,))
    answers: dict[str, Answer] = {}
    for strategy in COMPARED[name]:
        params = found.answers[strategy][budget]
        if params is None:
            raise UserError(f"--budget {budget}: full cycles too few for an answer of {name}")
        answers[strategy] = params.searched()
    return answers


def again(site: Site, params: Answer, n_seeds: int) -> list[tuple[float, float]]:
    """Return the scores of a configuration with each fresh seed."""
    world, plan = Trained(site), Params(**params).plan(STUDY.cycle_steps)
    seeds = [seed_for(0, "trained", "again", number) for number in range(n_seeds)]
    return [world.scores(plan, epochs=STUDY.full_epochs, seed=seed) for seed in seeds]


class Saved:
    """What was trained: JSON lines of a key and what came out."""

    def __init__(self, path: Path) -> None:
        drop_torn_line(path)
        self.path, self.found = path, dict(map(json.loads, whole_lines(path)))

    def do(self, jobs: Mapping[str, Callable[[], object]], workers: int) -> None:
        """Do what is missing, and keep it as it ends."""
        missing = {key: job for key, job in jobs.items() if key not in self.found}
        for key, value in as_they_end(missing, workers=workers):
            append(self.path, [key, value])
            self.found[key] = json.loads(json.dumps(value))
            typer.echo(f"{key}: {value}", err=True)


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Accuracies of the answers of each strategy in percent: means over the fresh seeds.

    `said` is what a replay takes the answers to score on the validation split. The searches of all
    strategies are in the same order.
    """

    answers: Mapping[str, Sequence[Answer]]
    said: Mapping[str, Sequence[float]]
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
                    for params in found
                ]
                for strategy, found in answers.items()
            }

        said = {
            strategy: [100 * score for score in truth([Params(**params) for params in found])]
            for strategy, found in answers.items()
        }
        return cls(answers, said, means(0), means(1))

    def table(self) -> str:
        """Return the means over searches, with t intervals, as Markdown."""
        lines = [
            "| strategy | n | replay says | validation | test | max_lr, pct_start of each |",
            "|---|---|---|---|---|---|",
        ]
        for strategy, found in self.answers.items():
            cells = [strategy, str(len(found)), f"{fmean(self.said[strategy]):.2f}"]
            for split in (self.validation, self.test):
                means = estimate(split[strategy])
                cells.append(f"{means.mean:.2f} ± {means.half_width:.2f}")
            cells.append("; ".join("{max_lr:.3g}, {pct_start:.2f}".format(**p) for p in found))
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def differences(self) -> str:
        """Return DIFFERENCES, paired by search, with t intervals, as Markdown."""
        lines = ["| difference | replay says | validation | test |", "|---|---|---|---|"]
        for label, (one, other) in DIFFERENCES.items():
            cells = [label, f"{fmean(self.said[one]) - fmean(self.said[other]):+.2f}"]
            for split in (self.validation, self.test):
                ahead = compare(split[one], split[other]).difference
                cells.append(f"{ahead.mean:+.2f} [{ahead.low:+.2f}, {ahead.high:+.2f}]")
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def agreement(self) -> str:
        """Return how the replay's scores of the answers, each counted once, fit trained ones."""
        by_answer = {
            json.dumps(params): (said, trained)
            for strategy, found in self.answers.items()
            for params, said, trained in zip(
                found, self.said[strategy], self.validation[strategy], strict=True
            )
        }
        said, trained = np.array(list(by_answer.values())).T
        off = trained - said
        return (
            f"Over {len(off)} answers, trained scores (validation) and the replay's correlate "
            f"{np.corrcoef(said, trained)[0, 1]:.2f}; trained minus replay: {off.mean():+.2f}, "
            f"standard deviation {off.std(ddof=1):.2f}."
        )


def main(
    save: Annotated[Path, typer.Option(help="Where results are kept, and found again.")],
    data: Annotated[Path | None, typer.Option(help="CIFAR-10 as an ImageFolder.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Processes of one thread each.")] = 1,
    budget: Annotated[int, typer.Option(min=1, help="Of each search, in full cycles.")] = 40,
    searches: Annotated[int, typer.Option(min=2, help="Of each strategy.")] = 3,
    seeds: Annotated[int, typer.Option(min=2, help="Fresh ones, for each answer.")] = 5,
    replayed: Annotated[bool, typer.Option(help="Look the searches' cycles up.")] = False,
) -> None:
    """Print what the answers are worth."""
    saved, how = Saved(save), f"{budget} cycles{' replayed' * replayed}"
    keys = {
        f"{name}, {how}, {number}": (name, number)
        for number in range(searches)
        for name in COMPARED
    }
    answers: dict[str, list[Answer]] = {}
    try:
        site = Site(device=resolve_device(device), data=data, cache=cache_folder())
        do = partial(search, site, budget=budget, replayed=replayed)
        saved.do({key: partial(do, *job) for key, job in keys.items()}, workers)
        for key, (name, _) in keys.items():
            for strategy in COMPARED[name]:
                answers.setdefault(strategy, []).append(saved.found[key][strategy])
        every = {json.dumps(params): params for found in answers.values() for params in found}
        saved.do(
            {key: partial(again, site, params, seeds) for key, params in every.items()}, workers
        )
    except UserError as error:
        raise typer.BadParameter(str(error)) from error
    n_seeds = " or ".join(map(str, sorted({len(saved.found[key]) for key in every})))
    found = Accuracies.of(answers, saved.found, world_of(STUDY.name).truth)
    print(f"{STUDY.name}, searches of {how}, each answer trained with {n_seeds} fresh seeds:\n")
    print(found.table(), found.differences(), found.agreement(), sep="\n\n")


if __name__ == "__main__":
    typer.run(main)
