"""Search strategies against each other, replayed on recorded cycles with a simulated clock.

    python -m benchmarks.search --task cifar-small --repetitions 100 --save FILE

Compute counts everything that trains: sweeps, short cycles, confirmation. Every repetition gives
all strategies the same seed. The same line goes on where a killed start ended, and prints the
tables of a file that is whole.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.lines import append, drop_torn_line, whole_lines
from benchmarks.plan import WIDE_MAX_LR
from benchmarks.replay import World, world_of
from benchmarks.simulate import Simulator
from search.params import Params
from search.stages.space import Ranges, baseline
from search.starting.cost import costs
from studies.definition import Screening, Study
from trainers.seeding import seed_for

BUDGETS = (5, 7, 10, 14, 20, 28, 40, 50, 70, 100, 140, 200)
"""In full cycles: what one cycle of the study's length trains."""

SHOWN = (10, 20, 50, 100, 200)
TARGETS = (0.5, 0.3, 0.2)
"""Regrets in points."""

Choices = dict[int, Params | None]
"""Budget -> what a strategy would answer then."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one search gives: its answers by strategy, and how many configurations it took."""

    answers: Mapping[str, Choices]
    n_configurations: int


def plain(
    world: World,
    seed: int,
    *,
    name: str,
    sampler: str,
    pruner: str,
    budgets: Sequence[int] = BUDGETS,
) -> Found:
    """Search the wide space as plain Optuna does; the answer is its best trial."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    epochs, space = world.study.full_epochs, world.study.space
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    pruners = {
        "median": optuna.pruners.MedianPruner,
        "hyperband": partial(optuna.pruners.HyperbandPruner, 1, epochs),
        "none": optuna.pruners.NopPruner,
    }
    study = optuna.create_study(
        study_name="plain",
        direction=world.study.direction,
        sampler=samplers[sampler](seed=seed % 2**32),
        pruner=pruners[pruner](),
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
    screening: Callable[[Study], Screening],
    budgets: Sequence[int] = BUDGETS,
) -> Found:
    """Search as the product does, each budget turned into a number of configurations.

    The answer is the best by its score alone; by its `expected` score; or what the confirmation
    chooses, where that takes no more than half of the budget. A budget of the range test alone
    gives the proposal.
    """
    study = replace(world.study, screening=screening(world.study))
    confirmation = study.confirmation
    n_confirmed = (confirmation.n_finalists + 1) * confirmation.n_seeds
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
        if sum(c.n_images for c in parts if confirm or c.stage != "confirmation") > images:
            return n_trials
        n_trials += 1


def _screening(
    study: Study, *, sampler: str, n_lengths: int, share: float, n_initial: int
) -> Screening:
    return Screening(
        n_trials=1,
        epochs=study.screening.lengths[-n_lengths:],
        share=share,
        sampler=sampler,
        n_initial=n_initial,
    )


def _searches() -> dict[str, Callable[..., Found]]:
    found: dict[str, Callable[..., Found]] = {
        "a plain Optuna": partial(plain, sampler="tpe", pruner="median"),
        "b without pruner": partial(plain, sampler="tpe", pruner="none"),
        "c random": partial(plain, sampler="random", pruner="none"),
        "d Hyperband": partial(plain, sampler="tpe", pruner="hyperband"),
    }
    designs = {
        RIVAL: ("random", 1, 1.0, 0),
        **{f"e {sampler}": (sampler, 1, 1.0, 8) for sampler in ("tpe", "gp", "qmc", "cmaes")},
        **{
            f"e tpe, {n_lengths} lengths, {share:g} kept": ("tpe", n_lengths, share, 8)
            for n_lengths, share in ((2, 0.25), (3, 0.5), (3, 0.25))
        },
    }
    for name, (sampler, n_lengths, share, n_initial) in designs.items():
        screening = partial(
            _screening, sampler=sampler, n_lengths=n_lengths, share=share, n_initial=n_initial
        )
        found[name] = partial(ours, screening=screening)
    return {name: partial(search, name=name) for name, search in found.items()}


RIVAL, OURS = "f range test + random", "e tpe"
SEARCHES = _searches()
"""Each gives the answers of one or more strategies."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One search of one repetition: points lost by each strategy at each budget."""

    search: str
    repetition: int
    points: Mapping[str, Sequence[float | None]]
    n_configurations: int
    cpu_seconds: float


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


def regrets_of(rows: Sequence[Row]) -> list[Regrets]:
    """Return what each strategy lost, in the order of the searches."""
    found: list[Regrets] = []
    for search in SEARCHES:
        of_it = [row for row in rows if row.search == search]
        found += [
            Regrets(strategy, {row.repetition: row.points[strategy] for row in of_it})
            for strategy in (of_it[0].points if of_it else ())
        ]
    return found


