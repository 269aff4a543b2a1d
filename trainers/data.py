"""Which images a study trains on, and how they are split into train, validation and test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainers.errors import DataError

if TYPE_CHECKING:
    import torch

    from trainers.images.cache import CachedArrays, Source
    from trainers.images.sources import TreeSource
    from trainers.images.splitting import Index, Plan


# Written out, so that a study file is checked without importing scikit-learn or torchvision.
N_DIGITS = 1797
N_CIFAR10_TRAIN = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Digits:
    """scikit-learn's digits: 1797 grey images of 8 x 8; what these numbers leave over is test."""

    n_train: int
    n_validation: int

    def __post_init__(self) -> None:
        # The digits have no test part of their own: at least one image is left for it.
        _check_counts(self, at_most=N_DIGITS - 1)

    @property
    def numbers(self) -> tuple[int, int]:
        """Images to train and to validate on."""
        return self.n_train, self.n_validation


@dataclass(frozen=True, kw_only=True, slots=True)
class Cifar10:
    """CIFAR-10: 32 x 32 colour images; both numbers are taken from its 50,000 train images."""

    n_train: int
    n_validation: int

    def __post_init__(self) -> None:
        _check_counts(self, at_most=N_CIFAR10_TRAIN)

    @property
    def numbers(self) -> tuple[int, int]:
        """Images to train and to validate on."""
        return self.n_train, self.n_validation


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolder:
    """Your own images in class folders, brought to `size` x `size` pixels.

    `path` is the folder; --data names another. It holds `train`, `val` and `test`, some of these
    (`train` among them), or the class folders themselves: what it lacks is cut from the train
    images, stratified, by a fixed seed. `n_train` and `n_validation` take so many images; without
    them all are taken, of a cut 15 %. Images of another size are resized at their shorter side
    and cropped at the centre. `channels=1` turns them grey, 3 repeats what is grey.
    `skip_broken` leaves out images that cannot be decoded, and says which. docs/images.md has
    the details.
    """

    size: int
    n_train: int | None = None
    n_validation: int | None = None
    path: str | Path | None = None
    channels: Literal[1, 3] = 3
    skip_broken: bool = False
    counted: tuple[int, int] | None = None
    """Images to train and to validate on, read from the folder when a study is made; not yours to
    set."""

    def __post_init__(self) -> None:
        _check_positive("size", self.size)
        for name in ("n_train", "n_validation"):
            if getattr(self, name) is not None:
                _check_positive(name, getattr(self, name))
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels!r}")
        if self.path is not None and not isinstance(self.path, (str, Path)):
            raise ValueError(f"path must be the folder's path, got {self.path!r}")
        if type(self.skip_broken) is not bool:
            raise ValueError(f"skip_broken must be True or False, got {self.skip_broken!r}")

    @property
    def numbers(self) -> tuple[int | None, int | None]:
        """Images to train and to validate on; None for what the folder has not said yet."""
        return self.counted or (self.n_train, self.n_validation)


