"""One run by Transformers' Trainer: a callback brings plan, stop and checkpoints into it."""

import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainers.adapters.epochs import Epochs
from trainers.adapters.extras import needed
from trainers.adapters.seeded import generators, put_back, seeded
from trainers.adapters.transformers import REPLACED
from trainers.calls.applied import Applied
from trainers.device import Site, synchronize
from trainers.errors import DataError, TaskError
from trainers.groups import is_adaptive
from trainers.run import EpochRow, Run, RunResult

if TYPE_CHECKING:
    from trainers.adapters.transformers import TransformersTraining

log = logging.getLogger(__name__)

# The most training that a kill can cost.
_SECONDS_BETWEEN_CHECKPOINTS = 30.0
# GradScaler starts at 2**16 and halves at each: after so many in a row no scale helps.
_MOST_SKIPPED_IN_A_ROW = 50
_CPU = Site(device="cpu", data=None, cache=Path())


def changed(args: Any) -> dict[str, Any]:
    """Return what TrainingArguments say that is not their default, as their arguments."""
    given, default = args.to_dict(), type(args)(output_dir=args.output_dir).to_dict()
    return {name: value for name, value in given.items() if value != default.get(name)}


def steps_adaptively(task: "TransformersTraining") -> bool:
    """Whether the optimizer that Trainer would make takes steps of the gradient's scale."""
    with _alone(0, _CPU) as folder:
        fit = _Fit(task, _CPU, {}, seed=0, folder=folder)
        return is_adaptive(fit.made_trainer(total_steps=1).create_optimizer())


class TransformersTrainer:
    """Trains models of Transformers at a Site; one object serves any number of runs."""

    def __init__(self, task: "TransformersTraining", site: Site) -> None:
        self.task, self.site = task, site
        with _alone(0, _CPU) as folder:
            fit = _Fit(task, _CPU, {}, seed=0, folder=folder)
            fit.check_scores()
            self.shapes = {
                n: f"{tuple(p.shape)} {p.dtype}" for n, p in fit.model.named_parameters()
            }
            self.sizes = fit.sizes()
        reasons: dict[str, list[str]] = {}
        for name in task.arguments({}):
            if name in REPLACED:
                reasons.setdefault(REPLACED[name], []).append(name)
        for reason, names in reasons.items():
            log.info("args: %s left out; %s", ", ".join(names), reason)

    def facts(self) -> dict[str, str]:
        """Return what has to be the same in all runs of a study."""
        shapes = "; ".join(f"{name} {shape}" for name, shape in self.shapes.items())
        return {"parameters": shapes, **self.sizes}

    def untrained_score(self, params: Mapping[str, Any]) -> float:
        """Return the monitored metric of a model as it is made, on the validation split."""
        with _alone(0, self.site) as folder:
            fit = _Fit(self.task, self.site, params, seed=0, folder=folder)
            return fit.monitored(fit.made_trainer(total_steps=1).evaluate())

    def fit(self, run: Run) -> RunResult:
        """Train once under `run.plan` and score the result where the run asks for it."""
        self.task.check_searched(tuple(run.params))
        task = self.task.at(batch_size=run.batch_size)
        with _alone(run.seed, self.site) as folder:
            return _Fit(task, self.site, run.params, seed=run.seed, folder=folder).result(run)


@contextmanager
def _alone(seed: int, site: Site) -> Iterator[Path]:
    """Seed everything, keep Transformers quiet, its files in a folder that goes at the end."""
    library = needed("transformers", extra="transformers").utils.logging
    needed("accelerate", extra="transformers")
    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        with (
            seeded(seed, site.device),
            tempfile.TemporaryDirectory(prefix="onecycle-") as folder,
            warnings.catch_warnings(),
        ):
            # Advice that each run would repeat.
            warnings.filterwarnings("ignore", module="transformers|accelerate")
            yield Path(folder)
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()


