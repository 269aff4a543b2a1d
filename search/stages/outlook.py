"""What an ended study knows of its answer: how near the best it is, what more cycles would buy."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.rows import done_rows
from search.stages.believed import Belief, belief_of
from search.stages.rounds import last_round
from search.stages.search import BASELINE_SLOT, cycles_of
from search.stages.verdict import challenge_of, verdict_of
from studies.answer import Answer, Expected, OneMoreHour
from studies.definition import Study
from studies.params import spanned
from studies.states import Stage, sign_of
from studies.tables import StudyRow, WorkerRow, WorkRow
from trainers.seeding import seed_for

if TYPE_CHECKING:
    import numpy as np

# Logistic regression of "was near the best" on the chance's log odds: 704 configurations of 22
# recorded families after 10 and 20 cycles. With each family left out it holds (docs/log.md).
_ODDS, _TILT = 0.68, 0.52
CLOSE = 0.2
"""Points of an accuracy, or so much of another metric's unit, that are as good as the best."""
_HOUR_S = 3600.0
_MOST_CYCLES = 200  # of an hour: short cycles are as many as a study ever had in no time
_N_DRAWS = 4_000
_JITTER = 1e-9
"""Of a variance: what keeps a covariance of twice the same point positive definite."""
_MOST_POINTS = 300  # looked at together: the time grows with their cube, here 0.1 s


def with_outlook(session: Session, row: StudyRow, study: Study, answer: Answer) -> Answer:
    """Return the answer with the chance that what it recommends is close to the best of the range
    searched, and with what one more hour is expected to buy.

    Both by the surrogate's posterior after all cycles of search and confirmation. The answer as
    it was where no cycle has a score of its own, or too few have to say what a point is.
    """
    cycles = cycles_of(session, row)
    confirmed = done_rows(session, row.id, Stage.CONFIRMATION)
    belief = belief_of(row, study, cycles, confirmed)
    if belief is None or _says_nothing(belief, row.metric):
        return answer
    seed = seed_for(row.seed, "outlook")
    chances = chances_near_best(belief, seed=seed)
    taken, other = _taken_and_other(session, row, answer)
    n_cycles = _cycles_in_an_hour(session, row, cycles)
    hour = OneMoreHour(n_cycles, gain_of_cycles(belief, n_cycles, seed=seed)) if n_cycles else None
    return replace(
        answer,
        chance=chances.get(taken),
        other_chance=chances.get(other),
        margin=CLOSE * belief.unit,
        one_more_hour=hour,
        expected=_expected(belief, answer.choices or ()),
    )


def _says_nothing(belief: Belief, metric: str) -> bool:
    """Whether a point of the metric is a guess that rests on too few scores to be one."""
    from search.belief.surrogate import FEWEST_FOR_A_GUESS, unit_is_guessed

    return unit_is_guessed(metric) and len(belief.tried) < FEWEST_FOR_A_GUESS


def _expected(belief: Belief, choices: Sequence[str]) -> Expected:
    """Return what the surrogate expects of the range; `choices` are told value by value."""
    sign = sign_of(belief.direction)
    every = [*(each.params for each in belief.tried), *belief.candidates]
    scores = [sign * score for score in belief.expected(every)]
    least = max(scores) - CLOSE * belief.unit
    near = [params for params, score in zip(every, scores, strict=True) if score >= least]
    spans = {
        name: spanned(name, [params[name] for params in near], choices=name in choices)
        for name in near[0]
        if name not in belief.ranges.fixed
    }
    return Expected(belief.effects, spans)


def chances_near_best(belief: Belief, *, seed: int) -> dict[int, float]:
    """Return the chance of each slot that was tried to lie within CLOSE of the best of the range.

    The range is known by what was tried and by the candidates of the belief.
    """
    points = _points(belief, [*(each.params for each in belief.tried), *belief.candidates])
    chances = belief.surrogate.chance_within(points, CLOSE * belief.unit, seed=seed).tolist()
    return {
        each.slot: calibrated(chance) for each, chance in zip(belief.tried, chances, strict=False)
    }


