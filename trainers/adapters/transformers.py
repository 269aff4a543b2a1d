"""A Transformers fine-tune as a study's task: its own Trainer trains it, at our plan's rates."""

import math
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from trainers.adapters.adapter import Adapter
from trainers.adapters.extras import needed
from trainers.adapters.names import Direction, checked_direction
from trainers.adapters.told import plain
from trainers.device import Site
from trainers.errors import DataError
from trainers.run import Trainer

_REASONS = {
    "the study's epochs decide how long a cycle is": """
        num_train_epochs max_steps resume_from_checkpoint auto_find_batch_size
    """,
    "the plan sets the rates": """
        learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps warmup_ratio
    """,
    "a cycle is evaluated at the end of each epoch": """
        eval_strategy evaluation_strategy eval_steps eval_delay eval_on_start
    """,
    "the study keeps checkpoints and results": """
        save_strategy save_steps save_total_limit load_best_model_at_end metric_for_best_model
        greater_is_better output_dir logging_dir push_to_hub
    """,
    "the study shows the progress": """
        report_to logging_strategy logging_steps logging_first_step disable_tqdm run_name do_train
        do_eval do_predict log_level
    """,
    "the study has the seeds, and each worker one device": """
        seed data_seed full_determinism use_cpu no_cuda local_rank
    """,
}
REPLACED = {name: reason for reason, names in _REASONS.items() for name in names.split()}
"""TrainingArguments that a study says itself: left out where they are given, with the reason."""
_REFUSED = "fsdp fsdp_config deepspeed parallelism_config"
_TRAINER = (
    *("data_collator", "processing_class", "compute_loss_func", "callbacks"),
    *("optimizer_cls_and_kwargs", "preprocess_logits_for_metrics"),
)
"""Arguments of transformers.Trainer that are the user's."""


