"""Many image files decoded into one array on disk, by several threads."""

import logging
import os
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainers.errors import DataError
from trainers.images.pixels import Form, pixels, remarks
from trainers.images.words import counted, one_line, some

log = logging.getLogger(__name__)

# A large photo takes 100 MB while it is decoded, whatever becomes of it.
_MOST_THREADS = 8
# Enough to keep the threads busy, and few bytes at any size.
_AT_ONCE = 256
_SECONDS_BETWEEN_WORDS = 20.0


@dataclass(kw_only=True, slots=True)
class Decoder:
    """Brings images into `form`, and remembers what it did to them.

    `skip_broken` leaves out what cannot be decoded; it is an error otherwise.
    """

    form: Form
    skip_broken: bool = False
    done: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def write(self, paths: Sequence[Path], file: Path) -> list[int]:
        """Write the images as uint8 (N, H, W, C) in .npy format; return which of `paths` they are.

        Raises DataError, naming the file, for an image that cannot be decoded.
        """
        kept: list[int] = []
        # Written image by image, so that a data set may be larger than memory.
        with file.open("wb") as out:
            self._header(out, len(paths))
            for number, image in enumerate(self._images(paths)):
                if image is not None:
                    out.write(image)
                    kept.append(number)
            # As long as the first: numpy leaves room for a first axis of 20 digits.
            out.seek(0)
            self._header(out, len(kept))
        return kept

    def remarks(self) -> list[str]:
        """Say what was done to the images, and which are left out."""
        said = remarks(self.done, size=self.form.size)
        if self.broken:
            n = counted(len(self.broken), "broken image")
            said.append(f"{n} left out: {some(self.broken, at_most=3)}")
        return said

    def _header(self, out: object, n: int) -> None:
        form = self.form
        shape = (n, form.size, form.size, form.channels)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)  # type: ignore[arg-type]

    def _images(self, paths: Sequence[Path]) -> Iterator[bytes | None]:
        """Yield the bytes of each image in order; None for a broken one that is left out."""
        said_at = time.monotonic()
        # Filters are the process's, not a thread's. Pillow warns of what it can still read.
        with warnings.catch_warnings(), ThreadPoolExecutor(_n_threads()) as pool:
            warnings.simplefilter("ignore")
            for start in range(0, len(paths), _AT_ONCE):
                for image, done, broken in pool.map(self._image, paths[start : start + _AT_ONCE]):
                    self.done.update(done)
                    self.broken += broken
                    yield image
                if time.monotonic() - said_at > _SECONDS_BETWEEN_WORDS:
                    said_at = time.monotonic()
                    log.info("%d of %d images decoded", start + _AT_ONCE, len(paths))

    def _image(self, path: Path) -> tuple[bytes | None, set[str], list[str]]:
        """Return the bytes of an image, what was done to it, and why it is broken, if it is."""
        try:
            return *pixels(path, self.form), []
        # Pillow's plugins raise all sorts for a broken file: SyntaxError, struct.error, KeyError.
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) else None
            reason = reason or one_line(error).replace(f" {str(path)!r}", "")
            if not self.skip_broken:
                raise DataError(
                    f"cannot decode the image {path}: {reason}; mend or remove it, or "
                    "ImageFolder(skip_broken=True) leaves such images out"
                ) from error
            return None, set(), [f"{path} ({reason})"]


def _n_threads() -> int:
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return min(n_cores, _MOST_THREADS)


def check_room(folder: Path, n_images: int, form: Form) -> None:
    """Raise DataError where the decoded images would not fit on the disk of `folder`."""
    needed, free = n_images * form.n_bytes, shutil.disk_usage(folder).free
    log.info("%s of %s: %s", counted(n_images, "image"), _shape(form), bytes_text(needed))
    if needed > free:
        raise DataError(
            f"{counted(n_images, 'image')} of {_shape(form)} take {bytes_text(needed)}, and "
            f"{folder.parent} has {bytes_text(free)} free: set ONECYCLE_CACHE to a folder with "
            "room, or take a smaller ImageFolder(size=...)"
        )


def _shape(form: Form) -> str:
    return f"{form.size} x {form.size} x {form.channels} bytes"


def bytes_text(n: float) -> str:
    """Return '1.5 GiB', '16 MiB', '3 KiB'."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.3g} TiB"
