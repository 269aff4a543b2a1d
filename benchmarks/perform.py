"""One recorded run, done by the product's own loop, and many of them on worker processes."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from benchmarks.plan import Work
from benchmarks.processes import as_they_end
from benchmarks.records import CycleRecord, Record, SweepRecord, five_digits
from search.params import Params
from search.stages import range_test
from studies.definition import Study
from trainers.data import Digits
from trainers.device import Site, device_name
from trainers.run import EpochRow, Point, Run, Trainer
from trainers.sweeps.judgement import judge
from trainers.sweeps.sweep import LRCurve
from trainers.task import Task

if TYPE_CHECKING:
    from trainers.loop import Classifier


@dataclass(frozen=True, slots=True)
class Job:
    """One run to do; only a cycle has parameters. `seed`: the work's own where it is None."""

    study: Study
    work: Work
    params: Params | None = None
    seed: int | None = None

    @property
    def run_seed(self) -> int:
        """The seed of the run."""
        return self.work.run_seed() if self.seed is None else self.seed


def perform(job: Job, site: Site) -> Record:
    """Do one run."""
    classifier = classifier_of(job.study, site)
    if job.params is not None:
        return cycle_of(job, job.params, classifier)
    if job.work.kind == "sweep":
        return sweep_of(job, classifier)
    from benchmarks.others import suggest

    return suggest(job.work, classifier)


def header_of(study: Study, site: Site) -> dict[str, str]:
    """Return how the runs of a study are made here: task, torch, device, data, precision."""
    import torch

    return {
        "task": repr(study.task),
        "torch": ".".join(torch.__version__.split(".")[:2]),
        "torch build": torch.__version__,
        "device": f"{device_name(site.device)}, one thread a run",
        **classifier_of(study, site).facts(),
    }


def in_processes(jobs: Sequence[Job], *, site: Site, workers: int) -> Iterator[Record]:
    """Yield the records of `jobs` as they end, done by `workers` processes in the order given."""
    calls = {number: partial(perform, job, site) for number, job in enumerate(jobs)}
    for _, record in as_they_end(calls, workers=workers):
        yield record


@cache
def classifier_of(study: Study, site: Site) -> "Classifier":
    """Return what trains the runs of a study; once per process."""
    from trainers.loop import Classifier

    assert isinstance(study.task, Task)
    if isinstance(study.task.data, Digits):  # they come with scikit-learn
        site = replace(site, data=None)
    return Classifier(study.task, site)


def sweep_of(job: Job, trainer: Trainer) -> SweepRecord:
    """Do one sweep."""
    settings = job.study.range_test
    plan = range_test.sweep_of(settings, n_steps=job.work.length, adaptive=job.study.task.adaptive)
    run = Run(plan=plan, seed=job.run_seed, split=None)
    before = time.process_time()
    ended = trainer.fit(run)
    cpu_seconds = time.process_time() - before
    losses = tuple(five_digits(point.loss) for point in run.points)
    return SweepRecord(
        work=job.work,
        start_lr=settings.start_lr,
        end_lr=settings.end_lr,
        losses=losses,
        judgement=judge(LRCurve(tuple(point.lr for point in run.points), losses)),
        outcome=ended.outcome,
        diverged_step=_step_of(run.diverged_at),
        n_images=ended.n_images,
        seconds=round(ended.seconds, 2),
        cpu_seconds=round(cpu_seconds, 2),
    )


def cycle_of(job: Job, params: Params, trainer: Trainer) -> CycleRecord:
    """Do one cycle."""
    epochs: list[EpochRow] = []
    run = Run(
        plan=params.plan(job.work.n_steps(job.study)),
        seed=job.run_seed,
        sealed_split="test",
        on_epoch=epochs.append,
    )
    before = time.process_time()
    ended = trainer.fit(run)
    cpu_seconds = time.process_time() - before
    return CycleRecord(
        work=job.work,
        params=params,
        score=_digits(ended.score),
        test_score=_digits(ended.sealed_score),
        validation=tuple(five_digits(row.validation_accuracy) for row in epochs),
        outcome=ended.outcome,
        diverged_step=_step_of(run.diverged_at),
        n_images=ended.n_images,
        seconds=round(ended.seconds, 2),
        cpu_seconds=round(cpu_seconds, 2),
        validation_loss=_digits(epochs[-1].validation_loss if epochs else None),
    )


def _digits(value: float | None) -> float | None:
    """Return a number to five significant digits, None for what is none."""
    return None if value is None or not math.isfinite(value) else five_digits(value)


def _step_of(point: Point | None) -> int | None:
    return None if point is None else point.step
