"""Search strategies against each other, replayed on recorded cycles with a simulated clock.

    python -m benchmarks.search --task cifar-small --repetitions 100

Compute counts everything that trains: sweeps, short cycles, confirmation. Every repetition gives
all strategies the same seed.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np
import typer

from benchmarks.plan import WIDE_MAX_LR
from benchmarks.replay import World, world_of
from benchmarks.simulate import Simulator
from search.plan import costs
from search.space import Params, Ranges, baseline
from studies.definition import Screening, Study
from trainers.seeding import seed_for

BUDGETS = (10, 14, 20, 28, 40, 50, 70, 100, 140, 200)
SHOWN = (10, 20, 50, 100, 200)
TARGETS = (0.5, 0.3, 0.2)
"""Regrets in points."""

Choices = dict[int, Params | None]
"""Budget in full cycles -> what a strategy would answer then."""


def plain(world: World, seed: int, *, sampler: str, pruner: str) -> Choices:
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
    spent = 0.0
    found: Choices = dict.fromkeys(BUDGETS)
    while spent < BUDGETS[-1]:
        trial = study.ask()
        params = Params(
            max_lr=trial.suggest_float("max_lr", *WIDE_MAX_LR, log=True),
            pct_start=trial.suggest_float("pct_start", *space.pct_start),
            div_factor=trial.suggest_float("div_factor", *space.div_factor, log=True),
        )
        curve = world.curve(params, seed=seed_for(seed, "search", 0, trial.number))
        state, value = optuna.trial.TrialState.COMPLETE, curve[-1]
        for epoch, score in enumerate(curve, 1):
            spent += 1 / epochs
            trial.report(score, epoch)
            if epoch < epochs and trial.should_prune():
                state, value = optuna.trial.TrialState.PRUNED, score
                break
        study.tell(trial, None if state.name == "PRUNED" else value, state)
        whole = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
        best = max(whole, key=lambda t: t.value or 0.0, default=None)
        for budget in BUDGETS:
            if spent <= budget:
                found[budget] = None if best is None else Params(**best.params)
    return found


def ours(
    world: World, seed: int, *, screening: Callable[[Study], Screening], confirms: bool
) -> Choices:
    """Search as the product does, each budget turned into a number of configurations.

    Where the confirmation would take more than half of the budget, or is not asked for, the
    answer is the first finalist.
    """
    study = replace(world.study, screening=screening(world.study))
    found: Choices = {}
    for budget in BUDGETS:
        images = budget * study.cycle_steps * study.task.batch_size
        full = (study.confirmation.n_finalists + 1) * study.confirmation.n_seeds
        confirm = confirms and full <= budget / 2
        n_trials = _affordable(study, images, confirm=confirm)
        if n_trials == 0:
            found[budget] = None
            continue
        said = Simulator(study, world.table, seed=seed, n_trials=n_trials).run(confirm=confirm)
        found[budget] = None if said is None else said.winner
    return found


def _affordable(study: Study, images: int, *, confirm: bool) -> int:
    n_trials = 0
    while True:
        parts = costs(study, n_trials=n_trials + 1)
        if sum(c.n_images for c in parts if confirm or c.stage != "confirmation") > images:
            return n_trials
        n_trials += 1


def one_length(study: Study, sampler: str, n_initial: int = 8) -> Screening:
    """Return a screening at the full length only."""
    return Screening(n_trials=1, epochs=study.full_epochs, sampler=sampler, n_initial=n_initial)


def several(study: Study, sampler: str, last: int, n_initial: int = 8) -> Screening:
    """Return a screening at the `last` lengths of the study's."""
    lengths = study.screening.lengths[-last:]
    return Screening(n_trials=1, epochs=lengths, sampler=sampler, n_initial=n_initial)


STRATEGIES: dict[str, Callable[[World, int], Choices]] = {
    "a plain Optuna": partial(plain, sampler="tpe", pruner="median"),
    "b without pruner": partial(plain, sampler="tpe", pruner="none"),
    "c random": partial(plain, sampler="random", pruner="none"),
    "d Hyperband": partial(plain, sampler="tpe", pruner="hyperband"),
    "f range test + random": partial(
        ours, screening=partial(one_length, sampler="random", n_initial=0), confirms=False
    ),
    **{
        f"e {sampler}, {last} length(s){', confirmed' if confirms else ''}": partial(
            ours,
            screening=partial(one_length, sampler=sampler)
            if last == 1
            else partial(several, sampler=sampler, last=last),
            confirms=confirms,
        )
        for sampler in ("tpe", "gp", "qmc", "cmaes")
        for last in (1, 2, 3)
        for confirms in (False, True)
    },
}


