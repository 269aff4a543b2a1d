"""What is trained here: the task of `cifar`, or a tiny one where a CPU has to do."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from studies.cifar import STUDY
from studies.definition import RangeTest, Screening, Space, Study
from trainers.data import Cifar10
from trainers.device import DeviceKind, Site
from trainers.task import Task

if TYPE_CHECKING:
    from trainers.loop import Classifier

SEED = 0
ROOT = Path(__file__).parents[2]
"""From here `python -m` finds the packages."""
# So small that a study of it ends within half a minute on one core: its accuracies mean nothing.
TINY = Cifar10(n_train=256, n_validation=64)
_TINY_BATCH = 64


def tiny_study() -> Study:
    """Return `cifar` for a CPU: everything that it does, with few images and a small net."""
    task = replace(
        STUDY.task, data=TINY, model="trainers.models:small_cnn", batch_size=_TINY_BATCH
    )
    return replace(
        STUDY,
        name="cifar-tiny",
        task=task,
        range_test=RangeTest(n_steps=50),
        screening=Screening(n_trials=5, exact=True),
        epochs=2,
        space=Space(pct_start=(0.25, 0.6)),
    )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One device, and the folder of images; what a child process is told."""

    device: DeviceKind
    data: Path
    cache: Path

    @property
    def study(self) -> Study:
        """The whole study on a GPU, a tiny one elsewhere."""
        return STUDY if self.device == "cuda" else tiny_study()

    @cached_property
    def task(self) -> Task:
        """Its task."""
        task = self.study.task
        assert isinstance(task, Task)
        return task

    def classifier(self) -> "Classifier":
        """Return the product's loop on the task."""
        from trainers.loop import Classifier

        return Classifier(self.task, Site(device=self.device, data=self.data, cache=self.cache))


def n_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
