"""Digits and folders of images: how each is found, known by a fingerprint, and decoded."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.errors import DataError

PARTS = ("train", "test")
# Those of torchvision.datasets.folder.IMG_EXTENSIONS.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
TREE_LAYOUT = "train/<class>/* and test/<class>/*"


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
        save_part(into, "train", images, digits.target)
        save_part(into, "test", images[:0], digits.target[:0])
        return tuple(str(name) for name in digits.target_names)


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
        return fingerprint_of(self.folder, PARTS)

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
            raise DataError(f"{wanted}: {difference(test, train)}")
        return train

    def _decode_part(self, part: str, classes: tuple[str, ...], into: Path) -> None:
        files_by_class = [_image_files(self.folder / part / name) for name in classes]
        labels = [label for label, files in enumerate(files_by_class) for _ in files]
        shape = (len(labels), self.size, self.size, 3)
        np.save(into / f"{part}_labels.npy", np.array(labels, dtype=np.int64))
        # Written image by image, so that a data set may be larger than memory.
        with (into / f"{part}_images.npy").open("wb") as out:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            for path in (path for files in files_by_class for path in files):
                out.write(_rgb_bytes(path, self.size))


def tree_source(folder: Path | None, size: int) -> TreeSource:
    """Own images; raises DataError when `folder` is not given or is not in that layout."""
    if folder is None:
        raise DataError(f"this study needs --data FOLDER, a folder that holds {TREE_LAYOUT}")
    root = existing(folder)
    if not is_tree(root):
        raise DataError(f"{root} must hold {TREE_LAYOUT}")
    return TreeSource(folder=root, size=size)


@contextmanager
def reading_files() -> Iterator[None]:
    """Raise DataError where a file or folder cannot be read."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


@reading_files()
def existing(folder: Path) -> Path:
    """Return the folder in full; raise DataError where there is none."""
    resolved = folder.expanduser().resolve()
    if not resolved.is_dir():
        raise DataError(f"--data {folder}: there is no such folder")
    return resolved


@reading_files()
def is_tree(folder: Path) -> bool:
    """Whether the folder holds train/ and test/."""
    return all((folder / part).is_dir() for part in PARTS)


def difference(got: Sequence[str], wanted: Sequence[str]) -> str:
    """Return which names are missing and which are not wanted, as words."""
    missing = sorted(set(wanted) - set(got))
    unknown = sorted(set(got) - set(wanted))
    return f"missing: {_some(missing)}; not among them: {_some(unknown)}"


def _some(names: list[str], at_most: int = 10) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(names[:at_most]) or "none") + more


def fingerprint_of(root: Path, folders: Sequence[str]) -> str:
    """sha256 (hex) over relative path, size and mtime_ns of every file below `folders`."""
    lines = []
    with reading_files():
        for folder in folders:
            for entry in _entries(str(root / folder)):
                stat = entry.stat()
                path = os.path.relpath(entry.path, root)
                # Not the contents: reading them at every start would cost what the cache saves.
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
    with reading_files(), os.scandir(part) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise DataError(f"{part} holds no class folders; it must hold one folder per class")
    return tuple(names)


def _image_files(folder: Path) -> list[Path]:
    with reading_files(), os.scandir(folder) as entries:
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
            # Read from the header: an image of another size is never decoded.
            width, height = image.size
            if (width, height) == (size, size):
                return image.convert("RGB").tobytes()
    # SyntaxError is what Pillow raises for a broken PNG.
    except (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot decode the image {path}: {one_line(error)}") from error
    raise DataError(f"{path} is {width} x {height} pixels; images must be {size} x {size}")


def one_line(error: BaseException) -> str:
    """Return an error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def save_part(into: Path, part: str, images: NDArray[np.uint8], labels: Any) -> None:
    """Write one part as .npy: uint8 (N, H, W, C) and int64 (N,)."""
    np.save(into / f"{part}_images.npy", np.ascontiguousarray(images))
    np.save(into / f"{part}_labels.npy", np.asarray(labels, dtype=np.int64))
