"""Augmentation of uint8 images: random crop and flip in one batch, or any transform by image."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainers.errors import DataError, TaskError

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Shift each image by up to `crop` pixels (reflected at the border); `flip` mirrors half."""

    crop: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ValueError(f"crop must be at least 0 pixels, got {self.crop}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EachImage:
    """A transform that is called with one uint8 image (C, H, W) after the other.

    Those of torchvision.transforms.v2 draw once for whatever they are given: a batch would be
    flipped as a whole, or not at all.
    """

    # Compared and stored as text: two modules made from the same file are never equal.
    transform: Callable[[Any], Any] = field(compare=False, repr=False)
    text: str = ""

    def __post_init__(self) -> None:
        if not self.text:
            object.__setattr__(self, "text", _text_of(self.transform))


def _text_of(transform: Callable[[Any], Any]) -> str:
    """Return a transform in words that are the same in every process: without addresses."""
    if hasattr(transform, "__qualname__"):
        return str(transform.__qualname__)
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(transform).split()))


def transformed(images: "Tensor", augment: EachImage, *, seed: int) -> "Tensor":
    """Return every image of uint8 (B, H, W, C) transformed, in the same shape.

    What the transform draws from torch, numpy and random is a function of `seed`; their own
    states are put back. Raises TaskError for what is no uint8 image of the same shape.
    """
    import random

    import numpy as np
    import torch

    kept = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            out = [_checked(augment, image) for image in images.permute(0, 3, 1, 2)]
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
    return torch.stack(out).permute(0, 2, 3, 1)


def _checked(augment: EachImage, image: "Tensor") -> "Tensor":
    import torch

    made = augment.transform(image)
    if isinstance(made, torch.Tensor) and made.dtype == image.dtype and made.shape == image.shape:
        return made.as_subclass(torch.Tensor)
    if not isinstance(made, torch.Tensor):
        got = f"a {type(made).__name__}"
    elif made.dtype != image.dtype:
        got = f"{made.dtype} numbers; leave ToDtype and Normalize out, the loop normalises"
    else:
        got = f"{tuple(made.shape)}; evaluation is at the size of the images"
    raise TaskError(
        f"augment must give a uint8 image of the shape that it got, {tuple(image.shape)}, "
        f"got {got}"
    )


def gather_augmented(
    images: "Tensor", index: "Tensor", augment: Augment, *, generator: "Generator"
) -> "Tensor":
    """Return images[index], each shifted and flipped at random, in one indexing operation.

    uint8, (N, H, W, C) and (B,) to (B, H, W, C). `generator` is one of their device: drawn on the
    CPU, every step would have to wait until a GPU has taken the numbers. So the draws of one seed
    differ between kinds of devices. Raises DataError where `crop` exceeds what can be reflected.
    """
    import torch

    device, size = images.device, len(index)
    height, width = images.shape[1:3]
    # torch's reflect padding has this limit, too: a row further out has no mirror image.
    if augment.crop >= min(height, width):
        raise DataError(
            f"crop must be smaller than the images, {height} x {width} pixels, got {augment.crop}"
        )
    low, high = -augment.crop, augment.crop + 1
    shift = torch.randint(low, high, (2, size, 1), generator=generator, device=device)
    rows = _reflect(torch.arange(height, device=device) + shift[0], height)
    columns = _reflect(torch.arange(width, device=device) + shift[1], width)
    if augment.flip:
        mirrored = torch.rand((size, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    # One gather crops and flips: 18 us of CPU an image, where PIL images through torchvision's
    # transforms took 250 (Zen 4, one thread).
    return images[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def _reflect(positions: "Tensor", size: int) -> "Tensor":
    """Fold positions outside [0, size) back, without repeating the border (torch's 'reflect')."""
    positions = positions.abs()
    return (size - 1) - (positions - (size - 1)).abs()
