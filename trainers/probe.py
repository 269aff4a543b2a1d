"""How an optimizer's step answers to the gradient's scale: measured on a stand-in of it."""

import copy
import inspect
import math
import random
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainers.torch_objects import optimizers_of

_SCALES = (2.0**-10, 1.0)
"""The gradients compared. Powers of two, which no precision rounds; the smaller one is of the
order of a net's, and lies below the threshold of an optimizer that clips by itself."""
_MOST_GROWTH = 32.0
"""The geometric middle of a step that does not grow with the gradient (1) and one in proportion to
it (1,024)."""
# RAdam takes plain steps until its sixth, and a lookahead moves the weights every fifth or sixth.
_N_STEPS = 12
_N_READ = 6
_LR = 0.1
# Small against a step of the smaller gradient, so that weight decay does not pass for one; above
# zero, for the trust ratio of LARS and LAMB needs a weight.
_WEIGHT = 2.0**-13


def grows_with_gradient(optimizer: Optimizer) -> bool | None:
    """Return whether the steps of an optimizer grow with the gradient's scale; None: not known.

    Measured on a stand-in with weights and state of its own, made of the optimizer's attributes,
    or else by its class from its options. Optimizer and generators stay as they are; whatever a
    strange optimizer raises means that nothing is known.
    """
    # Without a closure first: one that is called again undoes what a step did to the gradients.
    for make, closure in product((_copied, _made_again), (False, True)):
        try:
            with _generators_kept(optimizer):
                small, large = (
                    _moved(*make(optimizer), scale=scale, with_closure=closure)
                    for scale in _SCALES
                )
        # Code of anybody's runs here, and may raise anything.
        except Exception:
            continue
        if small > 0 and math.isfinite(large / small):
            return large / small > _MOST_GROWTH
    return None


def _moved(
    stand_in: Optimizer, weights: list[Tensor], *, scale: float, with_closure: bool
) -> float:
    """Return how far the first weights go in the later steps under gradients of that scale."""
    places = []
    for number in range(_N_STEPS):
        closure = _closure(weights, scale, number)
        closure()
        _step_of(stand_in)(stand_in, *([closure] if with_closure else []))
        places.append(weights[0].detach().double().clone())
    return float((places[-1] - places[-1 - _N_READ]).norm())


def _closure(weights: list[Tensor], scale: float, number: int) -> Callable[[], Tensor]:
    """Return what sets the gradients of one step, as a step that asks for a closure calls it."""

    def closure() -> Tensor:
        for weight in weights:
            steady = torch.linspace(0.5, 1.5, weight.numel(), device=weight.device)
            # Rolled, so that no two steps have the same gradient, and no sign ever changes.
            weight.grad = scale * steady.roll(number).reshape(weight.shape)
        return torch.tensor(scale, requires_grad=True)

    return closure


def _step_of(optimizer: Optimizer) -> Callable[..., object]:
    """Return the step of an optimizer's class without torch's hooks, which are the user's."""
    step = type(optimizer).step
    hooked = getattr(step, "hooked", False)  # Optimizer._patch_step_function wraps it once
    return step.__wrapped__ if hooked else step  # type: ignore[attr-defined]


def _copied(optimizer: Optimizer) -> tuple[Optimizer, list[Tensor]]:
    """Return a stand-in with the optimizer's attributes and an empty state, and its weights."""
    weights = _weights_of(optimizer)
    memo: dict[int, Any] = {key: weight for key, (_, weight) in weights.items()}
    inner = optimizers_of(optimizer)
    made = [type(one).__new__(type(one)) for one in inner]
    for one, new in zip(inner, made, strict=True):
        memo[id(one)] = new
        memo[id(getattr(one, "state", None))] = defaultdict(dict)
    for one, new in zip(inner, made, strict=True):
        for name, value in vars(one).items():
            if isinstance(value, nn.Module):
                raise TypeError("an optimizer that holds a model is not copied with it")
            if name == "step":  # a scheduler's wrapper around the step of the class
                continue
            is_hooks = name.startswith("_optimizer_") and isinstance(value, OrderedDict)
            new.__dict__[name] = OrderedDict() if is_hooks else copy.deepcopy(value, memo)
        _at_one_rate(new)
    return made[0], _first_of(made[0])


def _made_again(optimizer: Optimizer) -> tuple[Optimizer, list[Tensor]]:
    """Return a new optimizer of the same class with the options of the first group."""
    weights = _weights_of(optimizer)
    group = optimizer.param_groups[0]
    taken = inspect.signature(type(optimizer)).parameters
    options = {**optimizer.defaults, **{k: v for k, v in group.items() if k != "params"}}
    known = {k: v for k, v in options.items() if k in taken and k != "params"}
    params = [weights[id(p)][1] for p in group["params"]]
    made = type(optimizer)(params, **known)
    _at_one_rate(made)
    return made, _first_of(made)


def _weights_of(optimizer: Optimizer) -> dict[int, tuple[Tensor, Tensor]]:
    """Return by id each parameter and a small weight in its place, of as many dimensions."""
    return {
        id(p): (p, nn.Parameter(torch.full((2,) * p.ndim, _WEIGHT, device=p.device)))
        for one in optimizers_of(optimizer)
        for group in one.param_groups
        for p in group["params"]
    }


def _first_of(optimizer: Optimizer) -> list[Tensor]:
    """Keep one weight of each group, and return these: the first group's is the one measured.

    Of most dimensions: LARS and Muon treat vectors in another way.
    """
    kept = []
    for group in optimizer.param_groups:
        group["params"][:] = sorted(group["params"], key=lambda p: -p.ndim)[:1]
        kept += group["params"]
    return kept


def _at_one_rate(optimizer: Optimizer) -> None:
    """Set every group's rate, of which the one at hand may be zero or huge."""
    for group in optimizer.param_groups:
        held = group.get("lr")
        group["lr"] = torch.full_like(held, _LR) if isinstance(held, Tensor) else _LR


@contextmanager
def _generators_kept(optimizer: Optimizer) -> Iterator[None]:
    """Leave the generators of Python and torch as they were."""
    devices = {p.device for group in optimizer.param_groups for p in group["params"]}
    accelerators = [device.index or 0 for device in devices if device.type == "cuda"]
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=accelerators), torch.enable_grad():
            yield
    finally:
        random.setstate(state)
