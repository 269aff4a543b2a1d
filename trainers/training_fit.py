"""One run of anybody's training by our loop: its steps, epochs and checkpoints."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainers.calls.applied import Applied
from trainers.device import synchronize
from trainers.errors import TaskError
from trainers.generators import generators, put_back
from trainers.gradients import gradient_norm
from trainers.run import EpochRow, Outcome, Run, RunResult
from trainers.streams import Stream, n_full_batches

if TYPE_CHECKING:
    from trainers.training_loop import TrainingLoop

log = logging.getLogger(__name__)

# The most training that a kill can cost.
_SECONDS_BETWEEN_CHECKPOINTS = 30.0
# GradScaler starts at 2**16 and halves at each: after so many in a row no scale helps.
_MOST_SKIPPED_IN_A_ROW = 50


@dataclass(slots=True)
class _Tally:
    """Sums over the steps of one epoch; the loss stays on the device until it is read."""

    loss: Tensor
    lr_first: float = 0.0
    lr_last: float = 0.0
    n_samples: int = 0
    seconds: float = 0.0


class Fit:
    """The state of one run: everything that a checkpoint must hold."""

    def __init__(self, loop: "TrainingLoop", run: Run, train: Any) -> None:
        self.loop, self.run = loop, run
        training = loop.training
        size = run.batch_size or training.batch_size
        if size % training.accumulate:
            raise TaskError(
                f"batch_size ({size}) must be a multiple of accumulate ({training.accumulate})"
            )
        self.accumulate, self.part = training.accumulate, size // training.accumulate
        self.steps_per_epoch = training.at(batch_size=size).steps_per_epoch
        self.model, self.optimizer = loop.built(run.params)
        if not self.model.training:  # as from_pretrained() leaves it; frozen parts stay in eval
            self.model.train()
        self.parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        self.scheduler = run.plan.scheduler(self.optimizer)
        self.applied = Applied(self.optimizer)
        self.scaler = torch.amp.GradScaler(loop.kind, enabled=loop.precision == "fp16")
        full = n_full_batches(train, self.part)
        self.stream = Stream(
            train,
            seed=run.seed,
            part=self.part,
            per_reading=None if full is None else full // self.accumulate * self.accumulate,
            options=training.loader,
            device=loop.device,
        )
        self.step = self.n_samples = self.n_skipped = self.skipped_in_a_row = 0
        self.seconds = 0.0
        self.score: float | None = None
        self.tally = self._fresh_tally()
        self.clock = time.perf_counter()
        # Last: a state is loaded into the objects made above.
        kept = run.load_on(loop.kind)
        if kept is not None:
            self._restore(kept)

    def to_the_end(self) -> RunResult:
        """Train until the plan ends, training breaks or the run is asked to stop."""
        run, saved_at = self.run, time.monotonic()
        while self.step < run.plan.total_steps and not run.should_stop():
            if self._took_a_step():
                ends = self.step % self.steps_per_epoch == 0
                if ends or self.step == run.plan.total_steps:
                    self._end_epoch()
            if time.monotonic() - saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
                run.save(self._state())
                saved_at = time.monotonic()
        run.look()
        if self.n_skipped:
            log.info("the GradScaler skipped %d step(s)", self.n_skipped)
        if run.diverged():
            return self._result("diverged")
        if self.step < run.plan.total_steps:
            run.save(self._state())
            return self._result("stopped")
        return self._result("completed")

    def _took_a_step(self) -> bool:
        """Train on the batches of one step; return whether the weights moved.

        A step that the GradScaler skips takes none of the plan's: scheduler and count stay. So
        with fp16, and only there, each step waits for the device once: what it found decides the
        rate of the next step, and torch's own scaler reads it before it calls the optimizer.
        """
        loss, n = self._gradient()
        norm = self._norm()
        n_before = len(self.applied)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        skipped = self.scaler.is_enabled() and self.applied.was_skipped(n_before)
        if skipped and math.isfinite(float(loss)):
            self.n_skipped += 1
            self.skipped_in_a_row += 1
            if self.skipped_in_a_row < _MOST_SKIPPED_IN_A_ROW:
                return False
            loss = torch.full_like(loss, math.nan)  # no gradient was finite: it broke
        self.skipped_in_a_row = 0
        self._report(loss, norm, n, moved=not skipped)
        return True

    def _gradient(self) -> tuple[Tensor, int]:
        """Return the mean loss of one step's batches and their samples; add their gradient."""
        self.optimizer.zero_grad(set_to_none=True)
        total, n = None, 0
        for _ in range(self.accumulate):
            batch = self.stream.next()
            loss = self.loop.loss(self.model, batch, self.run.params)
            share = loss / self.accumulate if self.accumulate > 1 else loss
            self.scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            total = share.detach() if total is None else total + share.detach()
            n += self.stream.n_samples_of(batch)
        assert total is not None
        return total, n

    def _norm(self) -> Tensor | None:
        """Clip the gradient where that is asked for; return its norm for a sweep."""
        clip, sweeps = self.loop.training.clip_norm, self.run.split is None
        if clip is None and not sweeps:
            return None  # only the steps of sweeps are stored
        self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(self.parameters)
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, clip, norm)
        return norm if sweeps else None

    def _report(self, loss: Tensor, norm: Tensor | None, n: int, *, moved: bool) -> None:
        """Record a step; one whose weights were not `moved` is that at which the run broke."""
        run, tally = self.run, self.tally
        if moved:
            # What the optimizer used, by a hook: the scheduler's word for it would prove nothing.
            lrs, momentum = [kept[-1] for kept in self.applied.lrs], self.applied.momenta[-1]
        else:
            lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
            momentum = math.nan
        run.report(
            self.step,
            loss,
            lrs=lrs,
            grad_norm=norm,
            momentum=None if math.isnan(momentum) else momentum,
        )
        self.step += 1
        self.n_samples += n
        if not moved:
            run.look()  # which ends the run
        elif self.step < run.plan.total_steps:
            # Not after the last step: OneCycleLR takes one more, and the rate rises again
            # (https://github.com/pytorch/pytorch/issues/91765).
            self.scheduler.step()
        tally.lr_first = tally.lr_first if tally.n_samples else lrs[0]
        tally.lr_last = lrs[0]
        tally.loss += loss * n
        tally.n_samples += n

    def _end_epoch(self) -> None:
        """Score and record the epoch of a judged run; a sweep has steps only.

        Weights that are no numbers are the divergence that the next loss would show.
        """
        self._read_clock()
        # Read before the evaluation, so that samples per second are those of training alone.
        tally, training_s = self.tally, self.tally.seconds
        run, loop = self.run, self.loop
        run.look()
        if run.split is not None and not run.diverged():
            if not _all_finite(self.parameters):
                run.diverged_at = run.points[-1]
                return
            self.score = loop.scored(self.model, run.split, run.params)
            loss = loop.loss_if_it_has_one(self.model, run.split, run.params)
            self._read_clock()
            run.epoch(
                EpochRow(
                    epoch=math.ceil(self.step / self.steps_per_epoch),
                    lr_first=tally.lr_first,
                    lr_last=tally.lr_last,
                    train_loss=float(tally.loss) / tally.n_samples,
                    train_accuracy=math.nan,
                    validation_loss=math.nan if loss is None else loss,
                    validation_accuracy=self.score,
                    seconds=tally.seconds,
                    images_per_s=tally.n_samples / training_s,
                )
            )
        self.tally = self._fresh_tally()

    def _result(self, outcome: Outcome) -> RunResult:
        run, sealed = self.run, None
        completed = outcome == "completed"
        judged = completed and run.split is not None
        if judged:
            run.trained(self._write)
        if completed and run.sealed_split is not None:
            sealed = self.loop.sealed(self.model, run.sealed_split, run.params)
        self._read_clock()
        return RunResult(
            score=self.score if judged else None,
            outcome=outcome,
            n_steps=self.step,
            n_images=self.n_samples,
            seconds=self.seconds,
            sealed_score=sealed,
            n_skipped=self.n_skipped,
        )

    def _write(self, path: Path) -> None:
        torch.save(self.model.state_dict(), path)

    def _read_clock(self) -> None:
        """Add the time since the last reading to the epoch and to the run."""
        synchronize(self.loop.kind)
        now = time.perf_counter()
        self.tally.seconds += now - self.clock
        self.seconds += now - self.clock
        self.clock = now

    def _fresh_tally(self) -> _Tally:
        return _Tally(torch.zeros((), device=self.loop.device))

    def _state(self) -> dict[str, Any]:
        self._read_clock()
        return {
            "device": self.loop.kind,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": generators(self.loop.kind),
            "tally": asdict(self.tally),
            "stream": [self.stream.reading, self.stream.position],
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        # Both are needed: OneCycleLR keeps max_lr and initial_lr in the optimizer's groups, and
        # only its count of steps in its own state.
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        loss = state["tally"]["loss"].to(self.loop.device)
        self.tally = _Tally(**{**state["tally"], "loss": loss})
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.stream.resume(*state["stream"])
        # Last: the stream seeds them for its reading, and they had gone on from there.
        put_back(state["generators"], self.loop.kind)


_PLAIN = ("step", "n_samples", "n_skipped", "skipped_in_a_row", "seconds", "score")


def _all_finite(parameters: list[Tensor]) -> bool:
    """Whether all weights are numbers; waits for the device once."""
    return bool(torch.stack([p.detach().isfinite().all() for p in parameters]).all())