@dataclass(frozen=True, slots=True)
class Regrets:
    """Points lost by each answer, repetition by budget; NaN where a strategy had none."""

    strategy: str
    points: np.ndarray

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
        pairs = np.stack([self._at(budget), other._at(budget)])
        draws = np.random.default_rng(0).integers(pairs.shape[1], size=(2000, pairs.shape[1]))
        with np.errstate(invalid="ignore"):
            medians = np.median(pairs[:, draws], axis=2)
            low, high = np.nanquantile(medians[0] - medians[1], [0.025, 0.975])
            middle = self.median(budget) - other.median(budget)
        return middle, float(low), float(high)

    def _at(self, budget: int) -> np.ndarray:
        return np.nan_to_num(self.points[:, BUDGETS.index(budget)], nan=np.inf)


def regrets(task: str, strategy: str, repetitions: int, pool: ProcessPoolExecutor) -> Regrets:
    """Run one strategy many times."""
    rows = list(pool.map(partial(_one, task, strategy), range(repetitions)))
    return Regrets(strategy, np.array(rows))


def _one(task: str, strategy: str, repetition: int) -> list[float]:
    world = world_of(task)
    choices = STRATEGIES[strategy](world, seed_for(0, "benchmark", repetition))
    best = _optimum(task)
    return [
        np.nan if params is None else 100 * (best - world.truth([params])[0])
        for params in (choices[budget] for budget in BUDGETS)
    ]


def _optimum(task: str) -> float:
    """Return the best truth over a dense set of the wide space."""
    from scipy.stats import qmc

    world = world_of(task)
    unit = qmc.Sobol(3, scramble=True, seed=0).random_base2(12).tolist()
    wide = Ranges(space=world.study.space, bracket=WIDE_MAX_LR, proposal=0.1)
    points = [wide.at(u) for u in unit]
    return float(max(world.truth([*points, baseline(0.1)])))


def tables(found: Sequence[Regrets]) -> str:
    """Return the results as Markdown."""
    heads = " | ".join(f"{budget}" for budget in SHOWN)
    lines = [
        f"Regret in points, median (90th percentile), n = {found[0].points.shape[0]} repetitions, "
        "against compute in full cycles:",
        "",
        f"| strategy | {heads} | " + " | ".join(f"to {t:g}" for t in TARGETS) + " |",
        "|---" * (1 + len(SHOWN) + len(TARGETS)) + "|",
    ]
    for each in found:
        cells = [f"{each.median(b):.2f} ({each.ninth(b):.2f})" for b in SHOWN]
        reached = [str(each.reaches(t) or f"> {BUDGETS[-1]}") for t in TARGETS]
        lines.append(f"| {each.strategy} | " + " | ".join([*cells, *reached]) + " |")
    for rival in [r for r in found if r.strategy[0] in "bf"]:
        lines += ["", f"Median regret minus that of {rival.strategy} [95 % paired bootstrap]:", ""]
        lines += [f"| strategy | {heads} |", "|---" * (1 + len(SHOWN)) + "|"]
        for each in (r for r in found if r.strategy.startswith("e ")):
            cells = ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*each.behind(rival, b)) for b in SHOWN]
            lines.append(f"| {each.strategy} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    task: Annotated[str, typer.Option(help="A recorded task, or synthetic.")] = "cifar-small",
    repetitions: Annotated[int, typer.Option(min=2)] = 100,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    only: Annotated[str, typer.Option(help="Strategies that hold one of these, split by ;")] = "",
) -> None:
    """Print how the strategies do."""
    wanted = [s for s in STRATEGIES if any(part in s for part in only.split(";"))]
    print(world_of(task).described(), flush=True)
    with ProcessPoolExecutor(workers) as pool:
        found = []
        for strategy in wanted:
            started = time.perf_counter()
            found.append(regrets(task, strategy, repetitions, pool))
            each_s = workers * (time.perf_counter() - started) / repetitions
            typer.echo(f"{strategy}: {each_s:.1f} s of a worker for a repetition", err=True)
    print(tables(found))


if __name__ == "__main__":
    typer.run(main)