class Saved:
    """The rows of a file, JSON lines after one that says what they were simulated on."""

    def __init__(self, path: Path, world: World) -> None:
        drop_torn_line(path)
        header = {"world": world.described(), "budgets": list(BUDGETS)}
        lines = [json.loads(line) for line in whole_lines(path)]
        if not lines:
            append(path, header)
        elif lines[0] != header:
            raise typer.BadParameter(f"{path} was simulated on something else: {lines[0]}")
        self.path, self.rows = path, [Row(**row) for row in lines[1:]]

    def add(self, row: Row) -> None:
        """Keep one more row."""
        append(self.path, asdict(row))
        self.rows.append(row)

    def costs(self) -> str:
        """Return what a configuration costs in each search, in CPU time."""
        lines = []
        for search in SEARCHES:
            rows = [r for r in self.rows if r.search == search]
            if rows:
                each = sum(r.cpu_seconds for r in rows) / sum(r.n_configurations for r in rows)
                lines.append(f"{search}: {1000 * each:.0f} ms of a core for a configuration")
        return "\n".join(lines)


@cache
def _optimum(task: str) -> float:
    """Return the best truth over a dense set of the wide space."""
    from scipy.stats import qmc

    world = world_of(task)
    unit = qmc.Sobol(3, scramble=True, seed=0).random_base2(12).tolist()
    wide = Ranges(space=world.study.space, bracket=WIDE_MAX_LR, proposal=0.1)
    points = [wide.at(u) for u in unit]
    return float(max(world.truth([*points, baseline(0.1)])))


def _told(strategy: str) -> bool:
    """Whether the tables have a strategy: our other samplers and lengths answer as expected."""
    search = strategy.split(", ")[0] if "lengths" not in strategy else strategy
    return search in (RIVAL, OURS) or search[0] in "abcd" or strategy.endswith("expected")


def tables(found: Sequence[Regrets]) -> str:
    """Return the results as Markdown."""
    found = [each for each in found if _told(each.strategy)]
    heads = " | ".join(f"{budget}" for budget in SHOWN)
    lines = [
        "Regret in points, median (90th percentile) of n repetitions, against compute in full "
        "cycles, and the compute from which on the median is at most 0.5, 0.3 or 0.2:",
        "",
        f"| strategy | n | {heads} | " + " | ".join(f"to {t:g}" for t in TARGETS) + " |",
        "|---" * (2 + len(SHOWN) + len(TARGETS)) + "|",
    ]
    for each in found:
        cells = [f"{each.median(b):.2f} ({each.ninth(b):.2f})" for b in SHOWN]
        reached = [str(each.reaches(t) or f"> {BUDGETS[-1]}") for t in TARGETS]
        n = len(each.points)
        lines.append(f"| {each.strategy} | {n} | " + " | ".join([*cells, *reached]) + " |")
    for rival in [r for r in found if r.strategy in ("b without pruner", RIVAL)]:
        lines += ["", f"Median regret minus that of {rival.strategy} [95 % paired bootstrap]:", ""]
        lines += [f"| strategy | {heads} |", "|---" * (1 + len(SHOWN)) + "|"]
        for each in (r for r in found if r.strategy.startswith("e ")):
            cells = ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*each.behind(rival, b)) for b in SHOWN]
            lines.append(f"| {each.strategy} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    save: Annotated[Path, typer.Option(help="Where results are kept, and found again.")],
    task: Annotated[str, typer.Option(help="A recorded task, or synthetic.")] = "cifar-small",
    repetitions: Annotated[int, typer.Option(min=2)] = 100,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    only: Annotated[str, typer.Option(help="Searches that hold one of these, split by ;")] = "",
) -> None:
    """Print how the strategies do."""
    saved = Saved(save, world_of(task))
    there = {(row.search, row.repetition) for row in saved.rows}
    missing = [
        (search, repetition)
        for search in SEARCHES
        if any(part in search for part in only.split(";"))
        for repetition in range(repetitions)
        if (search, repetition) not in there
    ]
    with ProcessPoolExecutor(workers) as pool:
        for ended in as_completed([pool.submit(searched, task, *each) for each in missing]):
            saved.add(ended.result())
            typer.echo(f"{len(saved.rows) - len(there)} of {len(missing)}", err=True)
    print(world_of(task).described())
    print(saved.costs())
    print(tables(regrets_of(saved.rows)))


if __name__ == "__main__":
    app()