def calibrated(chance: float) -> float:
    """Return how often a configuration was near the best where the surrogate gave it that chance.

    Its best of some hundred configurations is better than any is: each has a little luck left.
    """
    from search.belief.surrogate import N_DRAWS

    least = 0.5 / N_DRAWS  # what no draw showed is rare, not impossible
    chance = min(1 - least, max(least, chance))
    log_odds = _ODDS + _TILT * math.log(chance / (1 - chance))
    return 1 / (1 + math.exp(-log_odds))


def gain_of_cycles(belief: Belief, n_cycles: int, *, seed: int) -> float:
    """Return what `n_cycles` more are expected to gain, in the metric's unit, never below 0.

    They are given at once, to each configuration in proportion to the probability that it is the
    best (Thompson 1933); a search that learns between cycles gains a little more.
    """
    import numpy as np

    surrogate, rng = belief.surrogate, np.random.default_rng(seed)
    every = _points(belief, [*(each.params for each in belief.tried), *belief.candidates])
    promise = surrogate.mean(every) + 2 * surrogate.deviation(every)
    points = every[np.argsort(-promise, kind="stable")[:_MOST_POINTS]]
    draws = surrogate.draws(points, _N_DRAWS, rng=rng)
    share = np.bincount(draws.argmax(axis=1), minlength=len(points)) / len(draws)
    return gain_of_scores(draws, noise=surrogate.noise, n_seeds=n_cycles * share, rng=rng)


def gain_of_scores(
    draws: "np.ndarray", *, noise: float, n_seeds: "np.ndarray", rng: "np.random.Generator"
) -> float:
    """Return how much better the choice among points is expected to be after more scores.

    `draws` (n, m) are joint ones of the noiseless scores of m points; `n_seeds` (m,) more scores
    come, each with the deviation `noise`; fractions are allowed. Half of the draws give the means
    and covariances of a linear estimate from these scores; the others are the truth in which the
    choice by that estimate is compared with the choice of now.
    """
    import numpy as np

    known, truth = np.array_split(draws, 2)
    scored = np.flatnonzero(n_seeds > 0)
    means, covariance = known.mean(axis=0), np.cov(known, rowvar=False)
    total = covariance[np.ix_(scored, scored)] + np.diag(noise**2 / n_seeds[scored])
    total += _JITTER * total.trace() / len(scored) * np.eye(len(scored))
    errors = rng.standard_normal((len(truth), len(scored))) * noise / np.sqrt(n_seeds[scored])
    seen = truth[:, scored] + errors - means[scored]
    chosen = (means + seen @ np.linalg.solve(total, covariance[scored])).argmax(axis=1)
    gains = truth[np.arange(len(truth)), chosen] - truth[:, means.argmax()]
    return max(0.0, float(gains.mean()))


def _taken_and_other(session: Session, row: StudyRow, answer: Answer) -> tuple[int, int]:
    """Return the slots of what the verdict takes and of the pick or baseline beside it."""
    compared = answer.comparisons[-1] if answer.compared else None
    shown = compared or challenge_of(last_round(session, row), answer.winner, row.direction)
    verdict = verdict_of(answer.winner, shown, direction=row.direction)
    both = (answer.winner, BASELINE_SLOT)
    return both if verdict.takes_pick else both[::-1]


def _cycles_in_an_hour(session: Session, row: StudyRow, cycles: Sequence[WorkRow]) -> int:
    """Return how many cycles the present workers train in an hour, by what one took so far."""
    seconds = [work.seconds for work in cycles if work.seconds]
    if not seconds:
        return 0
    joined = select(func.count()).where(WorkerRow.study_id == row.id)
    n_workers = max(1, session.scalar(joined) or 0)
    return min(_MOST_CYCLES, int(n_workers * _HOUR_S / fmean(seconds)))


def _points(belief: Belief, params: Sequence[Params]) -> "np.ndarray":
    import numpy as np

    return np.array([belief.ranges.coordinates(each) for each in params])
