"""CIFAR-10 as one small file, or images of its shape that are made here."""

import tarfile
from pathlib import Path

from trainers.errors import DataError
from trainers.images.cifar10 import CIFAR10_CLASSES

GENERATED = "generated: accuracies mean nothing"
# All of CIFAR-10 (JPEG) then takes 37 s of one core.
_LEVEL = 3


def pack(folder: Path, file: Path) -> float:
    """Write a folder of train/<class>/* and test/<class>/* as one file; return its size in MB.

    JPEG files of one quality share their tables, two thirds of a file of 32 x 32 pixels; xz
    stores them once, and no pixel changes. Raises DataError for a folder without these.
    """
    parts = [folder / part for part in ("train", "test")]
    lacking = [part for part in parts if not part.is_dir()]
    if lacking:
        raise DataError(f"{folder} must hold train/<class>/* and test/<class>/*: no {lacking[0]}")
    try:
        with tarfile.open(file, "w:xz", preset=_LEVEL) as archive:
            for part in parts:
                for image in sorted(part.glob("*/*")):
                    archive.add(image, image.relative_to(folder), filter=_anonymous)
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror})") from error
    return file.stat().st_size / 1e6


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who packed it, and when: equal folders give equal files."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def unpack(file: Path, into: Path) -> Path:
    """Return the folder of a packed file; raise DataError for another file."""
    try:
        with tarfile.open(file) as archive:
            archive.extractall(into, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{file}: no file that `pack` made ({error})") from error
    return into


def generate(into: Path, *, n_train: int, n_test: int) -> Path:
    """Return a folder of images with the shape of CIFAR-10: noise around a pattern of each class.

    For timings: what is learnt of them says nothing.
    """
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    patterns = generator.integers(64, 192, (len(CIFAR10_CLASSES), 8, 8, 3))
    for part, n in (("train", n_train), ("test", n_test)):
        for label, name in enumerate(CIFAR10_CLASSES):
            folder = into / part / name
            folder.mkdir(parents=True, exist_ok=True)
            pattern = patterns[label].repeat(4, axis=0).repeat(4, axis=1)
            for number in range(n // len(CIFAR10_CLASSES)):
                noise = generator.integers(-64, 64, pattern.shape)
                image = Image.fromarray((pattern + noise).astype(np.uint8))
                image.save(folder / f"{number:04}.jpg", quality=80)
    return into


def ready(given: Path | None, into: Path, *, full: bool) -> tuple[Path, str]:
    """Return the folder to train on, and what lies in it; `full`: as many images as CIFAR-10 has.

    Raises DataError for what is no folder and no packed file.
    """
    if given is None:
        n_train, n_test = (50_000, 10_000) if full else (400, 100)
        return generate(into, n_train=n_train, n_test=n_test), GENERATED
    if given.is_dir():
        return given.absolute(), str(given)
    if given.is_file():
        return unpack(given, into), f"{given.name}, {given.stat().st_size / 1e6:.1f} MB"
    raise DataError(f"--data {given}: there is no such folder or file")
