"""The strategies by name, and one repetition of one of them."""

import time
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.judge import alone, former, ours
from benchmarks.judge.answers import Answers
from benchmarks.judge.constants import held_out
from benchmarks.judge.judged import Judged, judged
from benchmarks.judge.kept import Row
from trainers.seeding import run_seed_for

Strategy = Callable[[Judged, int], Mapping[str, Answers]]


def _alone(
    family: Judged, seed: int, *, name: str, sampler: alone.Sampler, wide: bool
) -> Mapping[str, Answers]:
    max_lr = family.wide_range if wide else family.careful_range
    found = alone.searched(
        family.study,
        family.world,
        seed=seed,
        sampler=sampler,
        max_lr=max_lr,
        budgets=ours.BUDGETS,
    )
    return {name: found}


def _ours(family: Judged, seed: int) -> Mapping[str, Answers]:
    with held_out(family.study.name):
        search = ours.Search(family.study, family.world, seed=seed)
        return {**ours.within_budgets(search), "ours, confirmed": ours.to_the_end(search)}


def _former(family: Judged, seed: int) -> Mapping[str, Answers]:
    search = former.FormerSearch(family.study, family.world, seed=seed)
    return {
        "before": former.within_budgets(search),
        "before, confirmed": former.to_the_end(search),
    }


def _plain() -> dict[str, Strategy]:
    found: dict[str, Strategy] = {}
    samplers: tuple[alone.Sampler, ...] = ("tpe", "gp")
    for sampler in samplers:
        for wide in (False, True):
            name = f"{sampler}, {'wide' if wide else 'careful'}"
            found[name] = partial(_alone, name=name, sampler=sampler, wide=wide)
    return found


STRATEGIES: Mapping[str, Strategy] = {
    "ours": _ours,
    "before": _former,
    **_plain(),
}
"""What is run; some give the answers of more than one strategy."""


def repeated(family: str, strategy: str, repetition: int) -> list[Row]:
    """Run one repetition of one strategy on one family; every strategy gets the same seed."""
    on, seed = judged(family), run_seed_for(0, "judge", repetition)
    before = time.process_time()
    found = STRATEGIES[strategy](on, seed)
    seconds = time.process_time() - before
    return [
        Row.of(on, name, repetition, answers, seconds=seconds) for name, answers in found.items()
    ]


def repeated_often(family: str, strategy: str, repetitions: tuple[int, ...]) -> list[Row]:
    """Run several repetitions."""
    return [row for number in repetitions for row in repeated(family, strategy, number)]
