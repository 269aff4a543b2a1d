"""The first layers of a net: made to suit small images, or grey ones."""

from collections.abc import Iterator

from torch import nn


def small_stem(model: nn.Module) -> bool:
    """Replace a first 7x7 convolution of stride 2 by a 3x3 one of stride 1, and drop its pooling.

    That is what papers do to a ResNet for CIFAR-10 (He et al. 2015, section 4.2). Returns whether
    the net had such a stem; any other is left as it is.
    """
    found = _stem(model)
    if found is None:
        return False
    (name, first), pool = found
    _put(model, name, _like(first, kernel=3, stride=1, padding=1))
    _put(model, pool, nn.Identity())
    return True


def has_large_stem(model: nn.Module) -> bool:
    """Whether small_stem() would change the net."""
    return _stem(model) is not None


def with_channels(model: nn.Module, channels: int) -> bool:
    """Make the first convolution take images of so many channels; False where there is none."""
    first = next(_convolutions(model), None)
    if first is None:
        return False
    name, conv = first
    if conv.in_channels != channels:
        _put(model, name, _like(conv, channels=channels))
    return True


def _stem(model: nn.Module) -> tuple[tuple[str, nn.Conv2d], str] | None:
    """Return the first convolution and the name of the pooling before the next one.

    The order is that in which the net's author registered them: ResNet, ResNeXt, DenseNet and
    GoogLeNet of torchvision, and the ResNets of timm.
    """
    first: tuple[str, nn.Conv2d] | None = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            if first is not None:
                return None
            if module.kernel_size != (7, 7) or module.stride != (2, 2):
                return None
            first = name, module
        elif isinstance(module, nn.MaxPool2d) and first is not None:
            return (first, name) if module.stride in (2, (2, 2)) else None
    return None


def _convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    return ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))


def _like(
    conv: nn.Conv2d,
    *,
    channels: int | None = None,
    kernel: int | None = None,
    stride: int | None = None,
    padding: int | None = None,
) -> nn.Conv2d:
    """Return a new convolution with these in place of what the other one has."""
    groups = conv.groups if channels in (None, conv.in_channels) else 1
    return nn.Conv2d(
        conv.in_channels if channels is None else channels,
        conv.out_channels,
        conv.kernel_size if kernel is None else kernel,  # type: ignore[arg-type]
        stride=conv.stride if stride is None else stride,  # type: ignore[arg-type]
        padding=conv.padding if padding is None else padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        groups=groups,
        bias=conv.bias is not None,
    )


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
