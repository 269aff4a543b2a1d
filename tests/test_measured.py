"""What is written of a run is measured by us, whatever its loop counts."""

import math

import pytest

from search.queue.work import Ended
from search.workers.outcome import ended_of
from tests.table_study import STUDY
from trainers.run import Run, RunResult
from trainers.sweeps.sweep import Sweep

STEPS = 60


def ended(*, says_s: float, n_images: int, resumed: bool = False, **params: float) -> Ended:
    """Return what is written of a sweep that took 2 s here."""
    plan = Sweep(start_lr=1e-3, end_lr=1.0, total_steps=STEPS)
    result = RunResult(
        score=None, outcome="completed", n_steps=STEPS, n_images=n_images, seconds=says_s
    )
    return ended_of(
        Run(plan=plan, seed=0, split=None, params=params),
        result,
        study=STUDY,
        judged=False,
        device="cpu",
        seconds=2.0,
        resumed=resumed,
    )


@pytest.mark.parametrize("says_s", [0.0, 0.1, 1e9, math.nan, math.inf, -1.0])
def test_the_seconds_of_a_run_are_those_of_our_clock(says_s: float) -> None:
    assert ended(says_s=says_s, n_images=600).seconds == 2.0


@pytest.mark.parametrize(
    ("says_s", "kept_s"), [(9.0, 9.0), (1.0, 2.0), (math.nan, 2.0), (math.inf, 2.0)]
)
def test_a_run_that_another_worker_began_counts_its_own(says_s: float, kept_s: float) -> None:
    assert ended(says_s=says_s, n_images=600, resumed=True).seconds == kept_s


def test_images_that_a_loop_does_not_count_are_those_of_its_steps() -> None:
    assert ended(says_s=1.0, n_images=0).n_images == STEPS * STUDY.task.batch_size
    assert ended(says_s=1.0, n_images=0, batch_size=32).n_images == STEPS * 32
    assert ended(says_s=1.0, n_images=7).n_images == 7
