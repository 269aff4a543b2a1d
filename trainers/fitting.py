"""What a named model needs to fit the images of a folder: tried on two images before a study."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainers.errors import TaskError
from trainers.named_model import NamedModel, named_callable, one_line
from trainers.stems import has_large_stem

CLASSES = (
    *("num_classes", "n_classes", "classes", "num_labels", "n_labels", "nb_classes", "nclass"),
    *("num_class", "n_class", "class_num", "class_count", "number_of_classes", "nclasses"),
    *("num_outputs", "n_outputs", "outputs", "out_features", "out_dim", "output_dim", "out_size"),
    *("output_size", "n_out", "num_out", "out_channels", "c_out"),
)
"""Parameters that mean the number of classes, as torchvision, timm, Transformers, fastai and
people's own nets call them; the first one that a callable names is taken."""
CHANNELS = (
    *("in_channels", "in_chans", "num_channels", "n_channels", "input_channels", "channels"),
    *("in_ch", "c_in", "n_in", "channels_in", "in_features"),
)
SIZES = ("image_size", "img_size", "input_size", "image_dim", "resolution")
SMALL = 64
"""Below so many pixels a net that halves five times ends with a map of one pixel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """What a model is given, `size` x `size` pixels of so many channels, and how many classes."""

    size: int
    channels: Literal[1, 3]
    n_classes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A model that takes the images, and in words what was done for that."""

    model: NamedModel
    remarks: tuple[str, ...]


def fitted(where: str, given: Mapping[str, Any], images: Images, *, stem: str | None) -> Fitted:
    """Return the named model with what it needs filled in; `given` arguments stay as they are.

    Classes, channels and size go to the parameters that its signature names for them. Where it
    has **kwargs, the names of torchvision and timm are tried. `stem`: own, small, or None for
    small where the images are. Raises TaskError, with the way on, for a model that does not fit.
    """
    call = named_callable(where)
    arguments = dict(given)
    arguments |= _taken(call, CLASSES, images.n_classes, arguments)
    if images.channels == 1:
        arguments |= _taken(call, CHANNELS, 1, arguments)
    arguments |= _named(call, SIZES, images.size, arguments)
    model = NamedModel(where=where, arguments=arguments)
    with torch.random.fork_rng(devices=[]):
        if _takes_any(call):
            model = _tried_names(model, given, images)
        model = _with_stem(model, images, stem)
        remarks = tuple(_checked(model, images))
    _net.cache_clear()
    return Fitted(model=model, remarks=remarks)


# A net of 100 million weights takes a second to make.
@lru_cache(maxsize=1)
def _net(model: NamedModel) -> nn.Module:
    return model()


