"""Any optimizer of torch.optim by its name, for a Task."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainers.errors import TaskError
from trainers.groups import KINDS
from trainers.task import SGD, AdamW, ImageOptimizer, decay_groups

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

_REFUSED = {
    "LBFGS": "its step needs a closure, and a cycle takes one loss a step",
    "Rprop": "it takes its rate at the first step only",
    "SparseAdam": "it takes sparse gradients alone",
    "Muon": "it takes matrices alone, and nets have other parameters",
}
NAMES = tuple(sorted(name for name in KINDS if name not in _REFUSED))
"""The optimizers that a cycle drives, as torch.optim calls them."""
_BETAS = dict.fromkeys(("Adam", "AdamW", "Adamax", "NAdam", "RAdam"), (0.9, 0.999))
"""torch's own defaults, of those that have betas."""
_MOMENTUM = frozenset({"SGD", "RMSprop"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchOptimizer:
    """The class `name` of torch.optim with torch's own defaults, but for what `options` say.

    Weight decay is on matrices only, as with SGD and AdamW of trainers.task; the plan sets the
    rate.
    """

    name: str
    weight_decay: float = 0.0
    # A dict has no hash, and studies have one.
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            why = _REFUSED.get(self.name)
            got = f"got {self.name!r}" if why is None else f"got {self.name}: {why}"
            raise ValueError(f"optimizer must be one of {', '.join(NAMES)}, {got}")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(
                f"weight_decay must be a number of at least 0, got {self.weight_decay}"
            )
        if "lr" in self.options:
            raise ValueError("lr is what the study searches: leave it out of the optimizer")

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer's step does not grow with the gradient."""
        return KINDS[self.name]

    def build(self, model: "nn.Module") -> "Optimizer":
        """Return the optimizer over `model`; raise TaskError where torch refuses an option."""
        import torch

        groups, options = decay_groups(model, self.weight_decay), dict(self.options)
        try:
            made: Optimizer = getattr(torch.optim, self.name)(groups, lr=1.0, **options)
        except (TypeError, ValueError) as error:
            raise TaskError(f"optimizer {self.name}: {error}") from error
        return made


def optimizer_named(
    name: str,
    *,
    weight_decay: float | None = None,
    momentum: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> ImageOptimizer:
    """Return torch's optimizer of that name, in upper or lower case; torch is not imported.

    Defaults are torch's own, but for SGD's, which are trainers.task.SGD's. `momentum` is beta1 of
    what has betas. Raises ValueError for a name that torch does not have, and for a momentum
    where there is none.
    """
    called = _called(name)
    given = dict(options or {})
    if momentum is not None:
        given |= _momentum_of(called, momentum, given)
    decay: dict[str, Any] = {} if weight_decay is None else {"weight_decay": weight_decay}
    if called == "SGD" and given.keys() <= {"momentum", "nesterov"}:
        # Nesterov's needs a momentum (torch.optim.SGD).
        given.setdefault("nesterov", given.get("momentum", SGD().momentum) > 0)
        return SGD(**decay, **given)
    if called == "SGD":
        given = {"momentum": 0.9, "nesterov": given.get("momentum", 0.9) > 0, **given}
        decay = {"weight_decay": SGD().weight_decay, **decay}
    elif called == "AdamW":
        if given.keys() <= {"betas"}:
            return AdamW(**decay, **given)
        decay = {"weight_decay": AdamW().weight_decay, **decay}
    return TorchOptimizer(name=called, **decay, options=given)


def has_momentum(optimizer: ImageOptimizer) -> bool:
    """Whether the cycle moves a momentum of this optimizer, or beta1."""
    name = optimizer.name if isinstance(optimizer, TorchOptimizer) else type(optimizer).__name__
    return name in _BETAS or name in _MOMENTUM


def _called(name: str) -> str:
    known = {each.lower(): each for each in KINDS}
    if name.lower() in known:
        return known[name.lower()]
    near = difflib.get_close_matches(name.lower(), known, n=2)
    meant = f"; did you mean {' or '.join(known[each] for each in near)}?" if near else ""
    raise ValueError(f"optimizer must be one of {', '.join(NAMES)}, got {name!r}{meant}")


def _momentum_of(name: str, momentum: float, given: Mapping[str, Any]) -> dict[str, Any]:
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
    if name in _BETAS:
        _, *others = given.get("betas", _BETAS[name])
        return {"betas": (momentum, *others)}
    if name in _MOMENTUM:
        return {"momentum": momentum}
    raise ValueError(f"momentum: {name} has none; leave it out")
