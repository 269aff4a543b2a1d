"""Search strategies against each other, replayed on recorded cycles with a simulated clock.

    python -m benchmarks.search --task cifar-small --repetitions 100 --save FILE
    python -m benchmarks.search --write docs/benchmarks/search.md

The first line takes 0.6 core hours. It resumes where a killed start ended, and prints the tables
of a file that is whole. The second writes the page of the kept searches and simulates nothing.

Compute counts everything that trains: sweeps, short cycles, confirmation. Every repetition gives
all strategies the same seed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.commands import Flags, at_least, ended
from benchmarks.lines import append, drop_torn_line, whole_lines
from benchmarks.plan import WIDE_MAX_LR
from benchmarks.replay import RECORDED, World, world_of
from benchmarks.search_report import BUDGETS, RIVAL, Kept, Row, page, samplers, tables
from benchmarks.simulate import Simulator
from benchmarks.tasks import STUDIES
from search.params import Params
from search.stages.space import Ranges, baseline
from search.starting.cost import costs
from studies.definition import Study
from studies.states import Stage
from trainers.errors import UserError
from trainers.seeding import seed_for

KEPT = tuple(RECORDED / "search" / f"{task}.jsonl" for task in ("cifar-small", "cifar-residual"))
"""The searches that the page shows."""

Choices = dict[int, Params | None]
"""Budget -> what a strategy would answer then."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one search gives: its answers by strategy, and how many configurations it took."""

    answers: Mapping[str, Choices]
    n_configurations: int


