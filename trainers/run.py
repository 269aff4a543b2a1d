"""The seam between a search and a training loop: a Run goes in, a RunResult comes out."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from trainers.groups import Driven

log = logging.getLogger(__name__)

Outcome = Literal["completed", "diverged", "stopped"]
Split = Literal["validation", "test"]

# A look at the losses waits for the device; a diverged run ends this late.
_STEPS_BETWEEN_LOOKS = 16
# A checkpoint that another version of this file wrote starts the run over.
_CHECKPOINT_FORMAT = 4


class Plan(Protocol):
    """The learning rates of one run: a OneCycle or a Sweep."""

    @property
    def total_steps(self) -> int:
        """Number of optimizer steps the run takes, all of them."""

    def scheduler(self, optimizer: "Optimizer") -> "LRScheduler":
        """Return a real torch scheduler; step it once after each optimizer step but the last."""

    def lrs(self) -> Sequence[float]:
        """Return the rate of each step, as torch's scheduler gives it to the first group."""

    def momenta(self) -> Sequence[float]:
        """Return the momentum (Adam: beta1) of each step; none where the plan leaves it alone."""

    @property
    def driven(self) -> Sequence["Driven"]:
        """What the optimizers were that it made schedulers for."""


@dataclass(frozen=True, slots=True)
class EpochRow:
    """What one epoch of a cycle did; the first is epoch 1.

    Losses are means per sample, accuracies in [0, 1]. `validation_accuracy` is the score of the
    study's metric, whatever that is. NaN is what the loop does not compute.
    """

    epoch: int
    lr_first: float = math.nan
    lr_last: float = math.nan
    train_loss: float = math.nan
    train_accuracy: float = math.nan
    validation_loss: float = math.nan
    validation_accuracy: float = math.nan
    seconds: float = math.nan
    images_per_s: float = math.nan


@dataclass(frozen=True, slots=True)
class Point:
    """One optimizer step: the loss before the update and the rates that the update used.

    `lr` is that of the first param group, `other_lrs` those of the others; `momentum` (Adam:
    beta1) that of the first, None where the loop did not report it.
    """

    step: int
    lr: float
    loss: float
    grad_norm: float | None = None
    other_lrs: tuple[float, ...] = ()
    momentum: float | None = None

    @property
    def finite(self) -> bool:
        """Whether the loss is a number."""
        return math.isfinite(self.loss)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run ended.

    `score` is the metric on `run.split` (None for a sweep or a stopped run); `sealed_score` the
    one on `run.sealed_split`, where the run has such a split. `n_skipped` counts the steps that
    a GradScaler skipped: they are none of the plan's, nor of `n_steps`. A loop that counts no
    images or seconds leaves these 0: a search measures both (search.workers.outcome).
    """

    score: float | None
    outcome: Outcome
    n_steps: int
    n_images: int
    seconds: float
    sealed_score: float | None = None
    n_skipped: int = 0


class CheckpointFile(Protocol):
    """Where a run keeps its state between owners."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Write `state` atomically."""

    def load(self) -> dict[str, Any] | None:
        """Return the last good state, None where there is none."""


class Trainer(Protocol):
    """Your own work: anything with this one method can be searched.

    A trainer that also has `facts() -> dict[str, str]` (shapes, data checksum, precision) has
    them stored with the study and compared before every later start.
    """

    def fit(self, run: "Run") -> RunResult:
        """Train once under `run.plan` from `run.seed`, judge on `run.split`."""


_Pending: TypeAlias = tuple[
    int, tuple[float, ...], "Tensor | float", "Tensor | float | None", float | None
]


Saver: TypeAlias = Callable[["Path"], None]
"""Writes a trained model at a path: weights in a file, or what its library reads in a folder."""


def _ignore_epoch(row: EpochRow) -> None:
    """Keep nothing: a run outside a study."""


def _ignore_model(save: Saver) -> None:
    """Keep no model: a search needs scores alone."""


def _never() -> bool:
    return False


