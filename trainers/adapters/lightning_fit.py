"""One run by Lightning's Trainer: a callback brings plan, steps, stop and checkpoints into it."""

import logging
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy, deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from trainers.adapters.epochs import Epochs
from trainers.adapters.seeded import generators, put_back, seeded
from trainers.calls.applied import Applied
from trainers.device import Site, synchronize
from trainers.errors import DataError, TaskError
from trainers.gradients import gradient_norm
from trainers.groups import is_adaptive
from trainers.run import EpochRow, Run, RunResult

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from trainers.adapters.lightning import LightningTraining

log = logging.getLogger(__name__)

# The most training that a kill can cost.
_SECONDS_BETWEEN_CHECKPOINTS = 30.0
_LEFT_OUT = """
    EarlyStopping Timer StochasticWeightAveraging GradientAccumulationScheduler
    ModelCheckpoint OnExceptionCheckpoint LearningRateMonitor LearningRateFinder
    BatchSizeFinder ProgressBar TQDMProgressBar RichProgressBar
"""
"""Callbacks that end a cycle early, move its rates or write files of their own."""


_ARGUMENTS = (
    "hparams_name",
    "hparams_type",
    "hyper_parameters",
    "datamodule_hparams_name",
    "datamodule_hparams_type",
    "datamodule_hyper_parameters",
)
"""Of a checkpoint of Lightning's: what module and data module were made with."""


class _Ended(Exception):
    """The fit has done what it was for, before Lightning would have ended it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What module and data are like, read at the start of a fit that trains nothing."""

    batch_size: int | None
    steps_per_epoch: int | None
    adaptive: bool
    shapes: Mapping[str, str]
    has_scheduler: bool
    left_out: tuple[str, ...]


def look(
    task: "LightningTraining",
    *,
    params: Mapping[str, Any] | None = None,
    steps_per_epoch: int | None = None,
) -> Seen:
    """Let Lightning set up a fit on the CPU, and return what it found; nothing is trained."""
    site = Site(device="cpu", data=None, cache=Path())
    with _alone(0, site) as folder:
        fit = _Fit(task, site, params or {}, seed=0, folder=folder)
        return fit.looked_at(steps_per_epoch)


class LightningTrainer:
    """Trains LightningModules at a Site; one object serves any number of runs."""

    def __init__(self, task: "LightningTraining", site: Site) -> None:
        self.task, self.site = task, site
        self.seen = look(task, steps_per_epoch=task.steps_per_epoch)
        with _alone(0, site) as folder:
            fit = _Fit(task, site, {}, seed=0, folder=folder)
            # One batch shows whether the metric is there, before anything is trained.
            fit.validated(limit_val_batches=1)
            fit.test_loader()
        if self.seen.has_scheduler:
            log.info("the scheduler of configure_optimizers is replaced by that of the plan")
        for name in self.seen.left_out:
            log.info("the callback %s is left out: a cycle is trained to its end", name)

    def facts(self) -> dict[str, str]:
        """Return what has to be the same in all runs of a study."""
        shapes = "; ".join(f"{name} {shape}" for name, shape in self.seen.shapes.items())
        precision = self.task.arguments.get("precision", "32-true")
        return {"precision": str(precision), "parameters": shapes}

    def untrained_score(self, params: Mapping[str, Any]) -> float:
        """Return the monitored metric of a module as it is made, on the validation split."""
        with _alone(0, self.site) as folder:
            fit = _Fit(self.task, self.site, params, seed=0, folder=folder)
            return fit.validated()

    def fit(self, run: Run) -> RunResult:
        """Train once under `run.plan` and score the result where the run asks for it."""
        self.task.check_searched(tuple(run.params))
        task = self.task.at(batch_size=run.batch_size)
        with _alone(run.seed, self.site) as folder:
            fit = _Fit(task, self.site, run.params, seed=run.seed, folder=folder)
            return fit.result(run)


