"""Decoded images on disk: built once however many processes start, then memory-mapped by all."""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from trainers.errors import DataError

logger = logging.getLogger(__name__)

# Part of the folders' names: raised where decode() writes something else, all are built again.
FORMAT = 2
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """What a source says of the arrays that it wrote.

    The last `n_validation` of the train images are a validation split of the source's own;
    `remarks` say what was done to the images.
    """

    classes: tuple[str, ...]
    n_validation: int = 0
    remarks: tuple[str, ...] = ()


class Source(Protocol):
    """Where images come from, and how they become arrays."""

    @property
    def name(self) -> str:
        """A short word that begins the names of its folders in the cache."""

    @property
    def text(self) -> str:
        """What is read, for people; of each text the cache keeps the newest version only."""

    def fingerprint(self) -> str:
        """Text that changes when the source changes; cheap, for it is read at every start."""

    def decode(self, into: Path) -> Decoded:
        """Write each of `ARRAYS` as `.npy` into the folder `into` and say what they are.

        Images are uint8 (N, H, W, C), labels int64 (N,). What cannot be read is a DataError;
        an OSError means that `into` cannot be written.
        """


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CachedArrays:
    """The decoded arrays, mapped copy-on-write: pages are shared, and a write stays private.

    Images are uint8 (N, H, W, C), labels int64 (N,) into `classes`; `checksum` is the sha256 (hex)
    of arrays, class names and the border of the validation split.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    n_validation: int
    remarks: tuple[str, ...]
    checksum: str


def cached(source: Source, cache: Path) -> CachedArrays:
    """The arrays of `source`, decoded into the folder `cache` by the first process that asks.

    Raises DataError when the source cannot be decoded or the cache cannot be written. A finished
    cache is opened without writing, so it may be read-only.
    """
    folder, group = _place(source, cache)
    return _open(folder) or _build_once(source, folder, group)


def is_cached(source: Source, cache: Path) -> bool:
    """Whether the arrays of `source` are decoded in the folder `cache`; nothing is written."""
    return _open(_place(source, cache)[0]) is not None


def _place(source: Source, cache: Path) -> tuple[Path, str]:
    # The group names a source, the folder one version of it; newer versions replace older ones.
    group = f"{source.name}-{_digest(source.text)}"
    return cache / "decoded" / f"{group}-{_digest(f'{FORMAT} {source.fingerprint()}')}", group


def _digest(text: str) -> str:
    # 64 bits tell apart the data sets of one user. Paths may hold bytes that are not UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _open(folder: Path) -> CachedArrays | None:
    """None where the folder is not there, not complete, or not what its meta.json says."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        arrays = _load(folder)
        if meta["arrays"] != _shapes(folder, arrays):
            return None
        return CachedArrays(
            classes=tuple(meta["classes"]),
            n_validation=int(meta["n_validation"]),
            remarks=tuple(meta["remarks"]),
            checksum=meta["checksum"],
            **arrays,
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _load(folder: Path) -> dict[str, NDArray[Any]]:
    # "c" (copy-on-write) shares pages like "r"; torch warns about arrays it may not write to.
    return {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in ARRAYS}


def _shapes(folder: Path, arrays: dict[str, NDArray[Any]]) -> dict[str, dict[str, object]]:
    return {
        name: {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "bytes": (folder / f"{name}.npy").stat().st_size,
        }
        for name, array in arrays.items()
    }


def _build_once(source: Source, folder: Path, group: str) -> CachedArrays:
    parent = folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f"{group}.lock"):
            # Asked again: another process may have built it while this one waited for the lock.
            return _open(folder) or _build(source, folder, group)
    except OSError as error:
        raise DataError(
            f"cannot write the cache folder {parent}: {error.strerror or error}; "
            "set ONECYCLE_CACHE to a folder that can be written"
        ) from error


def _build(source: Source, folder: Path, group: str) -> CachedArrays:
    """Decode beside the final folder, then rename: a killed builder leaves nothing complete."""
    logger.info("decoding %s into %s", source.text, folder)
    # Under the lock nobody else builds this group, so these are of killed builders.
    for leftover in folder.parent.glob(f"{group}-building-*"):
        shutil.rmtree(leftover)
    work = folder.parent / f"{group}-building-{os.getpid()}"
    work.mkdir()
    try:
        _finish(work, source.text, source.decode(work))
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(work, folder)
    # Ctrl-C, too, must not leave half a data set on the disk.
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    for old in folder.parent.glob(f"{group}-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    built = _open(folder)
    assert built is not None, f"{folder} does not open right after it was built"
    return built


def _finish(work: Path, text: str, decoded: Decoded) -> None:
    """Write meta.json, then have everything on disk before the folder gets its final name."""
    arrays = _load(work)
    meta = {
        "source": text,
        **asdict(decoded),
        "checksum": _checksum(arrays, decoded),
        "arrays": _shapes(work, arrays),
    }
    (work / "meta.json").write_text(json.dumps(meta, indent=1), "utf-8")
    for path in work.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _checksum(arrays: dict[str, NDArray[Any]], decoded: Decoded) -> str:
    checksum = hashlib.sha256(json.dumps(decoded.classes).encode())
    for name in ARRAYS:
        array = np.ascontiguousarray(arrays[name])
        # The same bytes in another shape would be other images.
        checksum.update(f"{name} {array.dtype} {array.shape}".encode())
        checksum.update(array.data if array.size else b"")
    if decoded.n_validation:  # nothing is added for others: studies have stored their checksums
        checksum.update(f"n_validation {decoded.n_validation}".encode())
    return checksum.hexdigest()
