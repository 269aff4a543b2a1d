"""What a range test is given: refused in one line, before anything is changed, where it cannot."""

import inspect
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import IterableDataset

from trainers.errors import DataError, ScheduleError, TaskError
from trainers.groups import check_takes_rates, lr_ratios
from trainers.sweeps.untouched import parameters_of
from trainers.torch_objects import optimizers_of, path_to

_FORM = "lambda model, batch: criterion(model(batch[0]), batch[1])"


def check_parts(
    model: nn.Module,
    optimizer: Optimizer,
    loader: Iterable[Any],
    loss_fn: Callable[[nn.Module, Any], Tensor],
) -> None:
    """Refuse what would otherwise be swept in silence, or fail far from its cause."""
    if not isinstance(model, nn.Module):
        raise TaskError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    _check_optimizer(optimizer)
    _check_parameters(model, optimizer)
    _check_loss_fn(loss_fn)
    _check_loader(loader)


def _check_optimizer(optimizer: Optimizer) -> None:
    if not isinstance(optimizer, Optimizer):
        inner = path_to("optimizer", optimizer, lambda part: isinstance(part, Optimizer))
        way = "" if inner is None else f": give the one inside, {inner}"
        kind = type(optimizer).__name__
        raise TaskError(f"optimizer must be a torch.optim.Optimizer, got {kind}{way}")
    for one in optimizers_of(optimizer):
        _check_schedule(one)
        _check_step(one)
    lr_ratios(optimizer)  # which raises where the other groups have nothing to keep a ratio to


def _check_schedule(optimizer: Optimizer) -> None:
    scheduled = any("initial_lr" in group for group in optimizer.param_groups)
    if scheduled or hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        raise ScheduleError(
            "the optimizer has a learning-rate scheduler, and a sweep sets the rates itself: "
            "make the scheduler after the range test, or give an optimizer without one"
        )
    check_takes_rates(optimizer)


def _check_step(optimizer: Optimizer) -> None:
    kind = type(optimizer).__name__
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TaskError(
            f"the step of {kind} needs a closure, and a sweep takes one loss for each step: "
            "give an optimizer whose step needs none, such as SGD or AdamW"
        )
    for value in vars(optimizer).values():
        if isinstance(value, torch.amp.GradScaler) and value.is_enabled():
            raise TaskError(
                f"{kind} has a GradScaler, and a step that it skips would take a rate without "
                "using it: prepare the optimizer without fp16, for bf16 needs none"
            )


def _check_parameters(model: nn.Module, optimizer: Optimizer) -> None:
    lazy = [name for name, p in model.named_parameters() if is_lazy(p)]
    if lazy:
        raise TaskError(
            f"the model has lazy parameters without a shape yet ({lazy[0]}): run one batch "
            "through it, and make the optimizer after that"
        )
    optimized = [p for group in optimizer.param_groups for p in group["params"]]
    own = set(model.parameters())
    if own.isdisjoint(optimized):
        raise TaskError("the optimizer holds none of the model's parameters")
    if not any(p.requires_grad for p in optimized):
        raise TaskError(
            f"the model is frozen: none of the optimizer's {len(optimized)} parameters requires "
            "a gradient; call requires_grad_() on those to train"
        )
    meta = [p for p in parameters_of(model, optimizer) if p.is_meta]
    if meta:
        raise TaskError("the model lies on the device meta, without values: load its weights")


def _check_loss_fn(loss_fn: Callable[..., Any]) -> None:
    if not callable(loss_fn):
        raise TaskError(
            f"loss_fn is called as loss_fn(model, batch), got {type(loss_fn).__name__}"
        )
    criterion = isinstance(loss_fn, nn.Module) and type(loss_fn).__module__.startswith("torch.nn")
    if criterion or getattr(loss_fn, "__module__", None) == "torch.nn.functional":
        name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
        raise TaskError(f"loss_fn is called as loss_fn(model, batch), got {name}; write {_FORM}")
    try:
        signature = inspect.signature(loss_fn)
    except ValueError:  # written in C: nothing is known of it
        return
    try:
        signature.bind(nn.Module, object)
    except TypeError:
        raise TaskError(
            f"loss_fn is called as loss_fn(model, batch), got one that takes {signature}; "
            f"write {_FORM}"
        ) from None


def _check_loader(loader: Iterable[Any]) -> None:
    """Refuse what can be read only once; a map-style data set may keep an iterator unused."""
    if not isinstance(loader, Iterable) and not hasattr(loader, "__getitem__"):
        raise DataError(
            "the loader must be a DataLoader or a list of batches, got "
            f"{type(loader).__name__}, which cannot be read"
        )
    for owner in (loader, getattr(loader, "dataset", None)):
        if hasattr(owner, "__getitem__") and not isinstance(owner, IterableDataset):
            continue
        for name, value in getattr(owner, "__dict__", {}).items():
            once = isinstance(value, Iterator) and not isinstance(value, io.IOBase)
            if once and name != "_iterator":  # a DataLoader's own, of its persistent workers
                raise DataError(
                    f"the loader must be read once per sweep, and {type(owner).__name__}.{name} "
                    f"is a {type(value).__name__}, which can be read only once: make it anew in "
                    "each __iter__"
                )


def loss_of(loss_fn: Callable[[nn.Module, Any], Tensor], model: nn.Module, batch: Any) -> Tensor:
    """Return the loss of a batch; raise TaskError for a loss_fn of another form, or its result."""
    try:
        loss = loss_fn(model, batch)
    except (TypeError, AttributeError, LookupError) as error:
        text = " ".join(str(error).split())
        raise TaskError(
            f"loss_fn(model, batch) raised {type(error).__name__}: {text}; a batch of the loader "
            f"is {_described(batch)}: write such as {_form_for(batch)}"
        ) from error
    check_loss(loss, "loss_fn")
    return loss


def check_loss(loss: object, name: str, *, graded: bool = True) -> None:
    """Raise TaskError for a loss that cannot be trained on; `graded`: with a gradient."""
    hint = _hint(loss, graded=graded)
    if hint is not None:
        shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TaskError(f"{name} must return a tensor of one number, got {shape}: {hint}")


def _hint(loss: object, *, graded: bool) -> str | None:
    """Return what to do about a loss that cannot be trained on, None for one that can."""
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            return "take its mean()"
        if graded and not loss.requires_grad:
            return "it has no gradient; leave out detach(), item() and no_grad()"
        return None
    if isinstance(loss, Mapping):
        names = ", ".join(repr(name) for name in loss)
        return f"return one of its values ({names})"
    if isinstance(loss, Sequence) and not isinstance(loss, str):
        return "return the loss alone"
    if isinstance(getattr(loss, "loss", None), Tensor):
        return "return its .loss"
    if loss is None:
        return "it returns nothing; write return before the loss"
    return "return the tensor itself, without item(), float() or numpy(), which drop its gradient"


def _described(batch: object) -> str:
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} of {', '.join(repr(name) for name in batch)}"
    if isinstance(batch, (list, tuple)):
        kinds = ", ".join(type(part).__name__ for part in batch)
        return f"a {type(batch).__name__} of {len(batch)} ({kinds})"
    return f"a {type(batch).__name__}"


def _form_for(batch: object) -> str:
    if isinstance(batch, Mapping) and len(batch) > 1:
        x, y, *_ = batch
        return f"lambda model, batch: criterion(model(batch[{x!r}]), batch[{y!r}])"
    if isinstance(batch, (list, tuple)) and len(batch) > 1:
        return _FORM
    return "lambda model, batch: model(batch).square().mean()"