@dataclass(kw_only=True)
class Run:
    """One sweep or one cycle, as the training loop sees it.

    `params` holds by name what the study searches beside the cycle and tries in this run, such as
    `params["dropout"]`; what is not in it is the loop's own.
    """

    plan: Plan
    seed: int
    split: Split | None = "validation"  # None: a sweep, which nothing judges
    sealed_split: Split | None = None
    on_epoch: Callable[[EpochRow], None] = _ignore_epoch
    on_trained: Callable[[Saver], None] = _ignore_model
    stop_asked: Callable[[], bool] = _never
    is_lost: Callable[[], bool] = _never
    checkpoint: CheckpointFile | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    epochs: list[EpochRow] = field(default_factory=list)
    diverged_at: Point | None = None
    _pending: list["_Pending"] = field(default_factory=list)

    @property
    def batch_size(self) -> int | None:
        """The batch size that the study tries in this run; None: the loop's own."""
        size = self.params.get("batch_size")
        return None if size is None else int(size)

    @property
    def weight_decay(self) -> float | None:
        """The weight decay that the study tries in this run; None: the loop's own."""
        decay = self.params.get("weight_decay")
        return None if decay is None else float(decay)

    def report(
        self,
        step: int,
        loss: "Tensor | float",
        *,
        lrs: Sequence[float],
        grad_norm: "Tensor | float | None" = None,
        momentum: float | None = None,
    ) -> None:
        """Record one optimizer step: its loss before the update, the rate of each param group.

        `momentum` (Adam: beta1) is audited like the rates where it is given. Tensors are read
        later, several at once, so that a GPU does not have to wait at every step.
        """
        # int(): a numpy integer, of a loop of one's own, is nothing that JSON knows.
        step, rates = int(step), tuple(float(lr) for lr in lrs)
        self._pending.append((step, rates, loss, grad_norm, momentum))
        if len(self._pending) >= _STEPS_BETWEEN_LOOKS:
            self.look()

    def look(self) -> None:
        """Read the losses reported so far; the first one that is not finite ends the run."""
        losses = _as_floats([loss for _, _, loss, _, _ in self._pending])
        norms = iter(_as_floats([norm for _, _, _, norm, _ in self._pending if norm is not None]))
        for (step, (lr, *others), _, norm, momentum), loss in zip(
            self._pending, losses, strict=True
        ):
            grad_norm = None if norm is None else next(norms)
            # What follows was trained only because nobody had looked yet; it says nothing.
            if self.diverged_at is None:
                point = Point(step, lr, loss, grad_norm, tuple(others), momentum)
                self.points.append(point)
                if not math.isfinite(loss):
                    self.diverged_at = self.points[-1]
        self._pending.clear()

    def epoch(self, row: EpochRow) -> None:
        """Record a finished epoch."""
        self.epochs.append(row)
        self.on_epoch(row)

    @property
    def n_reported(self) -> int:
        """Steps reported so far, also those whose losses nobody has looked at yet.

        Another thread may ask: both lists are sliced, which no append can come between.
        """
        pending = self._pending[-1:]
        if pending:
            return pending[0][0] + 1
        points = self.points[-1:]
        return points[0].step + 1 if points else 0

    def trained(self, save: Saver) -> None:
        """Offer the trained model of a completed cycle, once, before fit() returns.

        `save(path)` writes it; a search never calls it, training the final model does.
        """
        self.on_trained(save)

    def diverged(self) -> bool:
        """Whether a loss seen so far was not finite; what is pending is not looked at."""
        return self.diverged_at is not None

    def should_stop(self) -> bool:
        """Whether the run should end now: it was asked to, or training broke."""
        return self.diverged() or self.stop_asked()

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep `state` with what was reported, for another owner.

        Tensors, numbers, text, lists and dicts of these; more raises CheckpointError. A diverged
        run keeps what it had: another owner breaks at the same step again. One that has another
        owner already leaves the file to that one.
        """
        if self.checkpoint is None or self.is_lost():
            return
        self.look()
        if self.diverged():
            return
        self.checkpoint.save(
            {
                "format": _CHECKPOINT_FORMAT,
                "seed": self.seed,
                "points": [
                    [p.step, p.lr, p.loss, p.grad_norm, p.momentum, *p.other_lrs]
                    for p in self.points
                ],
                # float(): a loop may report numpy's numbers, which weights_only refuses.
                "epochs": [[row.epoch, *map(float, astuple(row)[1:])] for row in self.epochs],
                "state": dict(state),
            }
        )

    def load(self) -> dict[str, Any] | None:
        """Return the state that an earlier owner of this run saved, None to start over.

        Its epochs are reported again: it may have been killed before it wrote them.
        """
        kept = self.checkpoint.load() if self.checkpoint is not None else None
        if kept is None or (kept.get("format"), kept["seed"]) != (_CHECKPOINT_FORMAT, self.seed):
            return None
        self.points = [
            Point(step, lr, loss, grad_norm, tuple(others), momentum)
            for step, lr, loss, grad_norm, momentum, *others in kept["points"]
        ]
        for values in kept["epochs"]:
            self.epoch(EpochRow(*values))
        return dict(kept["state"])

    def load_on(self, device: str) -> dict[str, Any] | None:
        """Return load()'s state if its "device" is of the kind `device`; None to start over.

        Devices of two kinds compute different numbers.
        """
        kept = self.load()
        if kept is None or kept["device"] == device:
            return kept
        there = kept["device"]
        log.warning("the checkpoint is of a run on %s, not %s: it starts over", there, device)
        self.start_over()
        return None

    def start_over(self) -> None:
        """Drop what load() brought back: its state is of no use here."""
        self.points.clear()
        self.epochs.clear()


def _as_floats(values: Sequence["Tensor | float"]) -> list[float]:
    """Read all values with one wait for the device."""
    if all(isinstance(value, (int, float)) for value in values):
        return [float(value) for value in values]
    import torch

    # Stacked on their device: each float() of its own would wait for the GPU once.
    scalars = [torch.as_tensor(value).detach().float().reshape(()) for value in values]
    return [float(value) for value in torch.stack(scalars).tolist()]