@contextmanager
def _alone(seed: int, site: Site) -> Iterator[Path]:
    """Seed everything, keep Lightning quiet and its files in a folder that goes at the end."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with (
            seeded(seed, site.device),
            tempfile.TemporaryDirectory(prefix="onecycle-") as folder,
            warnings.catch_warnings(),
        ):
            # Advice, such as on the number of a loader's workers, that each run would repeat.
            warnings.filterwarnings("ignore", module=r"(pytorch_)?lightning")
            yield Path(folder)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Fit:
    """Module, data and Trainer of one run."""

    def __init__(
        self,
        task: "LightningTraining",
        site: Site,
        params: Mapping[str, Any],
        *,
        seed: int,
        folder: Path,
    ) -> None:
        self.task, self.site, self.seed, self.folder = task, site, seed, folder
        told = dict(params)
        if "batch_size" in told:
            told["batch_size"] //= task.accumulated
        self.module = task.made("module", task.module, told)
        self.library = _library_of(self.module)
        data = task.made("data", task.data, told)
        # Our loader is set on a copy: one data module may serve several runs.
        self.data = data if data is None or isinstance(data, Mapping) else copy(data)
        self.name = type(self.module).__name__
        self.loader: Epochs | None = None
        self.skipped = 0
        self.has_scheduler = False
        self.left_out: list[str] = []
        self._check_module()
        self._take_over()

    def _check_module(self) -> None:
        if not self.module.automatic_optimization:
            raise TaskError(
                f"{self.name} optimizes by hand (automatic_optimization = False), so that its "
                "steps cannot be counted from outside; search it as a loop of your own: "
                "OwnLoop(factory=...), docs/your-own-loop.md"
            )
        own = self.library.LightningModule.validation_step
        if type(self.module).validation_step is own:
            raise TaskError(
                f"{self.name} has no validation_step, which logs monitor={self.task.monitor!r}"
            )

    def _take_over(self) -> None:
        """Put ours in the place of the train loader, the optimizer's scheduler and callbacks."""
        optimizers, callbacks = self.module.configure_optimizers, self.module.configure_callbacks
        self.module.configure_optimizers = lambda: self._only_optimizer(optimizers())
        self.module.configure_callbacks = lambda: self._kept(callbacks())
        self.given: dict[str, Any] = {}
        if isinstance(self.data, Mapping):
            _check_loaders(self.data)
            self.given["train_dataloaders"] = self._seeded(self.data["train"])
            self.given["val_dataloaders"] = self.data["validation"]
            return
        source = self._source
        if self.data is not None:
            if not isinstance(source, self.library.LightningDataModule):
                raise TaskError(
                    "data must be a LightningDataModule, a dict of loaders or a function that "
                    f"makes one of these, got {type(source).__name__}"
                )
            self.given["datamodule"] = source
        loader = source.train_dataloader
        source.train_dataloader = lambda: self._seeded(loader())

    @property
    def _source(self) -> Any:
        """What has the loaders: the data module, else the module itself."""
        return self.module if self.data is None else self.data

    def _seeded(self, loader: Any) -> Epochs:
        if not hasattr(loader, "__iter__") or isinstance(loader, (Mapping, list, tuple)):
            raise DataError(
                f"the train loader must be one loader, got {type(loader).__name__}; several "
                "belong in one Dataset, or in a loop of your own (docs/your-own-loop.md)"
            )
        self.loader = Epochs(loader, seed=self.seed, epoch=self._epoch)
        self.loader.n_skipped = self.skipped
        return self.loader

    def _epoch(self) -> int:
        # `processed`, not trainer.current_epoch, which is one behind as a resumed fit begins.
        return int(self.trainer.fit_loop.epoch_progress.current.processed)

    def _only_optimizer(self, made: Any) -> "Optimizer":
        """Return the one optimizer of what configure_optimizers made, at its own rates."""
        optimizers = _optimizers_in(made)
        if len(optimizers) != 1:
            raise TaskError(
                f"configure_optimizers of {self.name} returned {len(optimizers)} optimizers, and "
                "one can be searched here; a loop of your own may have several: "
                "OwnLoop(factory=...), docs/your-own-loop.md"
            )
        (optimizer,) = optimizers
        if isinstance(optimizer, torch.optim.LBFGS):
            raise TaskError("LBFGS takes several losses in a step; search SGD, AdamW or the like")
        self.has_scheduler = _has_scheduler(made)
        for group in optimizer.param_groups:
            # A scheduler was made over it, and has set the rate of its own first step.
            if "initial_lr" in group:
                group["lr"] = group.pop("initial_lr")
        return optimizer

    def _kept(self, callbacks: Any) -> list[Any]:
        """Return fresh copies of the user's callbacks, without those that contradict a cycle."""
        kept = []
        for callback in _listed(callbacks):
            names = {each.__name__ for each in type(callback).__mro__}
            if names.isdisjoint(_LEFT_OUT.split()):
                kept.append(deepcopy(callback))
            else:
                self.left_out.append(type(callback).__name__)
        return kept

    def _made_trainer(self, conduct: Any, *, judged: bool, **limits: Any) -> Any:
        """Return Lightning's Trainer on one device, which writes and shows nothing of its own."""
        arguments = {"enable_model_summary": False, **self.task.arguments, **limits}
        callbacks = self._kept(_listed(arguments.pop("callbacks", None)))
        plugins = _listed(arguments.pop("plugins", None))
        environments = import_module(f"{self.library.__name__}.plugins.environments")
        if not judged:
            # Nothing judges a sweep, and what a callback monitors would not be there.
            self.module.configure_callbacks = list
            callbacks, arguments["limit_val_batches"] = [], 0
        kind = self.site.device
        self.trainer = self.library.Trainer(
            **arguments,
            accelerator={"cuda": "gpu"}.get(kind, kind),
            devices=[torch.cuda.current_device()] if kind == "cuda" else 1,
            # A Slurm job of four workers would be taken for one training of four ranks.
            plugins=[environments.LightningEnvironment(), *plugins],
            callbacks=[*callbacks, conduct],
            logger=False,
            enable_progress_bar=False,
            num_sanity_val_steps=0,
            default_root_dir=self.folder,
        )
        return self.trainer

    def _callback(self, behaviour: type[Any], *values: Any) -> Any:
        """Return a callback of this library, Lightning's or the older package's."""
        # A Checkpoint: called last, when all metrics are there, and instead of ModelCheckpoint.
        base = self.library.callbacks.Checkpoint
        return type(behaviour.__name__, (behaviour, base), {})(*values)

    def looked_at(self, steps_per_epoch: int | None) -> Seen:
        """Return what Lightning finds as it begins to train; it trains nothing."""
        # So many steps: a scheduler over all of them needs a number where the loader has none.
        limits: dict[str, Any] = {"max_epochs": 1, "max_steps": 10**6, "precision": "32-true"}
        if steps_per_epoch is not None:
            limits["limit_train_batches"] = steps_per_epoch * self.task.accumulated
        trainer = self._made_trainer(self._callback(_Look), judged=False, **limits)
        with suppress(_Ended):
            trainer.fit(self.module, **self.given)
        assert self.loader is not None
        n_batches, size = trainer.num_training_batches, self.loader.batch_size
        steps = None if math.isinf(n_batches) else math.ceil(n_batches / self.task.accumulated)
        # A fit without them, as in a sweep; which of them a cycle leaves out is told all the same.
        own = type(self.module).configure_callbacks(self.module)
        self._kept([*_listed(self.task.arguments.get("callbacks")), *_listed(own)])
        return Seen(
            batch_size=None if size is None else size * self.task.accumulated,
            steps_per_epoch=steps,
            adaptive=is_adaptive(trainer.optimizers[0]),
            shapes={n: f"{tuple(p.shape)} {p.dtype}" for n, p in self.module.named_parameters()},
            has_scheduler=self.has_scheduler,
            left_out=tuple(dict.fromkeys(self.left_out)),
        )

    def validated(self, **limits: Any) -> float:
        """Return the monitored metric of the module as it is, on the validation split."""
        trainer = self._made_trainer(self._callback(_Look), judged=True, **limits)
        loaders = self.given.get("val_dataloaders")
        data = self.given if loaders is None else {"dataloaders": loaders}
        trainer.validate(self.module, verbose=False, **data)
        return self.monitored(trainer)

    def monitored(self, trainer: Any) -> float:
        """Return the monitored metric as Lightning has it now."""
        metrics = trainer.callback_metrics
        if self.task.monitor not in metrics:
            raise TaskError(
                f"monitor={self.task.monitor!r} is not logged by validation_step of {self.name}; "
                f"logged there: {', '.join(sorted(metrics)) or 'nothing'}"
            )
        return float(metrics[self.task.monitor])

    def test_loader(self) -> Any:
        """Return the loader of the sealed split, which the confirmation reads."""
        if isinstance(self.data, Mapping):
            loader = self.data.get("test")
        else:
            hooks = self.library.core.hooks.DataHooks
            own = type(self._source).test_dataloader is not hooks.test_dataloader
            self._source.trainer = self.trainer
            if own and self.data is not None:
                self._source.setup("test")
            loader = self._source.test_dataloader() if own else None
        if loader is None:
            raise DataError(
                "the confirmation scores a test split that the search never saw: give data a "
                'test_dataloader, or a loader for "test"'
            )
        return loader

    def result(self, run: Run) -> RunResult:
        """Train under the plan of `run`, or resume where an earlier owner saved, and score it."""
        task, judged = self.task, run.split is not None
        epochs = math.ceil(run.plan.total_steps / task.steps_per_epoch)
        conduct = self._callback(_Conduct, self, run)
        batches = task.steps_per_epoch * task.accumulated
        self._made_trainer(conduct, judged=judged, max_epochs=epochs, limit_train_batches=batches)
        self._fit(run, conduct)
        run.look()
        completed = conduct.step == run.plan.total_steps and not run.diverged()
        sealed = None
        if completed and judged:
            run.trained(self.trainer.save_checkpoint)
            if run.sealed_split is not None:
                sealed = self._sealed()
        elif not (completed or run.should_stop()):
            raise TaskError(
                f"the fit ended after {conduct.step} of {run.plan.total_steps} steps: something "
                "set trainer.should_stop; a cycle is trained to its end, or stopped from outside"
            )
        return RunResult(
            score=conduct.score if completed and judged else None,
            outcome="diverged" if run.diverged() else "completed" if completed else "stopped",
            n_steps=conduct.step,
            n_images=conduct.step * task.batch_size,
            seconds=conduct.seconds(),
            sealed_score=sealed,
            n_skipped=conduct.n_skipped,
        )

    def _fit(self, run: Run, conduct: Any) -> None:
        try:
            self.trainer.fit(self.module, ckpt_path=self._resumed(run, conduct), **self.given)
        except _Ended:
            pass
        except SystemExit as ended:
            # So Lightning ends for SIGTERM, whose meaning the run knows, and for Ctrl-C.
            if not run.stop_asked():
                raise KeyboardInterrupt from ended

    def _resumed(self, run: Run, conduct: Any) -> Path | None:
        """Return a file of Lightning's with what an earlier owner saved; None to start over."""
        kept = run.load()
        if kept is None:
            return None
        here, there = self.site.device, kept["device"]
        if there != here:
            log.warning("the checkpoint is of a run on %s, not %s: it starts over", there, here)
            run.start_over()
            return None
        conduct.take_over(kept)
        self.skipped = kept["batches"]
        if self.loader is not None:
            self.loader.n_skipped = self.skipped
        file = self.folder / "resumed.ckpt"
        torch.save(kept["lightning"], file)
        return file

    def _sealed(self) -> float:
        """Return the monitored metric on the test split, as validation_step computes it."""
        self.trainer.validate(self.module, dataloaders=self.test_loader(), verbose=False)
        return self.monitored(self.trainer)


