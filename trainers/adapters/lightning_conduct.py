"""The callback that brings plan, steps, stop and checkpoints into Lightning's fit."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainers.adapters.lightning_fit import Ended
from trainers.adapters.progress import Progress
from trainers.errors import TaskError
from trainers.gradients import gradient_norm
from trainers.run import Run

if TYPE_CHECKING:
    from trainers.adapters.lightning_fit import Fit

_ARGUMENTS = (
    "hparams_name",
    "hparams_type",
    "hyper_parameters",
    "datamodule_hparams_name",
    "datamodule_hparams_type",
    "datamodule_hyper_parameters",
)
"""Of a checkpoint of Lightning's: what module and data module were made with."""


class Conduct:
    """What one run does within Lightning's fit, beside what Lightning does."""

    def __init__(self, fit: "Fit", run: Run) -> None:
        self.owner, self.run = fit, run
        self.progress = Progress(run, fit.task, fit.site.device)
        self._norm: torch.Tensor | None = None
        self._loss: Any = 0.0
        self._n_batches = 0

    def resumed(self) -> Path | None:
        """Return a file of Lightning's with what an earlier owner saved; None to start over."""
        kept = self.progress.resumed()
        if kept is None:
            return None
        self.owner.skip(kept["batches"])
        file = self.owner.folder / "resumed.ckpt"
        torch.save(kept["lightning"], file)
        return file

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Put the plan's scheduler in the place of the module's."""
        types = import_module(f"{self.owner.library.__name__}.utilities.types")
        (optimizer,) = trainer.optimizers
        # An interval that Lightning does not step: it would take one step too many.
        config = types.LRSchedulerConfig(self.progress.drive(optimizer), interval="optimizer step")
        trainer.strategy.lr_scheduler_configs = [config]

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Resume the generators, which Lightning does not keep."""
        self.progress.put_generators_back()

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        """Take the gradient's norm before it is clipped; only sweeps keep it."""
        if self.run.split is None:
            self._norm = gradient_norm(module.parameters())

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the optimizer step that a batch ended, if it ended one."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is None:
            raise TaskError(f"training_step of {self.owner.name} returned no loss")
        self._loss = self._loss + loss.detach()
        self._n_batches += 1
        if trainer.fit_loop._should_accumulate():
            return
        # Lightning has divided each by the number of batches that a whole step has.
        loss = self._loss * (self.owner.task.accumulated / self._n_batches)
        self._loss, self._n_batches = 0.0, 0
        if self._was_skipped(trainer):
            self._skip(loss)
        else:
            self.progress.count(loss, grad_norm=self._norm)
        done = self.progress.is_complete
        if done and self.run.split is None:
            raise Ended
        if done:
            trainer.should_stop = True  # within an epoch only where steps were skipped
        elif not trainer.is_last_batch:  # else the epoch is validated first
            self._pause(trainer, batches=batch_idx + 1)

    def _was_skipped(self, trainer: Any) -> bool:
        """Whether a GradScaler found an overflow, so that this step changed no weights."""
        if not self.progress.was_stepped():
            return True
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        return scaler is not None and self.progress.applied.overflowed()[-1]

    def _skip(self, loss: torch.Tensor) -> None:
        """Count a step that took none of the plan's; one whose loss is no number ends the run."""
        self.progress.n_skipped += 1
        if not torch.isfinite(loss):
            self.progress.end_broken(loss)
            raise Ended

    def _pause(self, trainer: Any, *, batches: int) -> None:
        """Save from time to time, and end where asked to; `batches` of the epoch are trained."""
        if self.progress.pause(partial(self._state, trainer, batches)):
            raise Ended

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Record an epoch that was validated; train another one where steps were skipped."""
        if self.run.split is None:
            return
        self.run.look()
        if self.run.diverged():
            raise Ended
        progress, loop = self.progress, trainer.fit_loop
        loss = trainer.callback_metrics.get("val_loss")
        progress.record(self.owner.monitored(trainer), validation_loss=loss)
        if progress.is_complete:
            return
        if progress.steps_of_epoch == 0:
            raise TaskError(
                f"an epoch of {self.owner.name} ended without an optimizer step: every one of "
                "them overflowed; bf16-mixed has the range of fp32"
            )
        progress.new_epoch()
        if loop.epoch_progress.current.processed >= loop.max_epochs:
            loop.max_epochs += 1
        self._pause(trainer, batches=0)

    def _state(self, trainer: Any, batches: int) -> dict[str, Any]:
        whole = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        # Arguments of the module may be anything; they come from its factory again.
        kept = {name: each for name, each in whole.items() if name not in _ARGUMENTS}
        return {**self.progress.state(), "lightning": kept, "batches": batches}
