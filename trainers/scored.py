"""What a training is judged by: metric, direction, and what a broken cycle is worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Scored:
    """A task's metric. A task that has one offers it as `scored`, and a study follows it.

    `diverged_value` is what a cycle that broke is worth; None: the untrained model's score, which
    the study measures when it is made, by `untrained_score()` of the task's trainer.
    """

    metric: str
    direction: Literal["maximize", "minimize"]
    diverged_value: float | None = None


NAMED: Mapping[str, Scored] = {
    each.metric: each
    for each in (
        Scored("accuracy", "maximize", 0.0),
        Scored("macro F1", "maximize", 0.0),
        Scored("cross-entropy", "minimize"),
        Scored("mean squared error", "minimize"),
        Scored("loss", "minimize"),
    )
}
"""The metrics that are known by name; `loss` is the mean of the training's own loss."""

_ALIASES = {
    "acc": "accuracy",
    "f1 macro": "macro F1",
    "log loss": "cross-entropy",
    "mse": "mean squared error",
}


def named(name: str) -> Scored:
    """Return the metric of that name, whatever its case and hyphens; raise ValueError for none."""
    plain = _plain(name)
    plain = _plain(_ALIASES.get(plain, plain))
    for metric, scored in NAMED.items():
        if _plain(metric) == plain:
            return scored
    raise ValueError(
        f"score must be one of {', '.join(map(repr, NAMED))}, or a function "
        f"score(model, loader) of your own, got {name!r}"
    )


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())
