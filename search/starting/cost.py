"""What a study costs, in training images and time, before anything is spent."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from search.stages.confirmation import SHARED
from search.stages.race import MOST_EACH
from search.starting.places import check_folders
from search.tracebacks import tell_where
from studies.definition import Study
from studies.params import size_of
from studies.registry import Definition
from studies.states import Stage
from studies.tables import StudyRow
from trainers.device import DeviceKind, Precision, Site, cache_folder
from trainers.errors import UserError
from trainers.run import Run, Trainer
from trainers.sweeps.stopping import FEWEST_SWEEPS
from trainers.sweeps.sweep import Sweep
from trainers.task import Task

_USUAL_PAIRS = 5


@dataclass(frozen=True, slots=True)
class StageCost:
    """Runs of one stage: how many it usually takes, of how many steps, over how many training
    images; and how many at most, where it may take more.

    The last run of a range test that takes the most has twice the `steps`. Cycles of another batch
    size than the task's take another number of steps, over about as many images. `n_pairs`: of a
    confirmation, pairs at most; the other runs at most are those of its race.
    """

    stage: Stage
    n_runs: int
    steps: int
    n_images: int
    extra_runs: int = 0
    extra_images: int = 0
    n_pairs: int = 0

    @property
    def most_runs(self) -> int:
        """Runs at most."""
        return self.n_runs + self.extra_runs

    @property
    def most_images(self) -> int:
        """Training images at most."""
        return self.n_images + self.extra_images

    @property
    def name(self) -> str:
        """The stage in words."""
        return self.stage.words


_USUAL_TRIALS = 10
"""Configurations after which a search usually ends by itself: the median of `cifar-small` and
`cifar-residual`, replayed (docs/log.md)."""


def costs(study: Study, *, n_trials: int, exact: bool = True) -> tuple[StageCost, ...]:
    """Return the cost by stage: what it usually is, and at most; images are counted each time they
    are trained on.

    `exact`: all `n_trials` are trained; else they are the most.

    A cycle counts with the batch size that leaves the fewest images out: none costs more.
    """
    sizes = [size_of(each) or study.task.batch_size for each in study.settings]
    cycle = study.epochs * max(size * study.steps_of(1, batch_size=size) for size in sizes)
    steps, usual = study.cycle_steps, n_trials if exact else min(n_trials, _USUAL_TRIALS)
    return (
        *([_sweeps(study, sizes)] if study.swept_settings else []),
        StageCost(
            Stage.SEARCH, usual, steps, usual * cycle, n_trials - usual, (n_trials - usual) * cycle
        ),
        _confirmation(study, n_trials=n_trials, cycle=cycle),
    )


def _confirmation(study: Study, *, n_trials: int, cycle: int) -> StageCost:
    """Return the cost of the confirmation, where a cycle trains on `cycle` images."""
    # The baseline is one of the trials and always confirmed, the finalists are among the others.
    n_racers = min(study.confirmation.n_finalists, n_trials - 1) + 1
    n_pairs = study.confirmation.n_seeds if n_racers > 1 else 0
    most = max(MOST_EACH * n_racers * (n_racers > 1), SHARED) + 2 * n_pairs
    # As simulated over differences of 0 to 1.2 points (docs/log.md): a cycle for each racer, then
    # ten of pairs.
    usual = min(most, max(n_racers, SHARED) + 2 * min(_USUAL_PAIRS, n_pairs))
    return StageCost(
        Stage.CONFIRMATION,
        n_runs=usual,
        steps=study.cycle_steps,
        n_images=usual * cycle,
        extra_runs=most - usual,
        extra_images=(most - usual) * cycle,
        n_pairs=n_pairs,
    )


def _sweeps(study: Study, sizes: Sequence[int]) -> StageCost:
    """Return the cost of the range tests: usually two sweeps each (trainers.sweeps.stopping)."""
    sweeps, swept = study.range_test, sizes[: len(study.swept_settings)]
    usual = min(FEWEST_SWEEPS, sweeps.n_sweeps)
    more = sweeps.n_sweeps - usual
    # Without a second sweep nothing can disagree, and no slow one is made.
    slow = int(sweeps.n_sweeps > 1)
    return StageCost(
        Stage.RANGE_TEST,
        n_runs=usual * len(swept),
        steps=sweeps.n_steps,
        n_images=usual * sweeps.n_steps * sum(swept),
        extra_runs=(more + slow) * len(swept),
        extra_images=(more * sweeps.n_steps + slow * sweeps.slow_steps) * sum(swept),
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """What one worker alone takes here, by a timed warm-up; scoring is not part of it.

    `run_s`: seconds of a run beside its training images, for what a loop does at each start
    (making the model, reading data).
    """

    images_per_s: float
    run_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """A study that is ready to be worked on, and what it will cost here.

    `only` names the one stage to do; `costs` then holds that stage alone. `images_per_s` is what
    all workers train together, and `run_s` what a run takes beside, shared among them (Pace).
    """

    row: StudyRow
    definition: Definition
    site: Site
    trainer: Trainer
    costs: tuple[StageCost, ...]
    n_workers: int
    images_per_s: float
    only: Stage | None = None
    run_s: float = 0.0

    @property
    def trained_on(self) -> str:
        """What is counted: 'images', or 'samples' where others are trained on."""
        return "images" if isinstance(self.definition.study.task, Task) else "samples"

    @property
    def seconds(self) -> float:
        """How long the whole study usually takes here, from the timed warm-up; scoring not
        counted."""
        return self._seconds_of(
            sum(cost.n_images for cost in self.costs), sum(cost.n_runs for cost in self.costs)
        )

    @property
    def most_seconds(self) -> float:
        """How long it takes at most, by the same."""
        return self._seconds_of(
            sum(cost.most_images for cost in self.costs),
            sum(cost.most_runs for cost in self.costs),
        )

    def _seconds_of(self, n_images: int, n_runs: int) -> float:
        return n_images / self.images_per_s + n_runs * self.run_s


def stored_precision(row: StudyRow | None) -> Precision | None:
    """Return the precision that a stored study resolved, None where there is none yet."""
    resolved = (row.resolved or {}).get("precision") if row is not None else None
    return "bf16" if resolved == "bf16" else "fp32" if resolved == "fp32" else None


def load_task(
    definition: Definition,
    row: StudyRow | None,
    *,
    device: str,
    data: str | Path | None,
) -> tuple[Trainer, Site]:
    """Load what is trained at this site; torch and the data are needed from here on.

    A stored study keeps the precision that it was made with, on whatever device. Raises UserError
    where the folders of cache and checkpoints cannot be written.
    """
    from trainers.device import resolve_device

    check_folders()
    site = Site(
        device=resolve_device(device),
        data=None if data is None else Path(data).expanduser().resolve(),
        cache=cache_folder(),
        precision=stored_precision(row),
    )
    with user_code("as the task was loaded"):
        return definition.study.task.trainer(site), site


@contextmanager
def user_code(when: str) -> Iterator[None]:
    """Let what the user's code raises say where: a command shows that, and no traceback."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        tell_where(error, when)
        raise