@dataclass(frozen=True, kw_only=True, init=False)
class TransformersTraining(Adapter):
    """A model of Transformers, trained by Transformers' own Trainer.

    `model` makes a new model for each run. `args` is a dict of TrainingArguments, these
    themselves, or a function that returns one of them. `train` is a dataset, `evaluation` a dict
    of datasets for "validation" and "test"; each may be a function instead. Functions are told
    the searched parameters that their signatures name, and each of these has a default: what the
    baseline has.

    `monitor` is the metric that is searched for: eval_loss, or a key of what `metrics` returns
    (Trainer's compute_metrics). `direction` says what is better where the name does not.

    `trainer` holds arguments of transformers.Trainer: processing_class, data_collator,
    compute_loss_func, optimizer_cls_and_kwargs, preprocess_logits_for_metrics and callbacks.

    `batch_size` counts all samples of an optimizer step: per_device_train_batch_size times
    gradient_accumulation_steps. A train set without a length needs `steps_per_epoch`.
    """

    # The fields are stored as the study's protocol, so data and objects are none of them.
    model: Callable[..., Any]
    args: str
    metrics: Callable[..., Any] | None
    monitor: str
    options: str
    direction: Direction
    batch_size: int
    steps_per_epoch: int
    adaptive: bool

    given_args: ClassVar[Any]
    train: ClassVar[Any]
    evaluation: ClassVar[Any]
    trainer_arguments: ClassVar[Mapping[str, Any]]

    # By hand: `trainer` is an argument, and the method that every task has.
    def __init__(
        self,
        *,
        model: Callable[..., Any],
        train: Any,
        evaluation: Any,
        args: Any = None,
        metrics: Callable[..., Any] | None = None,
        monitor: str = "eval_loss",
        trainer: Mapping[str, Any] | None = None,
        direction: str | None = None,
        steps_per_epoch: int | None = None,
        adaptive: bool | None = None,
    ) -> None:
        _check_model(model)
        monitor = monitor if monitor.startswith("eval_") else f"eval_{monitor}"
        if monitor != "eval_loss" and metrics is None:
            raise ValueError(
                f"monitor={monitor!r} is not known without metrics=, a function that returns it"
            )
        self._set(model=model, given_args=args, train=train, evaluation=evaluation)
        self._set(
            metrics=metrics, monitor=monitor, direction=checked_direction(direction, monitor)
        )
        self._set(trainer_arguments=_checked_trainer(trainer))
        self._set_factories(model=model, args=args, train=train, evaluation=evaluation)
        arguments = self.arguments({})
        for name in _REFUSED.split():
            if arguments.get(name):
                raise ValueError(
                    f"args[{name!r}] is for several devices, and a worker trains on one: leave it "
                    "out, and start as many workers as there are devices"
                )
        self._set(args=plain(arguments), options=plain(self.trainer_arguments))
        self._set(batch_size=self.accumulated * _per_device(arguments))
        self._set(steps_per_epoch=steps_per_epoch or self._steps(self.batch_size))
        if adaptive is None:
            needed("transformers", extra="transformers")
            from trainers.adapters.transformers_trainer import steps_adaptively

            adaptive = steps_adaptively(self)
        self._set(adaptive=adaptive)

    def arguments(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the TrainingArguments by name, as the user gives them for these parameters."""
        given = self.made("args", self.given_args, params)
        if hasattr(given, "to_dict") and not isinstance(given, Mapping):
            needed("transformers", extra="transformers")
            from trainers.adapters.transformers_fit import changed

            given = changed(given)
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(
                f"args must be a dict of TrainingArguments or these, got {type(given).__name__}"
            )
        return dict(given or {})

    @property
    def accumulated(self) -> int:
        """Batches in one optimizer step."""
        return int(self.arguments({}).get("gradient_accumulation_steps", 1))

    def _sized(self, batch_size: int) -> "TransformersTraining":
        if batch_size < 1 or batch_size % self.accumulated:
            raise ValueError(
                f"batch_size must be a multiple of gradient_accumulation_steps "
                f"({self.accumulated}), whose batches make a step, got {batch_size}"
            )
        other = copy(self)
        other._set(batch_size=batch_size, steps_per_epoch=self._steps_at(batch_size))
        return other

    def _steps_at(self, batch_size: int) -> int:
        if hasattr(self.made("train", self.train, {}), "__len__"):
            return self._steps(batch_size)
        n_samples = self.batch_size * self.steps_per_epoch
        if batch_size > n_samples:
            raise ValueError(f"batch_size must be at most {n_samples}, got {batch_size}")
        return n_samples // batch_size

    def _steps(self, batch_size: int) -> int:
        """Return the optimizer steps of an epoch, as Trainer counts them."""
        train = self.made("train", self.train, {})
        if not hasattr(train, "__len__"):
            raise ValueError("train has no length: say steps_per_epoch=")
        n_samples, per_device = len(train), batch_size // self.accumulated
        drops_last = self.arguments({}).get("dataloader_drop_last", False)
        n = n_samples // per_device if drops_last else math.ceil(n_samples / per_device)
        if n < 1:
            raise DataError(f"train has {n_samples} samples, less than a batch of {per_device}")
        return math.ceil(n / self.accumulated)

    def trainer(self, site: Site) -> Trainer:
        """Return what trains one run at a time at `site`."""
        needed("transformers", extra="transformers")
        from trainers.adapters.transformers_trainer import TransformersTrainer

        return TransformersTrainer(self, site)


def _per_device(arguments: Mapping[str, Any]) -> int:
    size = arguments.get("per_device_train_batch_size", 8)  # Transformers' own default
    if type(size) is not int or size < 1:
        raise ValueError(
            f"per_device_train_batch_size must be a whole number of at least 1, got {size!r}"
        )
    return size


def _checked_trainer(arguments: object) -> dict[str, Any]:
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise ValueError(
            f"trainer must be a dict of arguments of transformers.Trainer, got {arguments!r}"
        )
    for name in arguments:
        if name not in _TRAINER:
            raise ValueError(
                f"trainer[{name!r}] is not one that a study may give; allowed: "
                f"{', '.join(_TRAINER)}"
            )
    return dict(arguments)


def _check_model(model: object) -> None:
    """Raise ValueError for a model that was made already, or is only named."""
    if not callable(model) or (hasattr(model, "state_dict") and not isinstance(model, type)):
        kind = type(model).__name__
        raise ValueError(
            "model must be a function that makes a new model for each run, got "
            f"{model if isinstance(model, str) else kind}: write "
            "model=lambda: AutoModelForSequenceClassification.from_pretrained(...)"
        )
