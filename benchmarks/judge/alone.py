"""Plain Optuna: one of its samplers as it sets it, over a range of the user's own."""

import math
from collections.abc import Sequence
from typing import Literal

from benchmarks.judge.answers import Answer, Answers
from benchmarks.judge.counted import Counted
from search.params import Params
from studies.definition import Study
from trainers.seeding import run_seed_for
from trainers.table import Table

Sampler = Literal["tpe", "gp"]


def searched(
    study: Study,
    table: Table,
    *,
    seed: int,
    sampler: Sampler,
    max_lr: tuple[float, float],
    budgets: Sequence[int],
) -> Answers:
    """Return the best trial after each budget; every trial has a training seed of its own."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    make = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}[sampler]
    asked = optuna.create_study(direction=study.direction, sampler=make(seed=seed % 2**32))
    counted, space = Counted(table, study, seed=seed), study.space
    sign = 1 if study.direction == "maximize" else -1
    best, params_of_best, answers = -math.inf, None, {}
    for number in range(max(budgets)):
        trial = asked.ask()
        params = Params(
            max_lr=trial.suggest_float("max_lr", *max_lr, log=True),
            pct_start=trial.suggest_float("pct_start", *space.pct_start),
            div_factor=trial.suggest_float("div_factor", *space.div_factor, log=True),
        )
        score, _ = counted.scores(
            params.plan(study.cycle_steps),
            epochs=study.epochs,
            seed=run_seed_for(seed, "search", 0, number),
        )
        asked.tell(trial, score)
        if params_of_best is None or sign * score > best:
            best, params_of_best = sign * score, params
        if number + 1 in budgets:
            answers[str(number + 1)] = Answer(params_of_best, counted.cycles)
    return Answers(answers)
