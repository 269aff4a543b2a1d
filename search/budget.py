"""What a study costs, in training images by stage, before anything is spent."""

from dataclasses import dataclass

from studies.definition import Study


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage: how many runs, of how many optimizer steps, over how many training images."""

    stage: str
    n_runs: int
    steps: int
    n_images: int


def costs(study: Study, *, n_trials: int) -> tuple[StageCost, ...]:
    """Return the cost of each stage; images are counted each time they are trained on."""
    sweeps, confirmation = study.range_test, study.confirmation
    n_finalists = min(confirmation.n_finalists, n_trials - 1)
    n_confirmed = (n_finalists + 1) * confirmation.n_seeds
    runs = (
        ("range_test", sweeps.n_sweeps, sweeps.n_steps),
        ("search", n_trials, study.cycle_steps),
        ("confirmation", n_confirmed, study.cycle_steps),
    )
    return tuple(
        StageCost(stage, n, steps, n * steps * study.task.batch_size) for stage, n, steps in runs
    )


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: '40 s', '12 min', '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
