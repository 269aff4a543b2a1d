"""Where a start writes files, really tried before anything is trained."""

import tempfile
from pathlib import Path

from trainers.device import cache_folder, checkpoint_folder
from trainers.errors import UserError

# More than a file system packs into an inode or rounds up to a block, so that a full disk shows.
_PROBE_BYTES = 64 * 1024

FOLDERS = ("ONECYCLE_CACHE", "ONECYCLE_CHECKPOINTS")
"""The variables that name the folders; a page's place is a flag."""


def why_unwritable(folder: Path) -> str | None:
    """Return why no file can be written in `folder` or, if it is not there, made; None if it can.

    A file is written and gone again. Permission bits alone say too little: they do not hold for
    root, and know nothing of a read-only mount, a quota or a full disk.
    """
    above = nearest(folder)
    if not above.is_dir():
        return "it is no folder" if above == folder.absolute() else f"{above} is no folder"
    try:
        with tempfile.TemporaryFile(dir=above) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def nearest(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(above for above in (path, *path.parents) if above.exists())


def folder_of(variable: str) -> Path:
    """Return the folder that one of FOLDERS names, or its default."""
    cache = cache_folder()
    return cache if variable == "ONECYCLE_CACHE" else checkpoint_folder(cache)


def unwritable_text(folder: Path, variable: str, reason: str) -> str:
    """Say that a folder cannot be written, and the way on."""
    return f"{folder} cannot be written ({reason}): set {variable} to a folder that can"


def check_folders() -> None:
    """Make the folders of cache and checkpoints; raise UserError where one cannot be written."""
    for variable in FOLDERS:
        folder = folder_of(variable)
        reason = why_unwritable(folder)
        if reason is None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = error.strerror or str(error)
        if reason is not None:
            raise UserError(unwritable_text(folder, variable, reason))


def check_file(file: Path, *, flag: str) -> None:
    """Raise UserError where a file that will be written in the end cannot be."""
    reason = "it is a folder" if file.is_dir() else why_unwritable(file.parent)
    if reason is not None:
        raise UserError(f"{flag} {file}: no file can be written there ({reason}); name another")
