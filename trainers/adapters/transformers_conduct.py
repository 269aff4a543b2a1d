"""The callback that brings plan, steps, stop and checkpoints into Transformers' Trainer."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from trainers.adapters.epochs import Epochs
from trainers.adapters.progress import Progress
from trainers.run import Run

if TYPE_CHECKING:
    from trainers.adapters.transformers_fit import Fit

# GradScaler starts at 2**16 and halves at each: after so many in a row no scale helps.
MOST_SKIPPED_IN_A_ROW = 50


class Conduct:
    """What one run does within Trainer's loop."""

    def __init__(self, fit: "Fit", run: Run) -> None:
        self.owner, self.run = fit, run
        self.progress = Progress(run, fit.task, fit.site.device)
        self.is_over = False
        # Passes over the train set, and batches of the present one.
        self.n_passes, self.n_batches = -1, 0
        self._kept: Mapping[str, Any] | None = None
        self._skipped_in_a_row = 0
        self._loss: Any = 0.0

    def resume(self) -> None:
        """Take over what an earlier owner saved, into a model that is not placed yet."""
        self._kept = self.progress.resumed()
        if self._kept is not None:
            self.owner.model.load_state_dict(self._kept["model"])
            self.n_passes = self._kept["n_passes"] - 1
            self.n_batches = self._kept["n_batches"]

    def take_hold(self, trainer: Any) -> None:
        """Put our scheduler and loader in the place of the Trainer's, and hear its losses."""
        self.trainer = trainer
        loader_of, step_of = trainer.get_train_dataloader, trainer.training_step

        def get_train_dataloader() -> Epochs:
            loader = Epochs(loader_of(), seed=self.run.seed, epoch=self._begin_pass)
            loader.n_skipped = self.n_batches
            return loader

        def training_step(*values: Any, **named: Any) -> torch.Tensor:
            loss: torch.Tensor = step_of(*values, **named)
            # Each is a share of the step's: Trainer divides it by what the step holds.
            self._loss = self._loss + loss.detach()
            self.n_batches += 1
            return loss

        trainer.get_train_dataloader = get_train_dataloader
        trainer.training_step = training_step
        trainer.create_scheduler = self._create_scheduler

    def _begin_pass(self) -> int:
        self.n_passes += 1
        if self._kept is None or self.n_passes > self._kept["n_passes"]:
            self.n_batches = 0
        return self.n_passes

    def _create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the plan's scheduler, and load what an earlier owner left; Trainer calls it."""
        wrapper = self.trainer.optimizer
        scheduler = self.progress.drive(getattr(wrapper, "optimizer", wrapper))
        if self._kept is not None:
            wrapper.load_state_dict(self._kept["optimizer"])
            scheduler.load_state_dict(self._kept["scheduler"])
            scaler = self.trainer.accelerator.scaler
            if scaler is not None and self._kept["scaler"]:
                scaler.load_state_dict(self._kept["scaler"])
        # Trainer steps its own after each step, the last one too, and one more than planned.
        self.trainer.lr_scheduler = _Still(scheduler)
        return self.trainer.lr_scheduler

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Resume the generators, as the first step begins."""
        self.progress.put_generators_back()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report a step; evaluate at the end of an epoch, save and stop within one."""
        loss, self._loss = self._loss, 0.0
        progress = self.progress
        if not progress.was_stepped() or self.trainer.accelerator.optimizer_step_was_skipped:
            self._skip(loss)
        else:
            self._skipped_in_a_row = 0
            progress.count(loss)
        done = progress.is_complete
        ends_epoch = done or progress.step % self.owner.task.steps_per_epoch == 0
        if self.run.split is not None and ends_epoch and progress.steps_of_epoch > 0:
            control.should_evaluate = True
        else:
            self._pause(control)
        if done:
            control.should_training_stop = True

    def _skip(self, loss: torch.Tensor) -> None:
        """Count a step whose gradient overflowed in fp16: it takes none of the plan's."""
        self.progress.n_skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW or not torch.isfinite(loss):
            self.progress.end_broken(math.nan)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **kwargs: Any
    ) -> None:
        """Record an epoch that was evaluated."""
        if self.is_over:
            return
        self.run.look()
        if not self.run.diverged():
            score = self.owner.monitored(metrics)
            self.progress.record(score, validation_loss=metrics.get("eval_loss"))
            self.progress.new_epoch()
        if not self.progress.is_complete:
            self._pause(control)

    def _pause(self, control: Any) -> None:
        """Save from time to time, and end where the run is asked to."""
        if self.progress.pause(self._state, can_resume=self._can_resume()):
            control.should_training_stop = True

    def _n_in_a_pass(self) -> float:
        loader = self.trainer.callback_handler.train_dataloader
        try:
            return len(loader)
        except TypeError:
            return math.inf

    def _can_resume(self) -> bool:
        """Whether Trainer would count accumulated batches from here as it does now."""
        whole, accumulated = self._n_in_a_pass(), self.owner.task.accumulated
        return self.n_batches == whole or math.isinf(whole) or whole % accumulated == 0

    def _state(self) -> dict[str, Any]:
        trainer, at_end = self.trainer, self.n_batches == self._n_in_a_pass()
        scaler = trainer.accelerator.scaler
        return {
            **self.progress.state(),
            "model": trainer.accelerator.unwrap_model(trainer.model).state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": self.progress.scheduler.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
            "n_passes": self.n_passes + at_end,
            "n_batches": 0 if at_end else self.n_batches,
        }


class _Still:
    """A scheduler as Trainer reads it, which its steps do not move."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def step(self, *values: Any) -> None:
        """Do nothing: the plan's scheduler was stepped with the optimizer."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)
