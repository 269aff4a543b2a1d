"""Module, data and Lightning's Trainer of one run, with ours in the place of some parts."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainers.adapters.epochs import Epochs
from trainers.adapters.lightning_parts import (
    check_loaders,
    check_module,
    has_scheduler,
    library_of,
    listed,
    only_optimizer,
)
from trainers.adapters.seeded import seeded
from trainers.device import Site
from trainers.errors import DataError, TaskError

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from trainers.adapters.lightning import LightningTraining

_LEFT_OUT = """
    EarlyStopping Timer StochasticWeightAveraging GradientAccumulationScheduler
    ModelCheckpoint OnExceptionCheckpoint LearningRateMonitor LearningRateFinder
    BatchSizeFinder ProgressBar TQDMProgressBar RichProgressBar
"""
"""Callbacks that end a cycle early, move its rates or write files of their own."""


class Ended(Exception):
    """The fit has done what it was for, before Lightning would have ended it."""


class Look:
    """Ends a fit before its first step."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Lightning has module, loaders and optimizer ready."""
        raise Ended


@contextmanager
def alone(seed: int, site: Site) -> Iterator[Path]:
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


class Fit:
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
        self.library = library_of(self.module)
        data = task.made("data", task.data, told)
        # Our loader is set on a copy: one data module may serve several runs.
        self.data = data if data is None or isinstance(data, Mapping) else copy(data)
        self.name = type(self.module).__name__
        self.loader: Epochs | None = None
        self._n_skipped = 0
        self.has_scheduler = False
        self.left_out: list[str] = []
        check_module(self.module, self.library, monitor=task.monitor)
        self._take_over()

    def _take_over(self) -> None:
        """Put ours in the place of the train loader, the optimizer's scheduler and callbacks."""
        optimizers, callbacks = self.module.configure_optimizers, self.module.configure_callbacks
        self.module.configure_optimizers = lambda: self._only_optimizer(optimizers())
        self.module.configure_callbacks = lambda: self.kept(callbacks())
        self.given: dict[str, Any] = {}
        if isinstance(self.data, Mapping):
            check_loaders(self.data)
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
        self.loader.n_skipped = self._n_skipped
        return self.loader

    def skip(self, n_batches: int) -> None:
        """Begin the next epoch after so many of its batches: an earlier owner has trained them."""
        self._n_skipped = n_batches
        if self.loader is not None:
            self.loader.n_skipped = n_batches

    def _epoch(self) -> int:
        # `processed`, not trainer.current_epoch, which is one behind as a resumed fit begins.
        return int(self.trainer.fit_loop.epoch_progress.current.processed)

    def _only_optimizer(self, made: Any) -> "Optimizer":
        """Return the one optimizer of what configure_optimizers made, without its scheduler."""
        optimizer = only_optimizer(made, self.name)
        self.has_scheduler = has_scheduler(made)
        return optimizer

    def kept(self, callbacks: Any) -> list[Any]:
        """Return fresh copies of the user's callbacks, without those that contradict a cycle."""
        kept = []
        for callback in listed(callbacks):
            names = {each.__name__ for each in type(callback).__mro__}
            if names.isdisjoint(_LEFT_OUT.split()):
                kept.append(deepcopy(callback))
            else:
                self.left_out.append(type(callback).__name__)
        return kept

    def made_trainer(self, conduct: Any, *, judged: bool, **limits: Any) -> Any:
        """Return Lightning's Trainer on one device, which writes and shows nothing of its own."""
        arguments = {"enable_model_summary": False, **self.task.arguments, **limits}
        callbacks = self.kept(listed(arguments.pop("callbacks", None)))
        plugins = listed(arguments.pop("plugins", None))
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

    def callback(self, behaviour: type[Any], *values: Any) -> Any:
        """Return a callback of this library, Lightning's or the older package's."""
        # A Checkpoint: called last, when all metrics are there, and instead of ModelCheckpoint.
        base = self.library.callbacks.Checkpoint
        return type(behaviour.__name__, (behaviour, base), {})(*values)

    def validated(self, **limits: Any) -> float:
        """Return the monitored metric of the module as it is, on the validation split."""
        trainer = self.made_trainer(self.callback(Look), judged=True, **limits)
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
