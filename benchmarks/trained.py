"""What a few searches of `cifar-small` answer, trained for real.

    python -m benchmarks.trained --data FOLDER --save FILE --workers 2
    python -m benchmarks.trained --data FOLDER --save FILE --workers 2 --replayed --budget 100
    python -m benchmarks.trained --write docs/benchmarks/trained.md

It says whether benchmarks.search points the right way. The searches themselves train, too, or are
`--replayed`. Each answer is trained with fresh seeds, the same for all. Eleven core hours, or a
GPU. The same line resumes where a killed start ended, and prints the tables of a file that is
whole. The last line writes the page of the kept files and trains nothing.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.accuracies import COMPARED, Accuracies, Answer
from benchmarks.commands import Flags, at_least, ended, existing_folder
from benchmarks.lines import append, drop_torn_line, whole_lines
from benchmarks.perform import classifier_of
from benchmarks.processes import as_they_end
from benchmarks.replay import RECORDED, padded, world_of
from benchmarks.search import SEARCHES
from benchmarks.tables import Page
from search.params import Params
from studies.cifar_small import STUDY
from trainers.device import Site, cache_folder, resolve_device
from trainers.errors import UserError
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Run
from trainers.seeding import seed_for
from trainers.sweeps.sweep import Sweep

COMMAND = "python -m benchmarks.trained --write docs/benchmarks/trained.md"

OPENING = """
Searches of `cifar-small`, CIFAR-10 (JPEG), whose answers were trained with fresh seeds, the same
for all. The strategies are those of [search.md](search.md); "ours" is `e tpe, expected,
confirmed`. Accuracies are in %, differences in points, both with the 95 % t interval over
searches; differences are paired by search. "Replay says" is what the surrogate takes the same
answers to score on the validation split.
"""


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
        return padded(accuracies, self.study.epochs, self.study.diverged_value)


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
        answers[strategy] = dict(params)
    return answers


def again(site: Site, params: Answer, n_seeds: int) -> list[tuple[float, float]]:
    """Return the scores of a configuration with each fresh seed."""
    world, plan = Trained(site), Params(**params).plan(STUDY.cycle_steps)
    seeds = [seed_for(0, "trained", "again", number) for number in range(n_seeds)]
    return [world.scores(plan, epochs=STUDY.epochs, seed=seed) for seed in seeds]


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
            print(f"{key}: {value}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Which searches: `budget` in full cycles, and how many of each strategy."""

    budget: int
    searches: int
    replayed: bool

    @property
    def how(self) -> str:
        """The searches in words."""
        return f"{self.budget} cycles{' replayed' * self.replayed}"

    def keys(self) -> dict[str, tuple[str, int]]:
        """Return each search by its key in a file: its name and number."""
        return {
            f"{name}, {self.how}, {number}": (name, number)
            for number in range(self.searches)
            for name in COMPARED
        }

    def answers(self, saved: Saved) -> dict[str, list[Answer]]:
        """Return the answers of each strategy, in the order of the searches."""
        answers: dict[str, list[Answer]] = {}
        for key, (name, _) in self.keys().items():
            for strategy in COMPARED[name]:
                answers.setdefault(strategy, []).append(saved.found[key][strategy])
        return answers

    def text(self, saved: Saved) -> str:
        """Return the tables of a file that is whole, as Markdown."""
        answers = self.answers(saved)
        counts = {len(saved.found[json.dumps(p)]) for found in answers.values() for p in found}
        n_seeds = " or ".join(map(str, sorted(counts)))
        accuracies = Accuracies.of(answers, saved.found, world_of(STUDY.name).truth)
        title = (
            f"{STUDY.name}, searches of {self.how}, "
            f"each answer trained with {n_seeds} fresh seeds:"
        )
        return "\n\n".join(
            [title, accuracies.table(), accuracies.differences(), accuracies.agreement()]
        )


KEPT = {
    "trained": (
        Asked(budget=40, searches=3, replayed=False),
        "All cycles of the searches were trained (`--seeds 10 --device cuda --workers 16`):\n"
        "NVIDIA H200, bf16, torch 2.11.0, optuna 5.0.0; about 750 cycles in eight minutes.",
    ),
    "replayed": (
        Asked(budget=100, searches=6, replayed=True),
        "The searches were replayed, their answers trained (`--replayed --budget 100 "
        "--searches 6`):\nan AMD EPYC without bf16, fp32, torch 2.14.1.",
    ),
}
"""The files that the page shows: how their searches were asked for, and where they trained."""


def page() -> Page:
    """Return the page of the kept files."""
    sections = []
    for name, (asked, where) in KEPT.items():
        saved = Saved(RECORDED / "search" / f"{STUDY.name}.{name}.jsonl")
        sections.append((f"Searches of {asked.how}", f"{where}\n\n{asked.text(saved)}"))
    title = "The search: what the answers score when they are trained"
    return Page(title=title, command=COMMAND, opening=OPENING, sections=sections)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    flags = Flags("trained", __doc__)
    flags.add_places("files")
    flags.add_argument("--data", type=existing_folder, help="CIFAR-10 as an ImageFolder")
    flags.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto")
    flags.add_argument(
        "--workers", type=at_least(1), default=1, help="processes of one thread each"
    )
    flags.add_argument(
        "--budget", type=at_least(1), default=40, help="of each search, in full cycles"
    )
    flags.add_argument("--searches", type=at_least(2), default=3, help="of each strategy")
    flags.add_argument("--seeds", type=at_least(2), default=5, help="fresh, for each answer")
    flags.add_argument("--replayed", action="store_true", help="look the searches' cycles up")
    return flags.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print what the answers are worth, or write the page; return the exit code."""
    asked = _arguments(argv)
    if asked.write is not None:
        return ended(lambda: page().write(asked.write))
    return ended(partial(_train, asked))


def _train(flags: argparse.Namespace) -> None:
    saved = Saved(flags.save)
    asked = Asked(budget=flags.budget, searches=flags.searches, replayed=flags.replayed)
    site = Site(device=resolve_device(flags.device), data=flags.data, cache=cache_folder())
    do = partial(search, site, budget=asked.budget, replayed=asked.replayed)
    saved.do({key: partial(do, *job) for key, job in asked.keys().items()}, flags.workers)
    every = {
        json.dumps(params): params for found in asked.answers(saved).values() for params in found
    }
    fresh = {key: partial(again, site, params, flags.seeds) for key, params in every.items()}
    saved.do(fresh, flags.workers)
    print(asked.text(saved))


if __name__ == "__main__":
    sys.exit(main())