def plain(
    world: World, seed: int, *, name: str, prunes: bool, budgets: Sequence[int] = BUDGETS
) -> Found:
    """Search the wide space as plain Optuna does; the answer is its best trial."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    epochs, space = world.study.epochs, world.study.space
    study = optuna.create_study(
        study_name="plain",
        direction=world.study.direction,
        sampler=optuna.samplers.TPESampler(seed=seed % 2**32),
        pruner=optuna.pruners.MedianPruner() if prunes else optuna.pruners.NopPruner(),
    )
    spent, n_trials = 0.0, 0
    best: tuple[float, Params | None] = (-np.inf, None)
    found: Choices = dict.fromkeys(budgets)
    while spent < budgets[-1]:
        trial = study.ask()
        params = Params(
            max_lr=trial.suggest_float("max_lr", *WIDE_MAX_LR, log=True),
            pct_start=trial.suggest_float("pct_start", *space.pct_start),
            div_factor=trial.suggest_float("div_factor", *space.div_factor, log=True),
        )
        n_trials += 1
        curve = world.curve(params, seed=seed_for(seed, "search", 0, trial.number))
        pruned = False
        for epoch, score in enumerate(curve, 1):
            spent += 1 / epochs
            trial.report(score, epoch)
            if epoch < epochs and trial.should_prune():
                pruned = True
                break
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, curve[-1])
            best = max(best, (curve[-1], params), key=lambda pair: pair[0])
        for budget in budgets:
            if spent <= budget:
                found[budget] = best[1]
    return Found({name: found}, n_trials)


def ours(
    world: World,
    seed: int,
    *,
    name: str,
    sampler: str,
    n_initial: int,
    budgets: Sequence[int] = BUDGETS,
) -> Found:
    """Search as the product does, each budget turned into a number of configurations.

    The answer is the best by its score alone; by its `expected` score; or what the confirmation
    chooses, where that takes no more than half of the budget. A budget of the range test alone
    gives the proposal.
    """
    screening = replace(world.study.screening, sampler=sampler, n_initial=n_initial)
    study = replace(world.study, screening=screening)
    n_confirmed = costs(study, n_trials=study.screening.n_trials)[-1].n_runs
    range_test = costs(study, n_trials=1)[0].n_images
    simulator = Simulator(study, world.table, seed=seed)
    answers: dict[str, Choices] = {}
    most = 0
    for expects, confirms in product((False, True), (False, True)):
        words = [name, *["expected"] * expects, *["confirmed"] * confirms]
        found = answers[", ".join(words)] = dict.fromkeys(budgets)
        for budget in budgets:
            images = budget * study.cycle_steps * study.task.batch_size
            confirm = confirms and n_confirmed <= budget / 2
            n_trials = _affordable(study, images, confirm=confirm)
            most = max(most, n_trials)
            if n_trials:
                said = simulator.run(n_trials, confirm=confirm, expects=expects)
                found[budget] = said.winner if said is not None else None
            elif images >= range_test and simulator.proposal is not None:
                found[budget] = baseline(simulator.proposal.max_lr)
    return Found(answers, most)


@cache
def _affordable(study: Study, images: int, *, confirm: bool) -> int:
    n_trials = 0
    while True:
        parts = costs(study, n_trials=n_trials + 1)
        if sum(c.n_images for c in parts if confirm or c.stage != Stage.CONFIRMATION) > images:
            return n_trials
        n_trials += 1


def _searches() -> dict[str, Callable[..., Found]]:
    found: dict[str, Callable[..., Found]] = {
        "a plain Optuna": partial(plain, prunes=True),
        "b without pruner": partial(plain, prunes=False),
    }
    found[RIVAL] = partial(ours, sampler="random", n_initial=0)
    for sampler in ("tpe", "gp", "qmc", "cmaes"):
        found[f"e {sampler}"] = partial(ours, sampler=sampler, n_initial=8)
    found["e kg"] = partial(ours, sampler="kg", n_initial=0)
    return {name: partial(search, name=name) for name, search in found.items()}


SEARCHES = _searches()
"""Each gives the answers of one or more strategies."""
ORDER = (
    *SEARCHES,
    *(
        f"e tpe, {design} kept"
        for design in ("2 lengths, 0.25", "3 lengths, 0.5", "3 lengths, 0.25")
    ),
)
"""The searches of the tables: those of several cycle lengths were recorded before these went."""


def searched(task: str, search: str, repetition: int) -> Row:
    """Run one search once."""
    world, best = world_of(task), _optimum(task)
    before = time.process_time()
    found = SEARCHES[search](world, seed_for(0, "benchmark", repetition))
    points = {
        strategy: [
            None if p is None else round(100 * (best - world.truth([p])[0]), 3)
            for p in (choices[budget] for budget in BUDGETS)
        ]
        for strategy, choices in found.answers.items()
    }
    return Row(
        search=search,
        repetition=repetition,
        points=points,
        n_configurations=found.n_configurations,
        cpu_seconds=round(time.process_time() - before, 2),
    )


class Saved:
    """The rows of a file, JSON lines after one that says what they were simulated on."""

    def __init__(self, path: Path, world: World) -> None:
        drop_torn_line(path)
        header = {"world": world.described(), "budgets": list(BUDGETS)}
        lines = [json.loads(line) for line in whole_lines(path)]
        if not lines:
            append(path, header)
        elif lines[0] != header:
            raise UserError(f"{path} was simulated on something else: {lines[0]}")
        self.path, self.rows = path, [Row(**row) for row in lines[1:]]

    def add(self, row: Row) -> None:
        """Keep one more row."""
        append(self.path, asdict(row))
        self.rows.append(row)


@cache
def _optimum(task: str) -> float:
    """Return the best truth over a dense set of the wide space."""
    from scipy.stats import qmc

    world = world_of(task)
    unit = qmc.Sobol(3, scramble=True, seed=0).random_base2(12).tolist()
    wide = Ranges(others=world.study.parameters, bracket=WIDE_MAX_LR, proposed_max_lr=0.1)
    points = [wide.at(u) for u in unit]
    return float(max(world.truth([*points, baseline(0.1)])))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    flags = Flags("search", __doc__)
    flags.add_places("searches")
    flags.add_argument(
        "--task",
        choices=(*STUDIES, "synthetic"),
        default="cifar-small",
        help="default: %(default)s",
    )
    flags.add_argument("--repetitions", type=at_least(2), default=100, help="default: %(default)s")
    flags.add_argument("--workers", type=at_least(1), default=2, help="processes")
    flags.add_argument("--only", choices=SEARCHES, action="append", help="default: all")
    return flags.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print how the strategies do, or write the page; return the exit code."""
    asked = _arguments(argv)
    if asked.write is not None:
        return ended(lambda: page(KEPT, ORDER).write(asked.write))
    return ended(partial(_search, asked))


def _search(asked: argparse.Namespace) -> None:
    saved = Saved(asked.save, world_of(asked.task))
    there = {(row.search, row.repetition) for row in saved.rows}
    missing = [
        (search, repetition)
        for search in asked.only or SEARCHES
        for repetition in range(asked.repetitions)
        if (search, repetition) not in there
    ]
    with ProcessPoolExecutor(asked.workers) as pool:
        for ending in as_completed([pool.submit(searched, asked.task, *each) for each in missing]):
            saved.add(ending.result())
            print(f"{len(saved.rows) - len(there)} of {len(missing)}", file=sys.stderr)
    kept = Kept.read(asked.save)
    print(kept.world, tables(kept.regrets(ORDER)), samplers(kept, ORDER), sep="\n\n")


if __name__ == "__main__":
    sys.exit(main())
