"""Where the images of a data set lie, and how each layout is found and decoded."""

import io
import os
import socket
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from tarfile import TarError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.errors import DataError

PARTS = ("train", "test")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
CIFAR10_SIZE = 32
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
CIFAR10_FOLDER = "cifar-10-batches-py"
TREE_LAYOUT = "train/<class>/* and test/<class>/*"
CIFAR10_LAYOUTS = f"{CIFAR10_FOLDER}/ (the original files) or {TREE_LAYOUT} (images)"
DOWNLOAD_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitsSource:
    """scikit-learn's 1797 digits of 8 x 8 grey pixels, all of them as the train part."""

    name: str = "digits"
    text: str = "scikit-learn's digits"

    def fingerprint(self) -> str:
        return version("scikit-learn")

    def decode(self, into: Path) -> tuple[str, ...]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        # Pixels count from 0 to 16; 15 is the greatest factor that stays within uint8.
        images = (digits.images * 15).astype(np.uint8)[..., None]
        _save(into, "train", images, digits.target)
        _save(into, "test", images[:0], digits.target[:0])
        return tuple(str(name) for name in digits.target_names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cifar10Source:
    """CIFAR-10's own files in `root`/cifar-10-batches-py, through torchvision.

    `download` says that torchvision may put them there. The archive is known by its md5, so once
    decoded it is asked for no more.
    """

    root: Path
    download: bool
    name: str = "cifar-10"

    @property
    def text(self) -> str:
        return f"CIFAR-10 {'downloaded to' if self.download else 'in'} {self.root}"

    def fingerprint(self) -> str:
        return CIFAR10_MD5 if self.download else _fingerprint(self.root, [CIFAR10_FOLDER])

    def decode(self, into: Path) -> tuple[str, ...]:
        """Raises DataError when the download fails, or a file is missing or not the original."""
        from torchvision.datasets import CIFAR10

        with warnings.catch_warnings():
            # numpy 2.4.0 to 2.4.4 warn about dtypes pickled as in these files (numpy#31177).
            warnings.simplefilter("ignore")
            if self.download:
                _download(self.root)
            _must_be_original(self.root / CIFAR10_FOLDER)
            for part in PARTS:
                dataset = CIFAR10(self.root, train=part == "train")
                _save(into, part, dataset.data, dataset.targets)
        return tuple(dataset.classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeSource:
    """Images in `folder`/train/<class>/* and `folder`/test/<class>/*, `size` x `size` pixels.

    Classes and files are taken in sorted order; hidden files and other suffixes are passed over.
    """

    folder: Path
    size: int
    name: str = "images"

    @property
    def text(self) -> str:
        return f"images of {self.size} x {self.size} pixels in {self.folder}"

    def fingerprint(self) -> str:
        return _fingerprint(self.folder, PARTS)

    def decode(self, into: Path) -> tuple[str, ...]:
        """Raises DataError for classes or an image that are not as the layout wants them."""
        classes = self.classes()
        for part in PARTS:
            self._decode_part(part, classes, into)
        return classes

    def classes(self) -> tuple[str, ...]:
        """The sorted names of the class folders, the same in both parts."""
        train, test = (_class_folders(self.folder / part) for part in PARTS)
        if train != test:
            wanted = f"{self.folder / 'test'} must hold the classes of train"
            raise DataError(f"{wanted}: {_difference(test, train)}")
        return train

    def _decode_part(self, part: str, classes: tuple[str, ...], into: Path) -> None:
        found = [_image_files(self.folder / part / name) for name in classes]
        labels = [label for label, files in enumerate(found) for _ in files]
        shape = (len(labels), self.size, self.size, 3)
        np.save(into / f"{part}_labels.npy", np.array(labels, dtype=np.int64))
        # Written image by image, so that a data set may be larger than memory.
        with (into / f"{part}_images.npy").open("wb") as out:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            for path in (path for files in found for path in files):
                out.write(_rgb_bytes(path, self.size))


@dataclass(frozen=True, kw_only=True, slots=True)
class Cifar10TreeSource(TreeSource):
    """CIFAR-10 as images, recognised by its ten classes."""

    size: int = CIFAR10_SIZE
    name: str = "cifar-10-images"

    def classes(self) -> tuple[str, ...]:
        classes = TreeSource.classes(self)
        if classes != CIFAR10_CLASSES:
            raise DataError(
                f"{self.folder / 'train'} must hold the ten classes of CIFAR-10: "
                f"{_difference(classes, CIFAR10_CLASSES)}"
            )
        return classes


def tree_source(folder: Path | None, size: int) -> TreeSource:
    """Own images; raises DataError when `folder` is not given or is not in that layout."""
    if folder is None:
        raise DataError(f"this study needs --data FOLDER, a folder that holds {TREE_LAYOUT}")
    found = _existing(folder)
    if not _is_tree(found):
        raise DataError(f"{found} must hold {TREE_LAYOUT}")
    return TreeSource(folder=found, size=size)


def cifar10_source(folder: Path | None, cache: Path) -> Cifar10Source | Cifar10TreeSource:
    """CIFAR-10 in `folder`, in either layout, or downloaded below `cache` when that is None."""
    if folder is None:
        return Cifar10Source(root=cache.expanduser().absolute() / "cifar-10", download=True)
    found = _existing(folder)
    if (found / CIFAR10_FOLDER).is_dir():
        return Cifar10Source(root=found, download=False)
    if _is_tree(found):
        return Cifar10TreeSource(folder=found)
    raise DataError(f"{found} must hold {CIFAR10_LAYOUTS}")


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


@_reading()
def _existing(folder: Path) -> Path:
    found = folder.expanduser().resolve()
    if not found.is_dir():
        raise DataError(f"--data {folder}: there is no such folder")
    return found


@_reading()
def _is_tree(folder: Path) -> bool:
    return all((folder / part).is_dir() for part in PARTS)


def _difference(got: Sequence[str], wanted: Sequence[str]) -> str:
    missing = sorted(set(wanted) - set(got))
    unknown = sorted(set(got) - set(wanted))
    return f"missing: {_some(missing)}; not among them: {_some(unknown)}"


def _some(names: list[str], at_most: int = 10) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(names[:at_most]) or "none") + more


def _fingerprint(root: Path, folders: Sequence[str]) -> str:
    """sha256 (hex) over relative path, size and mtime_ns of every file below `folders`."""
    lines = []
    with _reading():
        for folder in folders:
            for entry in _entries(str(root / folder)):
                stat = entry.stat()
                path = os.path.relpath(entry.path, root)
                lines.append(f"{path} {stat.st_size} {stat.st_mtime_ns}")
    return sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Every file below `folder`, in no order."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _entries(entry.path)
            else:
                yield entry


def _class_folders(part: Path) -> tuple[str, ...]:
    with _reading(), os.scandir(part) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise DataError(f"{part} holds no class folders; it must hold one folder per class")
    return tuple(names)


def _image_files(folder: Path) -> list[Path]:
    with _reading(), os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if _is_image_name(e.name) and e.is_file())
    if not names:
        raise DataError(f"{folder} holds no images; allowed are {' '.join(IMAGE_SUFFIXES)}")
    return [folder / name for name in names]


