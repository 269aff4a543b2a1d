"""Model, datasets and Transformers' Trainer of one run, which writes and shows nothing."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainers.adapters.extras import needed
from trainers.adapters.seeded import seeded
from trainers.adapters.transformers import REPLACED
from trainers.device import Site
from trainers.errors import DataError, TaskError

if TYPE_CHECKING:
    from trainers.adapters.transformers import TransformersTraining

log = logging.getLogger(__name__)


def changed(args: Any) -> dict[str, Any]:
    """Return what TrainingArguments say that is not their default, as their arguments."""
    given, default = args.to_dict(), type(args)(output_dir=args.output_dir).to_dict()
    return {name: value for name, value in given.items() if value != default.get(name)}


@contextmanager
def alone(seed: int, site: Site) -> Iterator[Path]:
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


class Fit:
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