def _taken(
    call: Callable[..., Any], names: tuple[str, ...], value: int, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the first of the names that the call has, unless one of them is given."""
    return {} if any(name in given for name in names) else _named(call, names, value, given)


def _named(
    call: Callable[..., Any], names: tuple[str, ...], value: int, given: Mapping[str, Any]
) -> dict[str, Any]:
    parameters = _parameters(call)
    return next(({n: value} for n in names if n in parameters and n not in given), {})


def _parameters(call: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(call).parameters
    except (ValueError, TypeError):
        return {}


def _takes_any(call: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in _parameters(call).values())


def _tried_names(model: NamedModel, given: Mapping[str, Any], images: Images) -> NamedModel:
    """Return the model with those arguments of torchvision's and timm's that its **kwargs take."""
    if not any(name in model.arguments for name in CLASSES):
        model = _if_built(model, {"num_classes": images.n_classes})
    if images.channels == 1 and not any(name in model.arguments for name in CHANNELS):
        model = _if_built(model, {"in_chans": 1})
    if _why_not_taken(model, images) is not None and not any(n in given for n in SIZES):
        for name in ("image_size", "img_size"):
            changed = _if_built(model, {name: images.size})
            if changed is not model and _why_not_taken(changed, images) is None:
                return changed
    return model


def _if_built(model: NamedModel, more: Mapping[str, Any]) -> NamedModel:
    """Return the model with more arguments, or as it is where it does not know their names."""
    changed = replace(model, arguments={**model.arguments, **more})
    try:
        _net(changed)
    except TaskError:  # whatever is wrong without it is told later
        return model
    return changed


def _with_stem(model: NamedModel, images: Images, stem: str | None) -> NamedModel:
    net = _net(model)
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    if images.channels == 1 and first is not None and first.in_channels != 1:
        model = replace(model, channels=1)
    if stem == "own" or (stem is None and images.size >= SMALL) or not has_large_stem(net):
        return model
    return replace(model, stem="small")


def _checked(model: NamedModel, images: Images) -> list[str]:
    """Return what there is to say of a model that takes the images; raise TaskError for others."""
    net, told = _net(model), _told(model)
    why = _why_not_taken(model, images)
    if why is not None:
        raise TaskError(
            f"{told} does not take images of {_shape(images)}: {why}; {_way_on(model, images)}"
        )
    output = _output(net.eval(), images)
    if not isinstance(output, Tensor) or output.ndim != 2:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise TaskError(
            f"{told} must give (images, classes), got {got}: for other outputs and losses "
            "`onecycle new mine.py` writes a study file"
        )
    if output.shape[1] < images.n_classes:
        raise TaskError(
            f"{told} gives {output.shape[1]} outputs, and the folder has {images.n_classes} "
            f"classes: tell it by the parameter that means them, --model-arg "
            f"NAME={images.n_classes}"
        )
    if not isinstance(_output(net.train(), images), Tensor):
        raise TaskError(
            f"{told} gives more than one output while it trains: --model-arg aux_logits=False "
            "where it has such a parameter, or `onecycle new mine.py` for a loss of your own"
        )
    remarks = [f"model {told}"]
    if model.stem == "small":
        remarks.append(
            f"its first 7x7 convolution of stride 2 and the pooling after it are made 3x3 of "
            f"stride 1 without pooling, for images of {images.size} x {images.size} pixels; "
            "--stem own leaves them"
        )
    elif images.size < SMALL and _least_map(net, images) == 1:
        remarks.append(
            f"it brings images of {images.size} x {images.size} pixels down to a single one; "
            f"--size {SMALL} leaves it more"
        )
    if model.channels is not None:
        remarks.append(f"its first convolution is made for {model.channels} channel")
    if output.shape[1] > images.n_classes:
        remarks.append(
            f"it gives {output.shape[1]} outputs for {images.n_classes} classes; the others are "
            "never a target"
        )
    return remarks


def _way_on(model: NamedModel, images: Images) -> str:
    """Return what makes a model take the images, or may."""
    if images.channels == 1 and _why_not_taken(model, replace(images, channels=3)) is None:
        return "it takes colour: --channels 3 gives it the grey three times"
    size = max(SMALL, 2 * images.size) if images.size < 224 else 224
    return (
        f"another --size may do, as --size {size}, or an argument of the model: "
        "--model-arg NAME=VALUE"
    )


def _told(model: NamedModel) -> str:
    told = ", ".join(f"{name}={value!r}" for name, value in model.arguments.items())
    return f"{model.where}({told})"


def _shape(images: Images) -> str:
    return f"{images.channels} x {images.size} x {images.size}"


def _batch(images: Images) -> Tensor:
    return torch.zeros(2, images.channels, images.size, images.size)


@torch.no_grad()
def _output(net: nn.Module, images: Images) -> Any:
    return net(_batch(images))


def _why_not_taken(model: NamedModel, images: Images) -> str | None:
    """Return why the model cannot train on the images; None where it can."""
    net = _net(model)
    try:
        _output(net.eval(), images)
        _output(net.train(), images)
    except Exception as error:  # whatever the user's own code raises
        return one_line(error).partition(" (/")[0]
    return None


def _least_map(net: nn.Module, images: Images) -> int | None:
    """Return the side of the smallest map that a batch norm sees; None where there is none."""
    sides = list[int]()

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        sides.append(min(output.shape[-2:]))

    hooks = [m.register_forward_hook(note) for m in net.modules() if _is_norm(m)]
    _output(net.eval(), images)
    for hook in hooks:
        hook.remove()
    return min(sides, default=None)


def _is_norm(module: nn.Module) -> bool:
    # Squeeze-and-excitation has convolutions on a single pixel, and no norm there.
    return isinstance(module, nn.BatchNorm2d)
