"""What the tests of both adapters share: small modules, and runs that are stopped and resumed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from search.results.result import StudyResult
from studies.definition import Study
from trainers.checkpoint import Checkpoint
from trainers.onecycle import OneCycle
from trainers.run import Run, RunResult, Trainer


@dataclass(frozen=True)
class Searched:
    """A study at its end, where it is stored, and its answer."""

    study: Study
    storage: str
    answer: StudyResult


@dataclass
class Trained:
    """A run that was trained, its result and the weights that it offered."""

    run: Run
    result: RunResult
    weights: dict[str, Any] = field(default_factory=dict)

    def is_that_of(self, other: "Trained") -> bool:
        """Whether weights, losses and epochs are the same bit for bit."""
        same = self.weights.keys() == other.weights.keys() and all(
            torch.equal(self.weights[name], other.weights[name]) for name in self.weights
        )
        points = [(p.step, p.lr, p.loss) for p in self.run.points]
        scores = [(e.epoch, e.train_loss, e.validation_accuracy) for e in self.run.epochs]
        return (
            same
            and points == [(p.step, p.lr, p.loss) for p in other.run.points]
            and scores
            == [(e.epoch, e.train_loss, e.validation_accuracy) for e in other.run.epochs]
        )


def trained(
    trainer: Trainer,
    read: Callable[[Path], dict[str, Any]],
    folder: Path,
    *,
    total_steps: int,
    stop_after: int | None = None,
    **options: Any,
) -> Trained:
    """Train one cycle; its checkpoint lies in `folder`, and is resumed where there is one."""
    run = Run(
        plan=OneCycle(max_lr=0.01, total_steps=total_steps),
        seed=3,
        checkpoint=Checkpoint(folder / "checkpoint.pt"),
        **options,
    )
    if stop_after is not None:
        run.stop_asked = lambda: len(run.points) + len(run._pending) >= stop_after
    weights: dict[str, Any] = {}

    def take(save: Callable[[Path], None]) -> None:
        save(folder / "model")
        weights.update(read(folder / "model"))

    run.on_trained = take
    return Trained(run, trainer.fit(run), weights)