class _Look:
    """Ends a fit before its first step."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Lightning has module, loaders and optimizer ready."""
        raise _Ended


class _Conduct:
    """What one run does within Lightning's fit: the state beside Lightning's own."""

    def __init__(self, fit: _Fit, run: Run) -> None:
        self.owner, self.run = fit, run
        self.step = 0
        self.score: float | None = None
        self._spent, self._clock = 0.0, time.perf_counter()
        self._saved_at = time.monotonic()
        self._norm: torch.Tensor | None = None
        self._generators: dict[str, Any] | None = None
        self.n_skipped = self._n_applied = 0
        self._loss: Any = 0.0
        self._n_batches = 0
        self._new_epoch()

    def _new_epoch(self) -> None:
        self._epoch_loss: Any = 0.0
        self._epoch_step, self._epoch_began = self.step, self.seconds()
        self._lr_first = self._lr_last = 0.0

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Put the plan's scheduler in the place of the module's."""
        types = import_module(f"{self.owner.library.__name__}.utilities.types")
        (optimizer,) = trainer.optimizers
        self._scheduler = self.run.plan.scheduler(optimizer)
        # What the optimizer used, by a hook: the scheduler's word for it would prove nothing.
        self._applied = Applied(optimizer)
        # An interval that Lightning does not step: it would take one step too many.
        config = types.LRSchedulerConfig(self._scheduler, interval="optimizer step")
        trainer.strategy.lr_scheduler_configs = [config]

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Give a resumed run, as its first step begins, the generators that it was saved with."""
        if self._generators is not None:
            put_back(self._generators, self.owner.site.device)
            self._generators = None

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
            self._count(loss)
        done = self.step == self.run.plan.total_steps
        if done and self.run.split is None:
            raise _Ended
        if done:
            trainer.should_stop = True  # within an epoch only where steps were skipped
        elif not trainer.is_last_batch:  # else the epoch is validated first
            self._pause(trainer, batches=batch_idx + 1)

    def _was_skipped(self, trainer: Any) -> bool:
        """Whether a GradScaler found an overflow, so that this step changed no weights."""
        before, self._n_applied = self._n_applied, len(self._applied)
        if before == self._n_applied:
            return True
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        return scaler is not None and self._applied.overflowed()[-1]

    def _skip(self, loss: torch.Tensor) -> None:
        """Count a step that took none of the plan's; one whose loss is no number ends the run."""
        self.n_skipped += 1
        if not torch.isfinite(loss):
            self.run.report(self.step, loss, lrs=self._rates())
            self.run.look()
            raise _Ended

    def _rates(self) -> list[float]:
        return [float(group["lr"]) for group in self._scheduler.optimizer.param_groups]

    def _count(self, loss: torch.Tensor) -> None:
        """Report a step, and give the next one its rate."""
        lrs = [kept[-1] for kept in self._applied.lrs]
        momentum = self._applied.momenta[-1]
        self.run.report(
            self.step,
            loss,
            lrs=lrs,
            grad_norm=self._norm,
            momentum=None if math.isnan(momentum) else momentum,
        )
        self._lr_first = self._lr_first or lrs[0]
        self._lr_last = lrs[0]
        self._epoch_loss = self._epoch_loss + loss
        self.step += 1
        if self.step < self.run.plan.total_steps:
            self._scheduler.step()

    def _pause(self, trainer: Any, *, batches: int) -> None:
        """Save from time to time, and end where asked to; `batches` of the epoch are trained."""
        due = time.monotonic() - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS
        stops = self.run.should_stop()
        if stops or due:
            self.run.save(self._state(trainer, batches))
            self._saved_at = time.monotonic()
        if stops:
            raise _Ended

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Record an epoch that was validated; train another one where steps were skipped."""
        if self.run.split is None:
            return
        self.run.look()
        if self.run.diverged():
            raise _Ended
        self.score = self.owner.monitored(trainer)
        self._record(trainer)
        if self.step == self.run.plan.total_steps:
            return
        if self.step == self._epoch_step:
            raise TaskError(
                f"an epoch of {self.owner.name} ended without an optimizer step: every one of "
                "them overflowed; bf16-mixed has the range of fp32"
            )
        self._new_epoch()
        progress, loop = trainer.fit_loop.epoch_progress.current, trainer.fit_loop
        if progress.processed >= loop.max_epochs:
            loop.max_epochs += 1
        self._pause(trainer, batches=0)

    def _record(self, trainer: Any) -> None:
        task, metrics = self.owner.task, trainer.callback_metrics
        n_steps, seconds = self.step - self._epoch_step, self.seconds() - self._epoch_began
        row = EpochRow(
            epoch=math.ceil(self.step / task.steps_per_epoch),
            lr_first=self._lr_first,
            lr_last=self._lr_last,
            train_loss=float(self._epoch_loss) / max(1, n_steps),
            train_accuracy=math.nan,
            validation_loss=float(metrics.get("val_loss", math.nan)),
            validation_accuracy=math.nan if self.score is None else self.score,
            seconds=seconds,
            images_per_s=n_steps * task.batch_size / seconds,
        )
        self.run.epoch(row)

    def seconds(self) -> float:
        """Return how long the run has trained, also under earlier owners."""
        synchronize(self.owner.site.device)
        now = time.perf_counter()
        self._spent += now - self._clock
        self._clock = now
        return self._spent

    def _state(self, trainer: Any, batches: int) -> dict[str, Any]:
        whole = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        # Arguments of the module may be anything; they come from its factory again.
        kept = {name: each for name, each in whole.items() if name not in _ARGUMENTS}
        return {
            "device": self.owner.site.device,
            "lightning": kept,
            "batches": batches,
            "generators": generators(self.owner.site.device),
            "step": self.step,
            "seconds": self.seconds(),
            "epoch_loss": float(self._epoch_loss),
            "epoch_step": self._epoch_step,
            "epoch_began": self._epoch_began,
            "lr_first": self._lr_first,
            "n_skipped": self.n_skipped,
        }

    def take_over(self, kept: Mapping[str, Any]) -> None:
        """Resume what _state() holds beside Lightning's own."""
        self.step, self.n_skipped = kept["step"], kept["n_skipped"]
        self._epoch_loss, self._epoch_step = kept["epoch_loss"], kept["epoch_step"]
        self._spent, self._clock = kept["seconds"], time.perf_counter()
        self._generators = kept["generators"]
        self._epoch_began, self._lr_first = kept["epoch_began"], kept["lr_first"]


