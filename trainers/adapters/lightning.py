"""A LightningModule as a study's task: its own Trainer trains it, under the rates of our plan."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from trainers.adapters.adapter import Adapter
from trainers.adapters.extras import needed
from trainers.adapters.names import Direction, checked_direction
from trainers.adapters.told import plain
from trainers.device import Site
from trainers.run import Trainer

_OURS = {
    **dict.fromkeys(
        ("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "fast_dev_run"),
        "the study's epochs decide how long a cycle is",
    ),
    **dict.fromkeys(
        ("accelerator", "devices", "strategy", "num_nodes", "use_distributed_sampler"),
        "a worker trains on one device, and --device says which",
    ),
    **dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "default_root_dir"),
        "the study keeps results and checkpoints, and shows the progress",
    ),
    **dict.fromkeys(
        ("check_val_every_n_epoch", "val_check_interval", "num_sanity_val_steps"),
        "a cycle is validated at the end of each epoch",
    ),
    **dict.fromkeys(
        ("overfit_batches", "barebones", "reload_dataloaders_every_n_epochs", "model_registry"),
        "a study trains on the same data in each epoch",
    ),
}
"""Arguments of Lightning's Trainer that are not the user's here, with the reason."""


@dataclass(frozen=True, kw_only=True, init=False)
class LightningTraining(Adapter):
    """A LightningModule, trained by Lightning's own Trainer.

    `module` makes a new module for each run; `data` a LightningDataModule, or a dict of loaders
    for "train", "validation" and "test". Both are told the searched parameters that their
    signatures name, and each of these has a default: what the baseline has. `data` may also be the
    object itself, or None where the module has the loaders.

    `monitor` is the metric that validation_step logs; on the test split it is the same one, logged
    by validation_step. `direction` says what is better where the name does not.

    `trainer` holds arguments of lightning.Trainer, such as precision, accumulate_grad_batches,
    gradient_clip_val, limit_train_batches and callbacks. The scheduler of configure_optimizers is
    replaced by the plan's.

    `batch_size` counts all samples of an optimizer step. It, `steps_per_epoch` and `adaptive` (the
    optimizer's step does not grow with the gradient) are read from module and loader when the
    study is loaded; a loader without a length needs the first two.
    """

    # The fields are stored as the study's protocol, so data and objects are none of them.
    module: Callable[..., Any]
    monitor: str
    options: str
    direction: Direction
    batch_size: int
    steps_per_epoch: int
    adaptive: bool

    data: ClassVar[Any]
    arguments: ClassVar[Mapping[str, Any]]

    # By hand: `trainer` is an argument, and the method that every task has.
    def __init__(
        self,
        *,
        module: Callable[..., Any],
        monitor: str,
        data: Any = None,
        trainer: Mapping[str, Any] | None = None,
        direction: str | None = None,
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        adaptive: bool | None = None,
    ) -> None:
        _check_module(module)
        arguments = _checked(trainer)
        self._set(module=module, data=data, monitor=monitor, arguments=arguments)
        self._set(options=plain(arguments), direction=checked_direction(direction, monitor))
        self._set_factories(module=module, data=data)
        if batch_size is None or steps_per_epoch is None or adaptive is None:
            needed("lightning", extra="lightning")
            from trainers.adapters.lightning_look import look

            seen = look(self, steps_per_epoch=steps_per_epoch)
            batch_size = seen.batch_size if batch_size is None else batch_size
            steps_per_epoch = seen.steps_per_epoch
            adaptive = seen.adaptive if adaptive is None else adaptive
        if batch_size is None or steps_per_epoch is None:
            raise ValueError(
                "the train loader has no length or no batch size to read: say batch_size=, the "
                "samples of an optimizer step, and steps_per_epoch="
            )
        self._set(batch_size=batch_size, steps_per_epoch=steps_per_epoch, adaptive=adaptive)

    @property
    def accumulated(self) -> int:
        """Batches of the loader in one optimizer step."""
        return int(self.arguments.get("accumulate_grad_batches", 1))

    def _sized(self, batch_size: int) -> "LightningTraining":
        if "data" not in self.factories or "batch_size" not in self.factories["data"].defaults:
            raise ValueError(
                "batch_size cannot be searched: data must be a function that takes it, as in "
                "data=lambda batch_size=32: MyData(batch_size)"
            )
        if batch_size < 1 or batch_size % self.accumulated:
            raise ValueError(
                f"batch_size must be a multiple of accumulate_grad_batches ({self.accumulated}), "
                f"whose batches make a step, got {batch_size}"
            )
        from trainers.adapters.lightning_look import look

        seen = look(self, params={"batch_size": batch_size})
        if seen.batch_size != batch_size or seen.steps_per_epoch is None:
            raise ValueError(
                f"batch_size={batch_size} gave a step of {seen.batch_size} samples: data must "
                "make its loader of the batch_size that it is told"
            )
        other = copy(self)
        other._set(batch_size=batch_size, steps_per_epoch=seen.steps_per_epoch)
        return other

    def trainer(self, site: Site) -> Trainer:
        """Return what trains one run at a time at `site`."""
        needed("lightning", extra="lightning")
        from trainers.adapters.lightning_trainer import LightningTrainer

        return LightningTrainer(self, site)


def _checked(arguments: object) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer; ValueError for one that is not the user's."""
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise ValueError(
            f"trainer must be a dict of arguments of lightning.Trainer, got {arguments!r}"
        )
    for name in arguments:
        if name in _OURS:
            raise ValueError(f"trainer[{name!r}] is not for a study to say: {_OURS[name]}")
    accumulated = arguments.get("accumulate_grad_batches", 1)
    if type(accumulated) is not int or accumulated < 1:
        raise ValueError(
            "trainer['accumulate_grad_batches'] must be a whole number of at least 1, got "
            f"{accumulated!r}"
        )
    return dict(arguments)


def _check_module(module: object) -> None:
    """Raise ValueError for a module that was made already."""
    if not callable(module) or (hasattr(module, "training_step") and not isinstance(module, type)):
        kind = type(module).__name__
        raise ValueError(
            f"module must be a function that makes a new module for each run, got {kind}: write "
            f"module=lambda: {kind}(...)"
        )
