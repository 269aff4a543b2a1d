"""Which images a study trains on, and how they are split into train, validation and test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from trainers.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from trainers.images.cache import CachedArrays, Source

# Written out, so that a study file is checked without importing scikit-learn or torchvision.
N_DIGITS = 1797
N_CIFAR10_TRAIN = 50_000
# Not the study's seed: all studies share one split, so their scores compare. Another number would
# mix the train and validation images of studies that are stored.
PERMUTATION_SEED = 20180326


@dataclass(frozen=True, kw_only=True, slots=True)
class Digits:
    """scikit-learn's digits: 1797 grey images of 8 x 8; what these numbers leave over is test."""

    n_train: int
    n_validation: int

    def __post_init__(self) -> None:
        # The digits have no test part of their own: at least one image is left for it.
        _check_counts(self, at_most=N_DIGITS - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cifar10:
    """CIFAR-10: 32 x 32 colour images; both numbers are taken from its 50,000 train images."""

    n_train: int
    n_validation: int

    def __post_init__(self) -> None:
        _check_counts(self, at_most=N_CIFAR10_TRAIN)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolder:
    """Your own `size` x `size` images; both numbers are taken from `train/<class>/*`."""

    size: int
    n_train: int
    n_validation: int

    def __post_init__(self) -> None:
        _check_positive("size", self.size)
        _check_counts(self)


Data = Digits | Cifar10 | ImageFolder


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Splits:
    """The images of one data set, and which are train, validation and test.

    `images` (N, H, W, C) uint8 and `labels` (N,) int64 are the source's train part; `train` and
    `validation` are int64 indices into them. `mean` and `std` (C,) are float32, over the pixel
    values 0 to 255 of the train split only. `checksum` is the sha256 (hex) of the decoded arrays
    and class names. Images and labels are memory-mapped: all processes share them, a write stays
    private to its process.
    """

    images: torch.Tensor
    labels: torch.Tensor
    train: torch.Tensor
    validation: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: tuple[str, ...]
    mean: torch.Tensor
    std: torch.Tensor
    checksum: str


def open_splits(data: Data, *, folder: Path | None, cache: Path) -> Splits:
    """The splits of `data`, the same for everybody; decoded below `cache` at the first call.

    `folder` is where the user keeps the data set: needed by ImageFolder, a download otherwise for
    Cifar10, refused for Digits. Raises DataError when the data cannot be had or is too small.
    """
    import torch

    from trainers.images.cache import cached

    arrays = cached(_source(data, folder, cache), cache)
    n_taken = _n_taken(data, arrays)
    order = _permutation(len(arrays.train_images))
    train, validation, rest = order[: data.n_train], order[data.n_train : n_taken], order[n_taken:]
    images, labels = torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels)
    test_images, test_labels = (
        (images[rest], labels[rest])
        if isinstance(data, Digits)
        else (torch.from_numpy(arrays.test_images), torch.from_numpy(arrays.test_labels))
    )
    mean, std = _mean_and_std(images, train)
    return Splits(
        images=images,
        labels=labels,
        train=train,
        validation=validation,
        test_images=test_images,
        test_labels=test_labels,
        classes=arrays.classes,
        mean=mean,
        std=std,
        checksum=arrays.checksum,
    )


def joined(splits: Splits) -> Splits:
    """Return the same with the validation images among those to train on.

    Validation stays what it was, and so do mean and std: those that the search normalised with.
    """
    import torch

    return replace(splits, train=torch.cat([splits.train, splits.validation]))


class Presence(Enum):
    """How far the data of a study is on its way to the decoded cache."""

    DECODED = "decoded"
    DECODED_LATER = "decoded later"
    DOWNLOADED_LATER = "downloaded later"


def look_for(data: Data, *, folder: Path | None, cache: Path) -> tuple[Presence, str]:
    """Return where `data` is and what the first start will do, in words; nothing is changed.

    Raises DataError as open_splits() does, but files are not read before they are decoded.
    """
    from trainers.images.cache import is_cached
    from trainers.images.cifar10 import Cifar10Source

    source = _source(data, folder, cache)
    if is_cached(source, cache):
        return Presence.DECODED, f"{source.text}: decoded in {cache}"
    if isinstance(source, Cifar10Source) and source.download and not source.is_here():
        return Presence.DOWNLOADED_LATER, (
            "CIFAR-10 is not here yet: the first start of a study that needs it downloads 170 MB "
            f"to {source.root}; without a network give --data FOLDER"
        )
    return Presence.DECODED_LATER, f"{source.text}: will be decoded at the first start"


def _source(data: Data, folder: Path | None, cache: Path) -> Source:
    from trainers.images.cifar10 import cifar10_source
    from trainers.images.sources import DigitsSource, tree_source

    if isinstance(data, Digits):
        if folder is not None:
            raise DataError(f"--data {folder}: digits come with scikit-learn; leave --data out")
        return DigitsSource()
    if isinstance(data, Cifar10):
        return cifar10_source(folder, cache)
    return tree_source(folder, data.size)


def _check_positive(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def _check_counts(data: Data, at_most: int | None = None) -> None:
    _check_positive("n_train", data.n_train)
    _check_positive("n_validation", data.n_validation)
    total = data.n_train + data.n_validation
    if at_most is not None and total > at_most:
        raise ValueError(
            f"n_train + n_validation must be at most {at_most}, "
            f"got {data.n_train} + {data.n_validation} = {total}"
        )


def _n_taken(data: Data, arrays: CachedArrays) -> int:
    """How many images of the train part both splits take; DataError when it has fewer."""
    n_taken, n_images = data.n_train + data.n_validation, len(arrays.train_images)
    if n_taken > n_images:
        raise DataError(
            f"n_train={data.n_train} and n_validation={data.n_validation} need {n_taken} images, "
            f"but the train part of the data holds {n_images}"
        )
    return n_taken


def _permutation(n: int) -> torch.Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.random.default_rng(PERMUTATION_SEED).permutation(n))


def _mean_and_std(images: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Per channel, from exact counts of the 256 pixel values; std over all pixels (divisor n)."""
    import torch

    values = torch.arange(256, dtype=torch.float64)
    # Whole numbers: exact, and the same in whatever order the pixels are counted.
    counts = torch.zeros(images.shape[-1], 256, dtype=torch.int64)
    # In parts: indexing copies, and the images may be larger than memory.
    for start in range(0, len(index), 1024):
        pixels = images[index[start : start + 1024]]
        for channel, count in enumerate(counts):
            count += pixels[..., channel].flatten().bincount(minlength=256)
    shares = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = shares @ values
    std = (shares * (values - mean[:, None]).square()).sum(1).sqrt()
    return mean.float(), std.float()