def _library_of(module: Any) -> ModuleType:
    """Return the package of a LightningModule: lightning.pytorch, or pytorch_lightning."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        # Whatever made the module has imported its library.
        library = sys.modules.get(name)
        if library is not None and isinstance(module, library.LightningModule):
            return library
    raise TaskError(f"module must make a LightningModule, got {type(module).__name__}")


def _check_loaders(loaders: Mapping[str, Any]) -> None:
    names = ("train", "validation", "test")
    if not {"train", "validation"} <= loaders.keys() <= set(names):
        raise DataError(
            f"data must be a dict of loaders for {', '.join(names)}, got one for "
            f"{', '.join(map(repr, loaders)) or 'nothing'}"
        )


def _optimizers_in(made: Any) -> list["Optimizer"]:
    """Return the optimizers in what configure_optimizers returned, in any of its forms."""
    if isinstance(made, torch.optim.Optimizer):
        return [made]
    if isinstance(made, Mapping):
        return _optimizers_in(made.get("optimizer"))
    if isinstance(made, (list, tuple)):
        return [each for part in made for each in _optimizers_in(part)]
    return []


def _has_scheduler(made: Any) -> bool:
    """Whether configure_optimizers returned more than optimizers."""
    if isinstance(made, Mapping):
        return "lr_scheduler" in made
    if isinstance(made, (list, tuple)):
        return any(_has_scheduler(part) for part in made)
    return made is not None and not isinstance(made, torch.optim.Optimizer)


def _listed(value: Any) -> list[Any]:
    """Return what may be one thing, several or none as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