class _Fit:
    """Model, data and Trainer of one run."""

    def __init__(
        self,
        task: "TransformersTraining",
        site: Site,
        params: Mapping[str, Any],
        *,
        seed: int,
        folder: Path,
    ) -> None:
        self.task, self.site, self.seed, self.folder = task, site, seed, folder
        self.library: Any = needed("transformers", extra="transformers")
        self.params = params
        self.model = task.made("model", task.model, params)
        if not isinstance(self.model, torch.nn.Module):
            kind = type(self.model).__name__
            raise TaskError(f"model must return a model of Transformers, got {kind}")
        self.train = task.made("train", task.train, params)
        self.evaluation = task.made("evaluation", task.evaluation, params)
        if not isinstance(self.evaluation, Mapping):
            self.evaluation = {"validation": self.evaluation}
        unknown = self.evaluation.keys() - {"train", "validation", "test"}
        if unknown or "validation" not in self.evaluation:
            raise DataError(
                'evaluation must be a dict of datasets for "validation" and "test", got '
                f"{', '.join(map(repr, self.evaluation))}"
            )
        self.loader: Epochs | None = None

    def made_trainer(self, *, total_steps: int, conduct: Any = None) -> Any:
        """Return Transformers' Trainer on one device, which writes and shows nothing."""
        task, given = self.task, dict(self.task.trainer_arguments)
        callbacks = [deepcopy(each) for each in given.pop("callbacks", None) or []]
        stops = self.library.EarlyStoppingCallback
        callbacks = [each for each in callbacks if not isinstance(each, stops)]
        trainer = self.library.Trainer(
            model=self.model,
            args=self._arguments(total_steps),
            train_dataset=self.train,
            eval_dataset=self.evaluation["validation"],
            compute_metrics=task.metrics,
            callbacks=[*callbacks, *([] if conduct is None else [conduct])],
            **given,
        )
        trainer.remove_callback(self.library.PrinterCallback)  # prints to stdout
        return trainer

    def _arguments(self, total_steps: int) -> Any:
        known = {n: v for n, v in self.task.arguments(self.params).items() if n not in REPLACED}
        known["per_device_train_batch_size"] = self.task.batch_size // self.task.accumulated
        on_cpu = self.site.device == "cpu"
        arguments = self.library.TrainingArguments(
            **{"dataloader_pin_memory": not on_cpu, **known},
            output_dir=str(self.folder),
            max_steps=total_steps,
            seed=self.seed % 2**32,
            use_cpu=on_cpu,
            report_to="none",
            disable_tqdm=True,
            log_level="warning",
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
        )
        # Several GPUs that are visible would be taken for one training (torch's DataParallel).
        arguments._n_gpu = min(1, arguments.n_gpu)
        return arguments

    def sizes(self) -> dict[str, str]:
        """Return how many samples each split has, where it says."""
        splits = {"train": self.train, **self.evaluation}
        return {
            f"{name} samples": str(len(data))
            for name, data in splits.items()
            if hasattr(data, "__len__")
        }

    def check_scores(self) -> None:
        """Raise TaskError where a few samples give no `monitor`, DataError without a test."""
        if self.evaluation.get("test") is None:
            raise DataError(
                "the confirmation scores a test split that the search never saw: give "
                'evaluation={"validation": ..., "test": ...}'
            )
        trainer = self.made_trainer(total_steps=1)
        few = list(islice(iter(self.evaluation["validation"]), 8))
        dataset = self.evaluation["validation"]
        few_of_it = dataset.select(range(len(few))) if hasattr(dataset, "select") else few
        try:
            metrics = trainer.evaluate(eval_dataset=few_of_it)
        except Exception as error:
            # A metric may need more samples than these, or another kind of dataset than a list.
            log.debug("the check of monitor= is left to the first cycle: %r", error)
            return
        self.monitored(metrics)

    def monitored(self, metrics: Mapping[str, float]) -> float:
        """Return the monitored one of the metrics that an evaluation gave."""
        if self.task.monitor not in metrics:
            raise TaskError(
                f"monitor={self.task.monitor!r} is not among the metrics of an evaluation: "
                f"{', '.join(sorted(metrics))}"
            )
        return float(metrics[self.task.monitor])

    def result(self, run: Run) -> RunResult:
        """Train under the plan of `run`, or resume where an earlier owner saved, and score it."""
        judged, total = run.split is not None, run.plan.total_steps
        behaviour = type("Conduct", (_Conduct, self.library.TrainerCallback), {})
        conduct = behaviour(self, run)
        conduct.resume()
        left = total - conduct.step
        # Room for the steps that a GradScaler skips: we end it.
        if self.task.arguments(self.params).get("fp16"):
            left = 2 * left + _MOST_SKIPPED_IN_A_ROW
        trainer = self.made_trainer(total_steps=left, conduct=conduct)
        conduct.take_hold(trainer)
        trainer.train()
        run.look()
        completed = conduct.step == total and not run.diverged()
        sealed = None
        if completed and judged:
            run.trained(self._save(trainer))
            if run.sealed_split is not None:
                conduct.is_over = True
                sealed = self.monitored(trainer.evaluate(eval_dataset=self.evaluation["test"]))
        elif not (completed or run.should_stop()):
            raise TaskError(
                f"the fit ended after {conduct.step} of {total} steps: a callback ended it, or "
                "the train set gave no more batches; a cycle is trained to its end"
            )
        return RunResult(
            score=conduct.score if completed and judged else None,
            outcome="diverged" if run.diverged() else "completed" if completed else "stopped",
            n_steps=conduct.step,
            n_images=conduct.step * self.task.batch_size,
            seconds=conduct.seconds(),
            sealed_score=sealed,
            n_skipped=conduct.n_skipped,
        )

    def _save(self, trainer: Any) -> Callable[[Path], None]:
        """Return what writes model and processing class, so that from_pretrained reads them."""

        def save(path: Path) -> None:
            model = trainer.accelerator.unwrap_model(trainer.model)
            if hasattr(model, "save_pretrained"):
                model.save_pretrained(path)
            else:
                path.mkdir(parents=True, exist_ok=True)
                torch.save(model.state_dict(), path / "pytorch_model.bin")
            if trainer.processing_class is not None:
                trainer.processing_class.save_pretrained(path)

        return save


