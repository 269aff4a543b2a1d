"""CIFAR-10: its own files, read and downloaded through torchvision, or the same as images."""

import io
import socket
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError

from trainers.errors import DataError
from trainers.images.cache import Decoded
from trainers.images.layout import PartName, difference, existing, layout_of, reading_files
from trainers.images.pixels import Form
from trainers.images.sources import PARTS, TreeSource, fingerprint_of, save_part
from trainers.images.words import one_line

CIFAR10_SIZE = 32
# The order of their labels is that of the alphabet, so that sorted folders get the same labels.
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
# torchvision's CIFAR10.tgz_md5, written out so that a fingerprint needs no import of torch.
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_LAYOUTS = (
    f"{CIFAR10_FOLDER}/ (the original files) or train/<class>/* and test/<class>/* (images)"
)
# Of a silent connection, not of the whole download: without one urllib waits forever.
DOWNLOAD_TIMEOUT_S = 60.0


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
        return CIFAR10_MD5 if self.download else fingerprint_of(self.root, [CIFAR10_FOLDER])

    def is_here(self) -> bool:
        """Whether the archive or its unpacked folder lies in `root`; neither is read."""
        return any((self.root / name).exists() for name in (CIFAR10_ARCHIVE, CIFAR10_FOLDER))

    def decode(self, into: Path) -> Decoded:
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
                save_part(into, part, dataset.data, dataset.targets)
        return Decoded(classes=tuple(dataset.classes))


def cifar10_source(folder: Path | None, cache: Path) -> Cifar10Source | TreeSource:
    """CIFAR-10 in `folder`, in either layout, or downloaded below `cache` when that is None."""
    if folder is None:
        return Cifar10Source(root=cache.expanduser().absolute() / "cifar-10", download=True)
    root = existing(folder)
    if (root / CIFAR10_FOLDER).is_dir():
        return Cifar10Source(root=root, download=False)
    if all((root / part).is_dir() for part in PARTS):
        return _tree_source(root)
    raise DataError(f"{root} must hold {CIFAR10_LAYOUTS}")


def _tree_source(root: Path) -> TreeSource:
    """CIFAR-10 as images, recognised by its ten classes; none is resized."""
    layout = layout_of(root)
    if layout.classes != CIFAR10_CLASSES:
        raise DataError(
            f"{root / 'train'} must hold the ten classes of CIFAR-10: "
            f"{difference(layout.classes, CIFAR10_CLASSES)}"
        )
    both: dict[PartName, Sequence[Sequence[Path]]] = {
        "train": layout.parts["train"],
        "test": layout.parts["test"],
    }
    return TreeSource(
        layout=replace(layout, parts=both),
        form=Form(size=CIFAR10_SIZE, exact=True),
        name="cifar-10-images",
    )


def _must_be_original(folder: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
        with reading_files():
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
    # torchvision lets the errors of urllib, tarfile and zlib through; RuntimeError is its own word
    # for a file with another md5.
    except (OSError, EOFError, RuntimeError, HTTPException, TarError, zlib.error) as error:
        corrupt = f"the file is not the original with md5 {CIFAR10.tgz_md5}"
        reason = corrupt if isinstance(error, RuntimeError) else one_line(error)
        raise DataError(
            f"cannot download CIFAR-10 from {CIFAR10.url}: {reason}; put {CIFAR10.filename} into "
            f"{root} by hand, or give --data FOLDER that holds {CIFAR10_LAYOUTS}; "
            "--study digits needs no download"
        ) from error


@contextmanager
def _quiet_network() -> Iterator[None]:
    """Nothing on stdout, a bar on a terminal only, and no endless wait for a silent server."""
    # torchvision prints to stdout, which belongs to results.
    bar = sys.stderr if sys.stderr.isatty() else io.StringIO()
    timeout_s = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        with redirect_stdout(bar), redirect_stderr(bar):
            yield
    finally:
        socket.setdefaulttimeout(timeout_s)
