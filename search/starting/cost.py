"""What a study costs, in training images and time, before anything is spent."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from search.stages.order import stage_name
from studies.definition import Study
from studies.registry import Definition
from studies.tables import StudyRow
from trainers.device import DeviceKind, Precision, Site, cache_folder
from trainers.run import Run, Trainer
from trainers.sweeps.sweep import Sweep


@dataclass(frozen=True, slots=True)
class StageCost:
    """Runs of one stage, in the search of one length: how many, of how many steps, over how many
    training images.

    The last run of a range test takes twice the `steps`. Cycles of another batch size than the
    task's take another number of steps, over about as many images.
    """

    stage: str
    name: str
    n_runs: int
    steps: int
    n_images: int


def costs(study: Study, *, n_trials: int) -> tuple[StageCost, ...]:
    """Return the cost by stage and length; images are counted each time they are trained on.

    A cycle counts with the batch size that leaves the fewest images out: none costs more.
    """
    sweeps, confirmation, screening = study.range_test, study.confirmation, study.screening
    counts = screening.counts(n_trials)
    n_finalists = min(confirmation.n_finalists, counts[-1] - 1)
    n_confirmed = (n_finalists + 1) * confirmation.n_seeds
    sizes = study.batch_sizes
    swept = (sweeps.n_sweeps * sweeps.n_steps + sweeps.slow_steps) * sum(sizes)
    epoch = max(size * study.steps_of(1, batch_size=size) for size in sizes)
    runs = [
        ("range_test", 0, (sweeps.n_sweeps + 1) * len(sizes), sweeps.n_steps, swept),
        *(
            ("search", length, n, study.steps_of(length), n * length * epoch)
            for length, n in zip(screening.lengths, counts, strict=True)
        ),
        (
            "confirmation",
            0,
            n_confirmed,
            study.cycle_steps,
            n_confirmed * study.full_epochs * epoch,
        ),
    ]
    return tuple(
        StageCost(
            stage=stage,
            name=stage_name(stage, length, screening.lengths),
            n_runs=n,
            steps=steps,
            n_images=n_images,
        )
        for stage, length, n, steps, n_images in runs
    )


@dataclass(frozen=True, slots=True)
class Started:
    """A study that is ready to be worked on, and what it will cost here.

    `only` names the one stage to do; `plan` then holds that stage alone.
    """

    row: StudyRow
    definition: Definition
    site: Site
    trainer: Trainer
    plan: tuple[StageCost, ...]
    n_workers: int
    images_per_s: float
    only: str | None = None

    @property
    def seconds(self) -> float:
        """How long the whole study takes here, from the timed warm-up; scoring not counted."""
        return sum(cost.n_images for cost in self.plan) / self.images_per_s


def stored_precision(row: StudyRow | None) -> Precision | None:
    """Return the precision that a stored study resolved, None where there is none yet."""
    found = (row.resolved or {}).get("precision") if row is not None else None
    return "bf16" if found == "bf16" else "fp32" if found == "fp32" else None


def load_task(
    definition: Definition,
    row: StudyRow | None,
    *,
    device: str,
    data: str | Path | None,
) -> tuple[Trainer, Site]:
    """Load what is trained at this site; torch and the data are needed from here on.

    A stored study keeps the precision that it was made with, on whatever device.
    """
    from trainers.device import resolve_device

    site = Site(
        device=resolve_device(device),
        data=None if data is None else Path(data).expanduser().resolve(),
        cache=cache_folder(),
        precision=stored_precision(row),
    )
    return definition.study.task.trainer(site), site


def estimate(
    row: StudyRow,
    definition: Definition,
    trainer: Trainer,
    site: Site,
    *,
    rate: float,
    workers: int | None,
    only: str | None = None,
) -> Started:
    """Say what the study costs here, where one worker alone trains `rate` images per second."""
    every = costs(definition.study, n_trials=row.n_trials)
    plan = tuple(cost for cost in every if only in (None, cost.stage))
    n_devices = devices(site.device)
    n_workers = workers or min(n_devices, max(cost.n_runs for cost in plan))
    return Started(
        row=row,
        definition=definition,
        site=site,
        trainer=trainer,
        plan=plan,
        n_workers=n_workers,
        images_per_s=min(n_workers, n_devices) * rate,
        only=only,
    )


def warm_up(trainer: Trainer, study: Study) -> float:
    """Return training images per second of one worker, from a few steps at vanishing rates.

    The first round pays for what is loaded once; it counts only where steps take seconds.
    """
    n_steps, seconds = 2, 0.0
    for at_least_s in (10.0, 0.5, 0.5, 0.5, 0.5):
        plan = Sweep(start_lr=1e-9, end_lr=1e-8, total_steps=n_steps)
        started = time.perf_counter()
        trainer.fit(Run(plan=plan, seed=0, split=None))
        seconds = time.perf_counter() - started
        if seconds > at_least_s:
            break
        n_steps *= 4
    return plan.total_steps * study.task.batch_size / seconds


def devices(kind: DeviceKind) -> int:
    """Return how many runs this machine trains at once: GPUs, or CPU cores."""
    if kind == "cpu":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if kind == "mps":
        return 1
    import torch

    return torch.cuda.device_count()


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: '40 s', '12 min', '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