def estimate(
    row: StudyRow,
    definition: Definition,
    trainer: Trainer,
    site: Site,
    *,
    pace: Pace,
    workers: int | None,
    only: Stage | None = None,
) -> Started:
    """Say what the study costs here, where one worker alone has this `pace`."""
    every = costs(definition.study, n_trials=row.n_trials, exact=row.exact)
    asked = tuple(cost for cost in every if only in (None, cost.stage))
    n_devices = devices(site.device)
    n_workers = workers or min(n_devices, max(cost.n_runs for cost in asked))
    at_once = min(n_workers, n_devices)
    return Started(
        row=row,
        definition=definition,
        site=site,
        trainer=trainer,
        costs=asked,
        n_workers=n_workers,
        images_per_s=at_once * pace.images_per_s,
        only=only,
        run_s=pace.run_s / at_once,
    )


_FEWEST_STEPS = 2
_STEPS = (8, 32, 128, 512)
"""Steps of the rounds that are timed: the first that takes longer than the fewest counts."""
_STEPS_SLOWLY = (8, 128)  # where each round takes a second or more, whatever its steps
_TIMED_S = 0.3  # the clock and the allocator's noise are then below a percent
_SHARE = 0.25
"""Of the fewest steps' time: so much more tells what steps take from what each run takes."""


def warm_up(trainer: Trainer, study: Study) -> Pace:
    """Return the pace of one worker, from a few steps at vanishing rates.

    The first round pays for what is loaded once, and never counts. What a round of the fewest
    steps takes is told from what more steps add: a loop that reads its data for a second at each
    start was taken for one that trains so slowly.
    """
    _timed(trainer, study, _FEWEST_STEPS)
    fewest = _timed(trainer, study, _FEWEST_STEPS)
    for n_steps in _STEPS if fewest < 1 else _STEPS_SLOWLY:
        added = _timed(trainer, study, n_steps) - fewest
        if added >= max(_TIMED_S, _SHARE * fewest):
            break
    # Never none: a clock may stand still, or the fewest steps have been held up.
    per_step = max(added, 1e-6, 1e-3 * fewest) / (n_steps - _FEWEST_STEPS)
    return Pace(
        images_per_s=study.task.batch_size / per_step,
        run_s=max(0.0, fewest - _FEWEST_STEPS * per_step),
    )


def _timed(trainer: Trainer, study: Study, n_steps: int) -> float:
    plan = Sweep(start_lr=1e-9, end_lr=1e-8, total_steps=n_steps)
    started = time.perf_counter()
    with user_code("in the first steps of training"):
        trainer.fit(Run(plan=plan, seed=0, split=None, params=study.told_outside()))
    return time.perf_counter() - started


def devices(kind: DeviceKind) -> int:
    """Return how many runs this machine trains at once: GPUs, or CPU cores."""
    if kind == "cpu":
        # cpu_count() counts cores that a container or a Slurm job may not use. One process for
        # each core: two of one thread trained 1.2 times what one of two threads did (Zen 4).
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if kind == "mps":
        return 1
    import torch

    return torch.cuda.device_count()


_LEAST_TOLD_S = 0.05


def duration_text(seconds: float) -> str:
    """Return a duration as people say it: '0.2 s', '40 s', '12 min', '3.5 h'; never 0 s."""
    if seconds < 0.95:
        return f"{seconds:.1f} s" if seconds >= _LEAST_TOLD_S else "under 0.1 s"
    # Up to 90 of the smaller unit: '80 s' says more than '1 min'.
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def estimated_text(seconds: float) -> str:
    """Return an estimated duration: 'about 40 s', and what is too short to be told as it is."""
    return (
        f"about {duration_text(seconds)}" if seconds >= _LEAST_TOLD_S else duration_text(seconds)
    )
