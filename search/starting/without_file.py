"""A study without a file: flags, a folder and a model looked at, become a definition."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mode
from typing import Any, Literal

from search.errors import UsageError
from studies.counts import counted_now
from studies.errors import StudyError
from studies.flags import Flags, setting
from studies.registry import Definition, of_flags
from trainers.errors import TaskError
from trainers.images.layout import Layout, layout_of
from trainers.optimizers import has_momentum, optimizer_named

log = logging.getLogger(__name__)

EPOCHS = 10
BATCH_SIZE = 128
_LEAST_STEPS = 20
"""Of an epoch, where the batch size is ours to choose: fewer make a short warm-up."""
_LOOKED_AT = 64
"""Images whose size and colour are read, evenly spread over the train split."""
_MOST_SIZE = 224
"""Pixels where the size is ours to choose: that of ImageNet's nets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the flags of a study without a file say; None: not said."""

    model: str | None = None
    model_arg: Sequence[str] | None = None
    size: int | None = None
    channels: int | None = None
    stem: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    optimizer_arg: Sequence[str] | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    label_smoothing: float | None = None
    crop: int | None = None
    flip: bool = False
    precision: str | None = None

    def said(self) -> list[str]:
        """Return the flags that were given."""
        given = {name: getattr(self, name) for name in self.__slots__}
        return [f"--{n.replace('_', '-')}" for n, v in given.items() if v not in (None, [], False)]


def definition_without_file(wanted: Wanted, data: Path | None) -> Definition:
    """Return the study that a folder and a model make, with all that was not said filled in.

    What is filled in is logged. The model is built and tried on two empty images. Raises
    UserError, with the way on, for what is missing or does not fit.
    """
    if wanted.model is None or data is None:
        raise UsageError(_missing(wanted, data))
    from trainers.fitting import Images, fitted

    layout = layout_of(data)
    looks = _Looks.at(layout)
    size, channels = _size(wanted, looks), _channels(wanted, looks)
    images = Images(size=size, channels=channels, n_classes=len(layout.classes))
    _check_numbers(wanted)
    where = _absolute(wanted.model)
    given = _settings("--model-arg", wanted.model_arg)
    if wanted.stem not in (None, "own", "small"):
        raise UsageError(f"--stem must be own or small, got {wanted.stem!r}")
    try:
        fit = fitted(where, given, images, stem=wanted.stem)
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    flags = Flags(
        model=where,
        model_arg=fit.model.arguments,
        stem=fit.model.stem,
        data=str(data.expanduser().resolve()),
        size=size,
        channels=channels,
        n_classes=len(layout.classes),
        epochs=EPOCHS if wanted.epochs is None else wanted.epochs,
        batch_size=_batch_size(layout) if wanted.batch_size is None else wanted.batch_size,
        optimizer=wanted.optimizer or "sgd",
        optimizer_arg=dict(
            setting(text, "--optimizer-arg") for text in wanted.optimizer_arg or ()
        ),
        weight_decay=wanted.weight_decay,
        momentum=wanted.momentum,
        label_smoothing=wanted.label_smoothing or 0.0,
        crop=wanted.crop or 0,
        flip=wanted.flip,
        precision=wanted.precision or "auto",
    )
    definition = _checked(flags, data)
    _check_optimizer(flags, fit.model())
    for line in (_head(flags, looks), *fit.remarks, *_tail(flags)):
        log.info("%s", line)
    return definition


def _settings(flag: str, texts: Sequence[str] | None) -> dict[str, Any]:
    return dict(setting(text, flag) for text in texts or ())


def _check_numbers(wanted: Wanted) -> None:
    for name in ("weight_decay", "momentum", "label_smoothing"):
        value = getattr(wanted, name)
        if value is not None and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} must be a number, got {value}")


def _missing(wanted: Wanted, data: Path | None) -> str:
    example = "`--data photos --model torchvision.models:resnet18`"
    if wanted.model is None and data is None:
        told = f"{wanted.said()[0]}: of which study? " if wanted.said() else ""
        return (
            f"{told}--study is missing: digits, cifar-small, cifar or your own study file; or, "
            f"without a file, a folder of images and a model, as in {example}"
        )
    if wanted.model is None:
        return (
            f"--data {data}: --model is missing, as in {example}; or --study, a study that "
            "trains on this folder"
        )
    return f"--model {wanted.model}: --data is missing, the folder of images, as in {example}"


