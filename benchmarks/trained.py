"""A few searches of `cifar-small` with real cycles, at equal compute.

    python -m benchmarks.trained --data FOLDER --save FILE --workers 2

It says whether benchmarks.search points the right way. Each answer is trained again with fresh
seeds, the same for all. The same line goes on where a killed start ended, and prints the table of
a file that is whole.
"""

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer

from benchmarks.lines import append, drop_torn_line, whole_lines
from benchmarks.perform import classifier_of
from benchmarks.replay import padded
from benchmarks.search import OURS, RIVAL, SEARCHES
from search.confirmation import estimate
from search.space import Params
from studies.cifar_small import STUDY
from trainers.device import Site, cache_folder
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Run
from trainers.seeding import seed_for
from trainers.sweep import Sweep

BUDGET = 20
"""In full cycles."""

COMPARED = ("a plain Optuna", "b without pruner", RIVAL, OURS)
N_SEARCHES = 6
N_FRESH = 5

Answers = Mapping[str, dict[str, float]]
"""Strategy -> the configuration that it answers."""


class Trained:
    """A world (benchmarks.replay.World) in which every look-up trains."""

    def __init__(self, site: Site) -> None:
        self.study, self.table = STUDY, self
        self.classifier = classifier_of(STUDY, site)

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        """Train one cycle; return its scores on the validation and the test split."""
        ended = self.classifier.fit(Run(plan=cycle, seed=seed, sealed_split="test"))
        broken = self.study.diverged_value
        return (
            broken if ended.score is None else ended.score,
            broken if ended.sealed_score is None else ended.sealed_score,
        )

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


def search(site: Site, name: str, number: int) -> Answers:
    """Do one search; return what its strategies answer."""
    seed = seed_for(0, "trained", number)
    found = SEARCHES[name](Trained(site), seed, budgets=(BUDGET,))
    answers = {strategy: choices[BUDGET] for strategy, choices in found.answers.items()}
    return {strategy: p.searched() for strategy, p in answers.items() if p is not None}


def again(site: Site, params: dict[str, float]) -> list[tuple[float, float]]:
    """Return the scores of a configuration with each fresh seed."""
    world, plan = Trained(site), Params(**params).plan(STUDY.cycle_steps)
    seeds = [seed_for(0, "trained", "again", number) for number in range(N_FRESH)]
    return [world.scores(plan, epochs=STUDY.full_epochs, seed=seed) for seed in seeds]


class Saved:
    """What was trained: JSON lines of a key and what came out."""

    def __init__(self, path: Path) -> None:
        drop_torn_line(path)
        self.path, self.found = path, dict(map(json.loads, whole_lines(path)))

    def do(self, jobs: Mapping[str, tuple[Callable[..., object], ...]], workers: int) -> None:
        """Do what is missing, and keep it as it ends."""
        missing = {key: job for key, job in jobs.items() if key not in self.found}
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
            running = {pool.submit(*job): key for key, job in missing.items()}
            for ended in as_completed(running):
                key, value = running[ended], ended.result()
                append(self.path, [key, value])
                self.found[key] = json.loads(json.dumps(value))
                typer.echo(f"{key}: {value}", err=True)


def table(searched: Mapping[str, Answers], scores: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Return the results as Markdown: accuracies in percent, mean of the answers and interval."""
    lines = [
        f"{STUDY.name}, {BUDGET} full cycles for each search; each answer trained again with "
        f"{N_FRESH} fresh seeds.",
        "",
        f"| strategy | validation, mean of n = {N_SEARCHES} searches | test | max_lr of each |",
        "|---|---|---|---|",
    ]
    by_strategy: dict[str, list[dict[str, float]]] = {}
    for answers in searched.values():
        for strategy, params in answers.items():
            by_strategy.setdefault(strategy, []).append(params)
    for strategy, found in by_strategy.items():
        rows = [scores[json.dumps(params)] for params in found]
        cells = [strategy]
        for split in (0, 1):
            means = estimate([100 * fmean(seed[split] for seed in row) for row in rows])
            cells.append(f"{means.mean:.2f} ± {means.half_width:.2f}")
        cells.append(", ".join(f"{params['max_lr']:.3g}" for params in found))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    save: Annotated[Path, typer.Option(help="Where results are kept, and found again.")],
    data: Annotated[Path | None, typer.Option(help="CIFAR-10 as an ImageFolder.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of one thread each.")] = 1,
) -> None:
    """Print what the answers are worth."""
    site, saved = Site(device="cpu", data=data, cache=cache_folder()), Saved(save)
    searches = {
        f"{name}, {number}": (search, site, name, number)
        for number in range(N_SEARCHES)
        for name in COMPARED
    }
    saved.do(searches, workers)
    searched = {key: saved.found[key] for key in searches}
    answers = [params for found in searched.values() for params in found.values()]
    saved.do({json.dumps(params): (again, site, params) for params in answers}, workers)
    print(table(searched, saved.found))


if __name__ == "__main__":
    typer.run(main)