Data = Digits | Cifar10 | ImageFolder


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Splits:
    """The images of one data set, and which are train, validation and test.

    `images` (N, H, W, C) uint8 and `labels` (N,) int64 are the source's train part; `train` and
    `validation` are int64 indices into them. `mean` and `std` (C,) are float32, over the pixel
    values 0 to 255 of the train split only, 1 where all are the same. `checksum` is the sha256
    (hex) of the decoded arrays and class names. `remarks` say what was read, of the user's own
    images. Images and labels are memory-mapped: all processes share them, a write stays private
    to its process.
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
    remarks: tuple[str, ...] = ()


def open_splits(data: Data, *, folder: Path | None, cache: Path) -> Splits:
    """The splits of `data`, the same for everybody; decoded below `cache` at the first call.

    `folder` is where the user keeps the data set: needed by ImageFolder, a download otherwise for
    Cifar10, refused for Digits. Raises DataError when the data cannot be had or is too small.
    """
    import torch

    from trainers.images.cache import cached

    source = _source(data, folder, cache)
    arrays = cached(source, cache)
    plan = _plan(data, arrays)
    train, validation = torch.from_numpy(plan.train), torch.from_numpy(plan.validation)
    images, labels = torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels)
    test_images, test_labels = (
        (torch.from_numpy(arrays.test_images), torch.from_numpy(arrays.test_labels))
        if plan.test is None
        else (images[plan.test], labels[plan.test])
    )
    mean, std = _mean_and_std(images, train)
    splits = Splits(
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
    if not isinstance(data, ImageFolder):
        return splits
    layout = _tree_source(data, folder).layout
    return replace(
        splits, remarks=(_counts_text(splits), *plan.remarks, *layout.remarks, *arrays.remarks)
    )


def counted(data: ImageFolder, *, folder: Path | None, cache: Path) -> ImageFolder:
    """Return `data` with the numbers of images that the folder has for train and validation.

    Files are listed and not decoded, except with `skip_broken`: what is broken is known then only.
    Raises DataError as open_splits() does.
    """
    import numpy as np

    from trainers.images.cache import cached

    source = _tree_source(data, folder)
    if data.skip_broken:
        plan = _plan(data, cached(source, cache))
    else:
        layout = source.layout
        validation = layout.labelled("validation")
        labels = [label for _, label in (*layout.labelled("train"), *validation)]
        plan = _folder_plan(
            data,
            np.array(labels, dtype=np.int64),
            layout.classes,
            own_validation=len(validation),
            own_test="test" in layout.parts,
        )
    return replace(data, counted=(len(plan.train), len(plan.validation)))


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
    from trainers.images.sources import DigitsSource

    if isinstance(data, Digits):
        if folder is not None:
            raise DataError(f"--data {folder}: digits come with scikit-learn; leave --data out")
        return DigitsSource()
    if isinstance(data, Cifar10):
        return cifar10_source(folder, cache)
    return _tree_source(data, folder)


def _tree_source(data: ImageFolder, folder: Path | None) -> TreeSource:
    from trainers.images.layout import LAYOUTS, layout_of
    from trainers.images.pixels import Form
    from trainers.images.sources import TreeSource

    where = data.path if folder is None else folder
    if where is None:
        raise DataError(
            "this study needs --data FOLDER, or ImageFolder(path=...): a folder that holds "
            f"{LAYOUTS}"
        )
    return TreeSource(
        layout=layout_of(Path(where), given_as="path" if folder is None else "--data"),
        form=Form(size=data.size, channels=data.channels),
        skip_broken=data.skip_broken,
    )


def _check_positive(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def _check_counts(data: Digits | Cifar10, at_most: int) -> None:
    _check_positive("n_train", data.n_train)
    _check_positive("n_validation", data.n_validation)
    total = data.n_train + data.n_validation
    if total > at_most:
        raise ValueError(
            f"n_train + n_validation must be at most {at_most}, "
            f"got {data.n_train} + {data.n_validation} = {total}"
        )


def _plan(data: Data, arrays: CachedArrays) -> Plan:
    from trainers.images.splitting import drawn

    if isinstance(data, ImageFolder):
        return _folder_plan(
            data,
            arrays.train_labels,
            arrays.classes,
            own_validation=arrays.n_validation,
            own_test=len(arrays.test_labels) > 0,
        )
    return drawn(
        len(arrays.train_labels),
        n_train=data.n_train,
        n_validation=data.n_validation,
        rest_is_test=isinstance(data, Digits),
    )


def _folder_plan(
    data: ImageFolder,
    labels: Index,
    classes: tuple[str, ...],
    *,
    own_validation: int,
    own_test: bool,
) -> Plan:
    """Return the splits of a folder; DataError where a study was made with others.

    `train` and `test` with both numbers given are drawn without regard to classes, as they were
    before there was another way: studies have stored their scores.
    """
    from trainers.images.splitting import drawn, stratified

    n_train, n_validation = data.n_train, data.n_validation
    if own_test and not own_validation and n_train is not None and n_validation is not None:
        plan = drawn(len(labels), n_train=n_train, n_validation=n_validation, rest_is_test=False)
    else:
        plan = stratified(
            labels,
            classes,
            own_validation=own_validation,
            own_test=own_test,
            n_train=n_train,
            n_validation=n_validation,
        )
    now = (len(plan.train), len(plan.validation))
    if data.counted not in (None, now):
        raise DataError(
            "the folder has changed: it gave {} train and {} validation images when the study was "
            "made, now {} and {}; put the files back, or start a new study with --name".format(
                *data.counted, *now
            )
        )
    return plan


def _counts_text(splits: Splits) -> str:
    """Say how many images there are, of which classes, and in which split."""
    import torch

    from trainers.images.words import some

    labels = torch.cat([splits.labels[splits.train], splits.labels[splits.validation]])
    labels = torch.cat([labels, splits.test_labels])
    counts = torch.bincount(labels, minlength=len(splits.classes)).tolist()
    names = [f"{name} {n:,}" for name, n in zip(splits.classes, counts, strict=True)]
    return (
        f"{len(labels):,} images of {len(counts)} classes ({some(names)}): "
        f"{len(splits.train):,} train, {len(splits.validation):,} validation, "
        f"{len(splits.test_labels):,} test"
    )


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
    # A channel of one value has no deviation to divide by.
    return mean.float(), torch.where(std > 0, std, 1.0).float()
