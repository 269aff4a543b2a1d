"""What a LightningModule and its data are like, read before anything is trained."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.adapters.lightning_fit import Ended, Fit, Look, alone
from trainers.adapters.lightning_parts import listed
from trainers.device import Site
from trainers.groups import is_adaptive

if TYPE_CHECKING:
    from trainers.adapters.lightning import LightningTraining


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
    # So many steps: a scheduler over all of them needs a number where the loader has none.
    limits: dict[str, Any] = {"max_epochs": 1, "max_steps": 10**6, "precision": "32-true"}
    if steps_per_epoch is not None:
        limits["limit_train_batches"] = steps_per_epoch * task.accumulated
    with alone(0, site) as folder:
        fit = Fit(task, site, params or {}, seed=0, folder=folder)
        trainer = fit.made_trainer(fit.callback(Look), judged=False, **limits)
        with suppress(Ended):
            trainer.fit(fit.module, **fit.given)
        return _seen(fit, trainer)


def _seen(fit: Fit, trainer: Any) -> Seen:
    assert fit.loader is not None
    task = fit.task
    n_batches, size = trainer.num_training_batches, fit.loader.batch_size
    steps = None if math.isinf(n_batches) else math.ceil(n_batches / task.accumulated)
    # A fit without them, as in a sweep; which of them a cycle leaves out is told all the same.
    own = type(fit.module).configure_callbacks(fit.module)
    fit.kept([*listed(task.arguments.get("callbacks")), *listed(own)])
    return Seen(
        batch_size=None if size is None else size * task.accumulated,
        steps_per_epoch=steps,
        adaptive=is_adaptive(trainer.optimizers[0]),
        shapes={n: f"{tuple(p.shape)} {p.dtype}" for n, p in fit.module.named_parameters()},
        has_scheduler=fit.has_scheduler,
        left_out=tuple(dict.fromkeys(fit.left_out)),
    )