def _is_image_name(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _rgb_bytes(path: Path, size: int) -> bytes:
    """The pixels of one image, row by row, three bytes each."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            if (width, height) == (size, size):
                return image.convert("RGB").tobytes()
    except (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot decode the image {path}: {_one_line(error)}") from error
    raise DataError(f"{path} is {width} x {height} pixels; images must be {size} x {size}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _save(into: Path, part: str, images: NDArray[np.uint8], labels: Any) -> None:
    np.save(into / f"{part}_images.npy", np.ascontiguousarray(images))
    np.save(into / f"{part}_labels.npy", np.asarray(labels, dtype=np.int64))


def _must_be_original(folder: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
        with _reading():
            intact = check_integrity(folder / name, md5)
        if not intact:
            raise DataError(
                f"{folder / name} is missing or corrupt; it must be the original with md5 {md5} "
                f"(remove {folder} and unpack {CIFAR10.filename} again)"
            )


def _download(root: Path) -> None:
    """Have torchvision fetch, verify and unpack CIFAR-10 into `root`, unless it lies there."""
    from torchvision.datasets import CIFAR10

    root.mkdir(parents=True, exist_ok=True)
    try:
        with _quiet_network():
            CIFAR10(root, download=True)
    except (OSError, EOFError, RuntimeError, HTTPException, TarError, zlib.error) as error:
        corrupt = f"the file is not the original with md5 {CIFAR10.tgz_md5}"
        reason = corrupt if isinstance(error, RuntimeError) else _one_line(error)
        raise DataError(
            f"cannot download CIFAR-10 from {CIFAR10.url}: {reason}; put {CIFAR10.filename} into "
            f"{root} by hand, or give --data FOLDER that holds {CIFAR10_LAYOUTS}; "
            "--study digits needs no download"
        ) from error


@contextmanager
def _quiet_network() -> Iterator[None]:
    """Nothing on stdout, a bar on a terminal only, and no waiting for ever on a silent server."""
    bar = sys.stderr if sys.stderr.isatty() else io.StringIO()
    timeout_s = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        with redirect_stdout(bar), redirect_stderr(bar):
            yield
    finally:
        socket.setdefaulttimeout(timeout_s)
