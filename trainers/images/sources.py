"""Digits and folders of images: how each is found, known by a fingerprint, and decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.images.cache import Decoded
from trainers.images.decoding import Decoder, check_room
from trainers.images.layout import Layout, reading_files
from trainers.images.pixels import Form

PARTS = ("train", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitsSource:
    """scikit-learn's 1797 digits of 8 x 8 grey pixels, all of them as the train part."""

    name: str = "digits"
    text: str = "scikit-learn's digits"

    def fingerprint(self) -> str:
        return version("scikit-learn")

    def decode(self, into: Path) -> Decoded:
        from sklearn.datasets import load_digits

        digits = load_digits()
        # Pixels count from 0 to 16; 15 is the greatest factor that stays within uint8.
        images = (digits.images * 15).astype(np.uint8)[..., None]
        save_part(into, "train", images, digits.target)
        save_part(into, "test", images[:0], digits.target[:0])
        return Decoded(classes=tuple(str(name) for name in digits.target_names))


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeSource:
    """Images in class folders, laid out as `layout` says, each brought into `form`.

    Classes and files are taken in sorted order. `skip_broken` leaves out images that cannot be
    decoded; they are an error otherwise.
    """

    layout: Layout
    form: Form
    skip_broken: bool = False
    name: str = "images"

    @property
    def text(self) -> str:
        form = self.form
        grey = ", grey" if form.channels == 1 else ""
        skipping = ", without broken ones" if self.skip_broken else ""
        return f"images of {form.size} x {form.size} pixels{grey}{skipping} in {self.layout.root}"

    def fingerprint(self) -> str:
        return _fingerprint(
            self.layout.root,
            [(part, path) for part in self.layout.parts for path, _ in self.layout.labelled(part)],
        )

    def decode(self, into: Path) -> Decoded:
        """Raises DataError for an image that cannot be decoded, or where the disk is too small."""
        train, validation = (self.layout.labelled(part) for part in ("train", "validation"))
        test = self.layout.labelled("test")
        check_room(into, len(train) + len(validation) + len(test), self.form)
        decoder = Decoder(form=self.form, skip_broken=self.skip_broken)
        kept = {}
        for part, files in (("train", train + validation), ("test", test)):
            written = decoder.write([path for path, _ in files], into / f"{part}_images.npy")
            labels = [files[number][1] for number in written]
            np.save(into / f"{part}_labels.npy", np.array(labels, dtype=np.int64))
            kept[part] = written
        n_validation = sum(number >= len(train) for number in kept["train"])
        return Decoded(
            classes=self.layout.classes,
            n_validation=n_validation,
            remarks=tuple(decoder.remarks()),
        )


def fingerprint_of(root: Path, folders: Sequence[str]) -> str:
    """sha256 (hex) over relative path, size and mtime_ns of every file below `folders`."""
    with reading_files():
        files = [
            ("", path)
            for folder in folders
            for path in (root / folder).rglob("*")
            if not path.is_dir()
        ]
        return _fingerprint(root, files)


def _fingerprint(root: Path, files: Sequence[tuple[str, Path]]) -> str:
    # Not the contents: reading them at every start would cost what the cache saves.
    lines = sorted(f"{part} {path.relative_to(root)} {_stamp(path)}" for part, path in files)
    return sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return "a dead link"  # which is named when it is decoded
    return f"{stat.st_size} {stat.st_mtime_ns}"


def save_part(into: Path, part: str, images: NDArray[np.uint8], labels: Any) -> None:
    """Write one part as .npy: uint8 (N, H, W, C) and int64 (N,)."""
    np.save(into / f"{part}_images.npy", np.ascontiguousarray(images))
    np.save(into / f"{part}_labels.npy", np.asarray(labels, dtype=np.int64))
