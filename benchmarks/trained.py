"""What a few searches of `cifar-small` answer, trained for real.

    python -m benchmarks.trained --data FOLDER --save FILE --workers 2
    python -m benchmarks.trained --data FOLDER --save FILE --workers 2 --replayed --budget 100

It says whether benchmarks.search points the right way. The searches themselves train, too, or are
`--replayed`. Each answer is trained with fresh seeds, the same for all. The same line goes on
where a killed start ended, and prints the table of a file that is whole.
"""

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer

from benchmarks.lines import append, drop_torn_line, whole_lines
from benchmarks.perform import classifier_of
from benchmarks.replay import padded, world_of
from benchmarks.search import OURS, RIVAL, SEARCHES
from search.confirmation import estimate
from search.space import Params
from studies.cifar_small import STUDY
from trainers.device import Site, cache_folder
from trainers.errors import UserError
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Run
from trainers.seeding import seed_for
from trainers.sweep import Sweep

COMPARED = {
    "a plain Optuna": "a plain Optuna",
    "b without pruner": "b without pruner",
    RIVAL: RIVAL,
    OURS: f"{OURS}, expected, confirmed",
}
"""Search -> the strategy whose answers are trained."""

N_FRESH = 5

Answer = dict[str, float]
"""A configuration."""


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


def search(site: Site, name: str, number: int, *, budget: int, replayed: bool) -> Answer:
    """Do one search; return its answer."""
    world = world_of(STUDY.name) if replayed else Trained(site)
    found = SEARCHES[name](world, seed_for(0, "trained", number), budgets=(budget,))
    params = found.answers[COMPARED[name]][budget]
    if params is None:
        raise UserError(f"a budget of {budget} full cycles is too small for an answer of {name}")
    return params.searched()


def again(site: Site, params: Answer) -> list[tuple[float, float]]:
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


def table(
    searched: Mapping[str, Sequence[Answer]],
    scores: Mapping[str, Sequence[Sequence[float]]],
    truth: Callable[[Sequence[Params]], Sequence[float]],
) -> str:
    """Return the results as Markdown: accuracies in percent, mean of the answers and interval.

    `searched` has the answers of each strategy; `truth` gives the validation scores that a replay
    takes configurations to have.
    """
    lines = [
        "| strategy | n | replay says | validation | test | max_lr, pct_start of each |",
        "|---|---|---|---|---|---|",
    ]
    for strategy, found in searched.items():
        rows = [scores[json.dumps(params)] for params in found]
        said = fmean(truth([Params(**params) for params in found]))
        cells = [strategy, str(len(found)), f"{100 * said:.2f}"]
        for split in (0, 1):
            means = estimate([100 * fmean(seed[split] for seed in row) for row in rows])
            cells.append(f"{means.mean:.2f} ± {means.half_width:.2f}")
        cells.append("; ".join("{max_lr:.3g}, {pct_start:.2f}".format(**p) for p in found))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    save: Annotated[Path, typer.Option(help="Where results are kept, and found again.")],
    data: Annotated[Path | None, typer.Option(help="CIFAR-10 as an ImageFolder.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of one thread each.")] = 1,
    budget: Annotated[int, typer.Option(min=1, help="Of each search, in full cycles.")] = 20,
    searches: Annotated[int, typer.Option(min=2, help="Of each strategy.")] = 3,
    replayed: Annotated[bool, typer.Option(help="Look the searches' cycles up.")] = False,
) -> None:
    """Print what the answers are worth."""
    site, saved = Site(device="cpu", data=data, cache=cache_folder()), Saved(save)
    how = f"{budget} cycles{' replayed' * replayed}"
    do = partial(search, site, budget=budget, replayed=replayed)
    keys = {
        f"{strategy}, {how}, {number}": (name, number)
        for number in range(searches)
        for name, strategy in COMPARED.items()
    }
    saved.do({key: (do, *job) for key, job in keys.items()}, workers)
    answers: dict[str, list[Answer]] = {}
    for key, (name, _) in keys.items():
        answers.setdefault(COMPARED[name], []).append(saved.found[key])
    train = partial(again, site)
    every = [params for found in answers.values() for params in found]
    saved.do({json.dumps(params): (train, params) for params in every}, workers)
    print(f"{STUDY.name}, searches of {how}, each answer trained with {N_FRESH} fresh seeds:\n")
    print(table(answers, saved.found, world_of(STUDY.name).truth))


if __name__ == "__main__":
    typer.run(main)