class _Conduct:
    """What one run does within Trainer's loop."""

    def __init__(self, fit: _Fit, run: Run) -> None:
        self.owner, self.run = fit, run
        self.step = self.n_skipped = self.skipped_in_a_row = 0
        self.score: float | None = None
        self.is_over = False
        # Passes over the train set, and batches of the present one.
        self.n_passes, self.n_batches = -1, 0
        self._kept: Mapping[str, Any] | None = None
        self._generators: dict[str, Any] | None = None
        self._spent, self._clock = 0.0, time.perf_counter()
        self._saved_at = time.monotonic()
        self._loss: Any = 0.0
        self._n_applied = 0
        self._new_epoch()

    def _new_epoch(self) -> None:
        self._epoch_loss: Any = 0.0
        self._epoch_step, self._epoch_began = self.step, self.seconds()
        self._lr_first = self._lr_last = 0.0

    def resume(self) -> None:
        """Take over what an earlier owner saved, into a model that is not placed yet."""
        kept = self.run.load()
        if kept is None:
            return
        here, there = self.owner.site.device, kept["device"]
        if there != here:
            log.warning("the checkpoint is of a run on %s, not %s: it starts over", there, here)
            self.run.start_over()
            return
        self._kept = kept
        self.owner.model.load_state_dict(kept["model"])
        self._generators = kept["generators"]
        self.n_passes, self.n_batches = kept["n_passes"] - 1, kept["n_batches"]
        self.step, self.n_skipped = kept["step"], kept["n_skipped"]
        self._epoch_loss, self._epoch_step = kept["epoch_loss"], kept["epoch_step"]
        self._spent, self._clock = kept["seconds"], time.perf_counter()
        self._epoch_began, self._lr_first = kept["epoch_began"], kept["lr_first"]

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
        raw = getattr(wrapper, "optimizer", wrapper)
        self.scheduler = self.run.plan.scheduler(raw)
        self._applied = Applied(raw)
        if self._kept is not None:
            wrapper.load_state_dict(self._kept["optimizer"])
            self.scheduler.load_state_dict(self._kept["scheduler"])
            scaler = self.trainer.accelerator.scaler
            if scaler is not None and self._kept["scaler"]:
                scaler.load_state_dict(self._kept["scaler"])
        # Trainer steps its own after each step, the last one too, and one more than planned.
        self.trainer.lr_scheduler = _Still(self.scheduler)
        return self.trainer.lr_scheduler

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Give a resumed run, as its first step begins, the generators it was saved with."""
        if self._generators is not None:
            put_back(self._generators, self.owner.site.device)
            self._generators = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report a step; evaluate at the end of an epoch, save and stop within one."""
        loss, self._loss = self._loss, 0.0
        if self._was_skipped():
            self._skip(loss)
        else:
            self._count(loss)
        done = self.step == self.run.plan.total_steps
        ends_epoch = done or self.step % self.owner.task.steps_per_epoch == 0
        if self.run.split is not None and ends_epoch and self.step > self._epoch_step:
            control.should_evaluate = True
        else:
            self._pause(control)
        if done:
            control.should_training_stop = True

    def _was_skipped(self) -> bool:
        before, self._n_applied = self._n_applied, len(self._applied)
        return before == self._n_applied or bool(
            self.trainer.accelerator.optimizer_step_was_skipped
        )

    def _skip(self, loss: torch.Tensor) -> None:
        """Count a step whose gradient overflowed in fp16: it takes none of the plan's."""
        self.n_skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= _MOST_SKIPPED_IN_A_ROW or not torch.isfinite(loss):
            lrs = [float(group["lr"]) for group in self.scheduler.optimizer.param_groups]
            self.run.report(self.step, math.nan, lrs=lrs)
            self.run.look()

    def _count(self, loss: torch.Tensor) -> None:
        self.skipped_in_a_row = 0
        lrs, momentum = [kept[-1] for kept in self._applied.lrs], self._applied.momenta[-1]
        self.run.report(
            self.step, loss, lrs=lrs, momentum=None if math.isnan(momentum) else momentum
        )
        self._lr_first = self._lr_first or lrs[0]
        self._lr_last = lrs[0]
        self._epoch_loss = self._epoch_loss + loss
        self.step += 1
        if self.step < self.run.plan.total_steps:
            self.scheduler.step()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **kwargs: Any
    ) -> None:
        """Record an epoch that was evaluated."""
        if self.is_over:
            return
        self.run.look()
        if not self.run.diverged():
            self.score = self.owner.monitored(metrics)
            self._record(metrics)
            self._new_epoch()
        if self.step < self.run.plan.total_steps:
            self._pause(control)

    def _record(self, metrics: Mapping[str, float]) -> None:
        task = self.owner.task
        n_steps, seconds = self.step - self._epoch_step, self.seconds() - self._epoch_began
        row = EpochRow(
            epoch=math.ceil(self.step / task.steps_per_epoch),
            lr_first=self._lr_first,
            lr_last=self._lr_last,
            train_loss=float(self._epoch_loss) / n_steps,
            train_accuracy=math.nan,
            validation_loss=float(metrics.get("eval_loss", math.nan)),
            validation_accuracy=math.nan if self.score is None else self.score,
            seconds=seconds,
            images_per_s=n_steps * task.batch_size / seconds,
        )
        self.run.epoch(row)

    def _pause(self, control: Any) -> None:
        """Save from time to time, and end where the run is asked to."""
        due = time.monotonic() - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS
        stops = self.run.should_stop()
        if (stops or due) and self._can_resume():
            self.run.save(self._state())
            self._saved_at = time.monotonic()
        if stops:
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

    def seconds(self) -> float:
        """Return how long the run has trained, also under earlier owners."""
        synchronize(self.owner.site.device)
        now = time.perf_counter()
        self._spent += now - self._clock
        self._clock = now
        return self._spent

    def _state(self) -> dict[str, Any]:
        trainer, at_end = self.trainer, self.n_batches == self._n_in_a_pass()
        scaler = trainer.accelerator.scaler
        return {
            "device": self.owner.site.device,
            "model": trainer.accelerator.unwrap_model(trainer.model).state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
            "generators": generators(self.owner.site.device),
            "n_passes": self.n_passes + at_end,
            "n_batches": 0 if at_end else self.n_batches,
            "step": self.step,
            "n_skipped": self.n_skipped,
            "seconds": self.seconds(),
            "epoch_loss": float(self._epoch_loss),
            "epoch_step": self._epoch_step,
            "epoch_began": self._epoch_began,
            "lr_first": self._lr_first,
        }


class _Still:
    """A scheduler as Trainer reads it, which its steps do not move."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def step(self, *values: Any) -> None:
        """Do nothing: the plan's scheduler was stepped with the optimizer."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)