@dataclass(frozen=True, slots=True)
class _Looks:
    """Sizes and colours of some images of a folder."""

    sizes: tuple[tuple[int, int], ...]
    grey: bool

    @classmethod
    def at(cls, layout: Layout) -> "_Looks":
        from PIL import Image

        files = [path for path, _ in layout.labelled("train")]
        some = files[:: max(1, len(files) // _LOOKED_AT)]
        sizes, modes = list[tuple[int, int]](), set[str]()
        for path in some:
            try:
                with Image.open(path) as image:  # its head alone is read
                    sizes.append(image.size)
                    modes.add(image.mode)
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                continue  # which the decoding names
        if not sizes:
            raise UsageError(f"--data {layout.root}: none of {len(some)} images can be read")
        return cls(tuple(sizes), all(m in ("1", "L", "LA") or m.startswith("I") for m in modes))


def _size(wanted: Wanted, looks: _Looks) -> int:
    if wanted.size is not None:
        if wanted.size < 1:
            raise UsageError(f"--size must be a whole number of at least 1, got {wanted.size}")
        return wanted.size
    return min(_MOST_SIZE, mode(min(size) for size in looks.sizes))


def _channels(wanted: Wanted, looks: _Looks) -> Literal[1, 3]:
    if wanted.channels not in (None, 1, 3):
        raise UsageError(f"--channels must be 1 (grey) or 3 (colour), got {wanted.channels}")
    if wanted.channels is None:
        return 1 if looks.grey else 3
    return 1 if wanted.channels == 1 else 3


def _absolute(where: str) -> str:
    """Return MODULE:NAME as it is, FILE.py:NAME with the whole path of the file."""
    place, colon, name = where.rpartition(":")
    if not colon and "." in where:
        module, _, last = where.rpartition(".")
        raise UsageError(f"--model {where}: write {module}:{last}")
    if not colon:
        raise UsageError(
            f"--model {where}: must be MODULE:NAME, as in torchvision.models:{where}, or "
            f"FILE.py:NAME, as in net.py:Net"
        )
    if place.endswith(".py"):
        return f"{Path(place).expanduser().resolve()}:{name}"
    return where


def _batch_size(layout: Layout) -> int:
    """Return BATCH_SIZE, halved until an epoch of a small folder has steps enough."""
    n, size = len(layout.labelled("train")), BATCH_SIZE
    while size > 8 and n < size * _LEAST_STEPS:
        size //= 2
    return size


def _checked(flags: Flags, data: Path) -> Definition:
    """Return the definition; counted once here, so that a folder too small for it is told now."""
    try:
        definition = of_flags(flags)
        counted_now(definition, data)
    except StudyError as error:
        text = str(error)
        way_on = "; here: --epochs or --batch-size" if "warm-up" in text else ""
        way_on = "; here: --batch-size" if "n_train" in text else way_on
        raise UsageError(f"{text.partition(', as in Space(')[0]}{way_on}") from None
    return definition


def _check_optimizer(flags: Flags, model: object) -> None:
    from torch import nn

    assert isinstance(model, nn.Module)
    try:
        optimizer_named(
            flags.optimizer, momentum=flags.momentum, options=flags.optimizer_arg
        ).build(model)
    except (TypeError, ValueError) as error:
        raise TaskError(f"optimizer {flags.optimizer}: {error}") from None


def _head(flags: Flags, looks: _Looks) -> str:
    n = len(set(looks.sizes))
    seen = (
        f"as {len(looks.sizes)} of them are" if n == 1 else f"{n} sizes among {len(looks.sizes)}"
    )
    return (
        f"study {flags.name} (another name: --name): {flags.n_classes} classes, images of "
        f"{flags.size} x {flags.size} pixels ({seen}; --size takes others), "
        f"{'grey' if flags.channels == 1 else 'colour'}"
    )


def _tail(flags: Flags) -> list[str]:
    optimizer = optimizer_named(
        flags.optimizer,
        weight_decay=flags.weight_decay,
        momentum=flags.momentum,
        options=flags.optimizer_arg,
    )
    held = "the cycle moves the rate" + " and the momentum" * has_momentum(optimizer)
    if flags.momentum is not None:
        held = f"the cycle moves the rate, the momentum stays {flags.momentum:g}"
    augment = [f"--crop {flags.crop}"] * bool(flags.crop) + ["--flip"] * flags.flip
    return [
        f"{flags.epochs} epochs in batches of {flags.batch_size}, {optimizer!r}: {held}",
        f"augmentation: {' '.join(augment) or 'none; --crop 4 shifts, --flip mirrors'}",
    ]
