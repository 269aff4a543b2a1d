"""Batched augmentation of uint8 images: reflection-padded random crop and horizontal flip."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainers.errors import DataError

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


def gather_augmented(
    images: "Tensor", index: "Tensor", augment: Augment, *, generator: "Generator"
) -> "Tensor":
    """Return images[index], each shifted and flipped at random, in one indexing operation.

    uint8, (N, H, W, C) and (B,) to (B, H, W, C). The draws come from `generator` (CPU), so they
    are the same on every device. Raises DataError where `crop` exceeds what can be reflected.
    """
    import torch

    device, size = images.device, len(index)
    height, width = images.shape[1:3]
    # torch's reflect padding has this limit, too: a row further out has no mirror image.
    if augment.crop >= min(height, width):
        raise DataError(
            f"crop must be smaller than the images, {height} x {width} pixels, got {augment.crop}"
        )
    shift = torch.randint(-augment.crop, augment.crop + 1, (2, size, 1), generator=generator)
    rows = _reflect(torch.arange(height) + shift[0], height)
    columns = _reflect(torch.arange(width) + shift[1], width)
    if augment.flip:
        mirrored = torch.rand((size, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(device), columns.to(device)
    # One gather crops and flips: 18 us of CPU an image, where PIL images through torchvision's
    # transforms took 250 (Zen 4, one thread).
    return images[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def _reflect(positions: "Tensor", size: int) -> "Tensor":
    """Fold positions outside [0, size) back, without repeating the border (torch's 'reflect')."""
    positions = positions.abs()
    return (size - 1) - (positions - (size - 1)).abs()
