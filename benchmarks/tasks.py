"""The studies that are recorded: `cifar-small`, and one with another net and optimizer."""

from dataclasses import replace

from studies.cifar_small import STUDY as CIFAR_SMALL
from trainers.task import AdamW, Task

assert isinstance(CIFAR_SMALL.task, Task)

CIFAR_RESIDUAL = replace(
    CIFAR_SMALL,
    name="cifar-residual",
    task=replace(CIFAR_SMALL.task, model="benchmarks.nets:patch_residual", optimizer=AdamW()),
)

STUDIES = {study.name: study for study in (CIFAR_SMALL, CIFAR_RESIDUAL)}
