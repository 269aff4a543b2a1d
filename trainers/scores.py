"""The scores that are known by name, over a whole split: batch by batch, the logits never kept."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.errors import TaskError

_PADDING = -100
"""Targets that count nowhere: torch's ignore_index of cross_entropy, and what Transformers pads
with."""
_LABELS = ("labels", "label", "target", "targets")
_OWN = "write a score(model, loader) of your own"


class Metric(Protocol):
    """Sums over batches of logits (M, C) and class numbers (M,); of a yes or no (M, 1)."""

    def add(self, logits: Tensor, targets: Tensor) -> None: ...
    def value(self) -> float: ...


class Accuracy:
    """The share of targets that have the greatest logit; of a yes or no, a logit above 0."""

    def __init__(self) -> None:
        self.n_right: Tensor | float = 0.0
        self.n = 0

    def add(self, logits: Tensor, targets: Tensor) -> None:
        self.n_right = self.n_right + (_chosen(logits) == targets).sum()
        self.n += len(targets)

    def value(self) -> float:
        return float(self.n_right) / self.n


class CrossEntropy:
    """The mean of torch's cross_entropy; of a yes or no, of its binary one with logits."""

    def __init__(self) -> None:
        self.loss: Tensor | float = 0.0
        self.n = 0

    def add(self, logits: Tensor, targets: Tensor) -> None:
        if logits.shape[1] == 1:
            wanted = targets.to(logits.dtype)
            loss = functional.binary_cross_entropy_with_logits(
                logits[:, 0], wanted, reduction="sum"
            )
        else:
            loss = functional.cross_entropy(logits, targets, reduction="sum")
        self.loss = self.loss + loss.double()
        self.n += len(targets)

    def value(self) -> float:
        return float(self.loss) / self.n


class MacroF1:
    """The mean of F1 over the classes that occur in targets or predictions.

    2 TP / (2 TP + FP + FN), as sklearn.metrics.f1_score(average="macro").
    """

    def __init__(self) -> None:
        self.counts: Tensor | None = None

    def add(self, logits: Tensor, targets: Tensor) -> None:
        n = max(2, logits.shape[1])
        chosen = _chosen(logits)
        right = chosen[chosen == targets]
        counted = torch.stack([torch.bincount(x, minlength=n) for x in (right, chosen, targets)])
        self.counts = counted if self.counts is None else self.counts + counted

    def value(self) -> float:
        assert self.counts is not None
        right, chosen, wanted = self.counts.double()
        met = chosen + wanted > 0
        return float((2 * right[met] / (chosen + wanted)[met]).mean())


_BY_CLASS: Mapping[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "cross-entropy": CrossEntropy,
    "macro F1": MacroF1,
}


def score(metric: str, model: nn.Module, batches: Iterable[Any]) -> float:
    """Return the score of that name over `batches`, as trainers.scored names them.

    Inputs and targets: the last of a tuple or list is the target, the first goes to the model
    (all but the last, where there are more); of a dict `labels` (or `label`, `target`) is the
    target, and the rest goes to the model by name. The model returns a tensor, or has it as
    `.logits` or ["logits"]. Raises TaskError for batches and outputs of another form.
    """
    if metric == "mean squared error":
        return _mean_squared_error(model, batches)
    layouts = {each: _BY_CLASS[metric]() for each in ("classes second", "classes last")}
    n = 0
    for batch in batches:
        inputs, targets = _parts(batch)
        logits = _logits(_called(model, inputs))
        views = _views(logits, targets)
        # A tagger's (N, L, C) looks like (N, C, L) where a batch is as long as there are classes:
        # the layout is the one that fits all batches.
        layouts = {each: kept for each, kept in layouts.items() if each in views}
        if not layouts:
            raise _unfit(metric, logits, targets)
        for each, kept in layouts.items():
            flat, wanted = views[each]
            counted = wanted != _PADDING
            kept.add(flat[counted].float(), wanted[counted].long())
        n += 1
    if not n:
        raise TaskError("the split to be scored gives no batch")
    return next(iter(layouts.values())).value()


def _mean_squared_error(model: nn.Module, batches: Iterable[Any]) -> float:
    total: Tensor | float = 0.0
    n = 0
    for batch in batches:
        inputs, targets = _parts(batch)
        outputs = _logits(_called(model, inputs))
        if outputs.numel() != targets.numel() or outputs.shape[:1] != targets.shape[:1]:
            raise _unfit("mean squared error", outputs, targets)
        # Flat, for (N, 1) against (N,) would spread to (N, N).
        total = total + (outputs.double().flatten() - targets.double().flatten()).square().sum()
        n += targets.numel()
    if not n:
        raise TaskError("the split to be scored gives no batch")
    return float(total) / n


def _views(logits: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return logits (M, C) and targets (M,) for each way to read the two."""
    shape = tuple(targets.shape)
    if targets.numel() == logits.numel() and tuple(logits.shape) in (shape, (*shape, 1)):
        yes_or_no = logits.ndim == 1 or logits.shape[1:2] == (1,) or not _floats(targets)
        if not yes_or_no and logits.ndim == 2:
            return {}  # several answers to each sample, or shares of classes: not one class
        flat = logits.reshape(-1, 1), targets.reshape(-1)
        wanted = torch.where(flat[1] == _PADDING, _PADDING, (flat[1] > 0.5).long())
        return {"classes second": (flat[0], wanted), "classes last": (flat[0], wanted)}
    if _floats(targets):
        return {}
    views = {}
    if logits.shape[:1] + logits.shape[2:] == targets.shape:
        moved = logits.movedim(1, -1)
        views["classes second"] = (moved.reshape(-1, moved.shape[-1]), targets.reshape(-1))
    if logits.ndim == 3 and logits.shape[:-1] == targets.shape:
        views["classes last"] = (logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
    return views


def _floats(targets: Tensor) -> bool:
    return targets.is_floating_point()


def _chosen(logits: Tensor) -> Tensor:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def _parts(batch: Any) -> tuple[Any, Tensor]:
    """Return what goes to the model, and the target."""
    if isinstance(batch, Mapping):
        name = next((name for name in _LABELS if name in batch), None)
        if name is None:
            raise TaskError(
                f"a score by name finds no target in a batch of {', '.join(map(repr, batch))}; it "
                f"looks for {', '.join(map(repr, _LABELS))}: {_OWN}"
            )
        named = {key: value for key, value in batch.items() if key != name}
        return named, torch.as_tensor(batch[name])
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        *inputs, target = batch
        if isinstance(target, Tensor):
            return tuple(inputs), target
    raise TaskError(
        "a score by name takes batches of (input, target), or dicts with labels, got "
        f"{type(batch).__name__}: {_OWN}"
    )


def _called(model: nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def _logits(outputs: Any) -> Tensor:
    if isinstance(outputs, Mapping) and "logits" in outputs:
        outputs = outputs["logits"]
    outputs = getattr(outputs, "logits", outputs)
    if not isinstance(outputs, Tensor):
        raise TaskError(
            "a score by name takes the model's output as a tensor, or its .logits, got "
            f"{type(outputs).__name__}: {_OWN}"
        )
    return outputs


def _unfit(metric: str, outputs: Tensor, targets: Tensor) -> TaskError:
    kind = "numbers" if _floats(targets) else "classes"
    return TaskError(
        f"{metric}: outputs of shape {tuple(outputs.shape)} do not fit targets of shape "
        f"{tuple(targets.shape)} ({kind}); {_OWN}"
    )
