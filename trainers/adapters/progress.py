"""What one run has done so far, whichever library's loop trains it."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trainers.adapters.adapter import Adapter
from trainers.calls.applied import Applied
from trainers.device import DeviceKind, synchronize
from trainers.generators import generators, put_back
from trainers.run import EpochRow, Run, RunResult

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

# The most training that a kill can cost.
_SECONDS_BETWEEN_CHECKPOINTS = 30.0


class Progress:
    """Steps, losses, score and time of one run; the callback in a library's loop moves it on."""

    def __init__(self, run: Run, task: Adapter, device: DeviceKind) -> None:
        self.run, self.task, self.device = run, task, device
        self.step = self.n_skipped = 0
        self.score: float | None = None
        self.scheduler: LRScheduler
        self.applied: Applied
        self._n_applied = 0
        self._generators: dict[str, Any] | None = None
        self._spent, self._clock = 0.0, time.perf_counter()
        self._saved_at = time.monotonic()
        self.new_epoch()

    def new_epoch(self) -> None:
        """Begin an epoch after the present step."""
        self._epoch_loss: Any = 0.0
        self._epoch_step, self._epoch_began = self.step, self.seconds()
        self._lr_first = self._lr_last = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all steps of the plan are taken."""
        return self.step == self.run.plan.total_steps

    @property
    def steps_of_epoch(self) -> int:
        """Steps taken since the last epoch that was recorded."""
        return self.step - self._epoch_step

    def resumed(self) -> dict[str, Any] | None:
        """Take over what an earlier owner saved, and return it; None to start over."""
        kept = self.run.load_on(self.device)
        if kept is None:
            return None
        self.step, self.n_skipped = kept["step"], kept["n_skipped"]
        self._epoch_loss, self._epoch_step = kept["epoch_loss"], kept["epoch_step"]
        self._spent, self._clock = kept["seconds"], time.perf_counter()
        self._epoch_began, self._lr_first = kept["epoch_began"], kept["lr_first"]
        self._generators = kept["generators"]
        return kept

    def state(self) -> dict[str, Any]:
        """Return what resumed() takes over, beside the library's own state."""
        return {
            "device": self.device,
            "generators": generators(self.device),
            "step": self.step,
            "n_skipped": self.n_skipped,
            "seconds": self.seconds(),
            "epoch_loss": float(self._epoch_loss),
            "epoch_step": self._epoch_step,
            "epoch_began": self._epoch_began,
            "lr_first": self._lr_first,
        }

    def put_generators_back(self) -> None:
        """Give a resumed run, as its first step begins, the generators it was saved with."""
        if self._generators is not None:
            put_back(self._generators, self.device)
            self._generators = None

    def drive(self, optimizer: "Optimizer") -> "LRScheduler":
        """Return the plan's scheduler over the optimizer, whose steps are heard from now on."""
        self.scheduler = self.run.plan.scheduler(optimizer)
        # What the optimizer used, by a hook: the scheduler's word for it would prove nothing.
        self.applied = Applied(optimizer)
        return self.scheduler

    def was_stepped(self) -> bool:
        """Whether the optimizer was stepped since this was asked last."""
        before, self._n_applied = self._n_applied, len(self.applied)
        return before < self._n_applied

    def count(
        self, loss: "torch.Tensor | float", *, grad_norm: "torch.Tensor | None" = None
    ) -> None:
        """Report a step, and give the next one its rate."""
        lrs, momentum = [kept[-1] for kept in self.applied.lrs], self.applied.momenta[-1]
        self.run.report(
            self.step,
            loss,
            lrs=lrs,
            grad_norm=grad_norm,
            momentum=None if math.isnan(momentum) else momentum,
        )
        self._lr_first = self._lr_first or lrs[0]
        self._lr_last = lrs[0]
        self._epoch_loss = self._epoch_loss + loss
        self.step += 1
        if not self.is_complete:
            self.scheduler.step()

    def end_broken(self, loss: "torch.Tensor | float") -> None:
        """Report a loss that is no number, of a step that was skipped: the run has diverged."""
        lrs = [float(group["lr"]) for group in self.scheduler.optimizer.param_groups]
        self.run.report(self.step, loss, lrs=lrs)
        self.run.look()

    def record(self, score: float, *, validation_loss: float | None) -> None:
        """Record an epoch that was validated."""
        self.score = score
        n_steps, seconds = self.steps_of_epoch, self.seconds() - self._epoch_began
        row = EpochRow(
            epoch=math.ceil(self.step / self.task.steps_per_epoch),
            lr_first=self._lr_first,
            lr_last=self._lr_last,
            train_loss=float(self._epoch_loss) / max(1, n_steps),
            train_accuracy=math.nan,
            validation_loss=math.nan if validation_loss is None else float(validation_loss),
            validation_accuracy=score,
            seconds=seconds,
            images_per_s=n_steps * self.task.batch_size / seconds,
        )
        self.run.epoch(row)

    def pause(self, state: Callable[[], Mapping[str, Any]], *, can_resume: bool = True) -> bool:
        """Save from time to time; return whether the run is asked to end here."""
        due = time.monotonic() - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS
        stops = self.run.should_stop()
        if (stops or due) and can_resume:
            self.run.save(state())
            self._saved_at = time.monotonic()
        return stops

    def seconds(self) -> float:
        """Return how long the run has trained, also under earlier owners."""
        synchronize(self.device)
        now = time.perf_counter()
        self._spent += now - self._clock
        self._clock = now
        return self._spent

    def result(self, sealed_score: float | None) -> RunResult:
        """Return how the run ended."""
        broke, complete = self.run.diverged(), self.is_complete
        judged = complete and not broke and self.run.split is not None
        return RunResult(
            score=self.score if judged else None,
            outcome="diverged" if broke else "completed" if complete else "stopped",
            n_steps=self.step,
            n_images=self.step * self.task.batch_size,
            seconds=self.seconds(),
            sealed_score=sealed_score,
            n_skipped=self.n_skipped,
        )
