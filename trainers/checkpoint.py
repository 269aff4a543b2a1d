"""The state of an unfinished run on disk: written atomically, verified when read."""

import glob
import hashlib
import io
import logging
import os
import pickle
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from trainers.errors import CheckpointError

log = logging.getLogger(__name__)

# The digest stands first, so that a file cut short is known before anything is unpickled.
_DIGEST_BYTES = hashlib.sha256().digest_size
_ALLOWED = "tensors, numbers, text, None, and lists, tuples and dicts of these"


@dataclass(slots=True)
class Checkpoint:
    """One run's checkpoint: a SHA-256 digest, then what torch.save wrote; and the one before it.

    `expected`: an earlier owner had the run, so a missing checkpoint is logged. A folder
    that cannot be used stops no training: the next owner of the run starts over, and says so.
    """

    path: Path
    expected: bool = False
    _is_whole: bool = field(default=False, init=False, repr=False, compare=False)
    _is_readable: bool = field(default=False, init=False, repr=False, compare=False)
    _has_warned: bool = field(default=False, init=False, repr=False, compare=False)

    @property
    def previous(self) -> Path:
        """The file of the state before the last one."""
        return self.path.with_name(f"{self.path.stem}.previous{self.path.suffix}")

    def save(self, state: Mapping[str, Any]) -> None:
        """Write `state`; a kill at any moment leaves it or the state before it whole.

        Raises CheckpointError where `state` holds what load() would not read back.
        """
        data = self._serialized(state)
        try:
            self._write(data)
        except OSError as error:
            self._warn(
                "checkpoint folder %s cannot be written: %s; training continues without, "
                "a new owner starts over",
                self.path.parent,
                _words(error),
            )

    def load(self) -> dict[str, Any] | None:
        """Return the last whole state (tensors on the CPU), None where the run starts over."""
        last, fault = _read(self.path)
        self._is_whole = last is not None
        if last is not None:
            return last
        before, fault_before = _read(self.previous)
        if before is not None:
            fault = fault or "is not there"
            log.warning("checkpoint %s %s: the run resumes from the one before", self.path, fault)
        elif fault or fault_before:
            wrong = ((self.path, fault), (self.previous, fault_before))
            faults = ", ".join(f"{path} {what}" for path, what in wrong if what)
            log.warning("checkpoint %s: the run starts over", faults)
        elif self.expected:
            log.info("no checkpoint at %s: the run starts over", self.path)
        return before

    def remove(self) -> None:
        """Delete both files, what killed writers left beside them, and the folder once empty."""
        folder, drafts = self.path.parent, f"{glob.escape(self.path.stem)}.*.tmp"
        try:
            for file in (self.path, self.previous, *folder.glob(drafts)):
                file.unlink(missing_ok=True)
        except OSError as error:
            self._warn("checkpoint %s cannot be removed: %s", self.path, _words(error))
        with suppress(OSError):  # it holds the checkpoints of other runs, or is not there
            folder.rmdir()

    def _serialized(self, state: Mapping[str, Any]) -> bytes:
        """Return the bytes of `state`; the first time they are read back as load() would."""
        import torch

        body = io.BytesIO()
        try:
            torch.save(dict(state), body)
            # Once a run: its later states are made of the same classes.
            if not self._is_readable:
                torch.load(io.BytesIO(body.getvalue()), map_location="cpu", weights_only=True)
        except (pickle.PickleError, AttributeError, TypeError) as error:
            raise CheckpointError(
                f"a checkpoint cannot hold {_culprit(body, error)}; allowed: {_ALLOWED}"
            ) from error
        self._is_readable = True
        return body.getvalue()

    def _write(self, data: bytes) -> None:
        """Put `data` in the place of the last state, and the last state in that of the previous.

        A last state that is damaged, or was never looked at, replaces no previous one.
        """
        # A name of its own: an owner that lost its lease may still write while the next one does.
        draft = self.path.with_name(f"{self.path.stem}.{uuid.uuid4().hex}.tmp")
        try:
            with _created(draft) as file:
                file.write(hashlib.sha256(data).digest())
                file.write(data)
                file.flush()
                # Before the rename: a power cut could leave a name without data (man 2 fsync).
                os.fsync(file.fileno())
            # Between the two renames only the previous file has its name, and load() takes it.
            if self._is_whole:
                with suppress(FileNotFoundError):  # another owner is between its two renames
                    self.path.replace(self.previous)
            draft.replace(self.path)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        self._is_whole = True
        _sync_folder(self.path.parent)

    def _warn(self, text: str, *values: object) -> None:
        if not self._has_warned:
            log.warning(text, *values)
        self._has_warned = True


def _created(file: Path) -> BinaryIO:
    """Open a new file; make its folder, again if the end of another run removes it meanwhile."""
    # remove() of another run may take the folder away between the two lines. Ten times in a row is
    # not that any more, and the last try raises.
    for _ in range(10):
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return file.open("xb")
    return file.open("xb")


def _sync_folder(folder: Path) -> None:
    """Make the new names last through a power cut, where the file system can."""
    with suppress(OSError):
        # fsync of a file does not cover its name in the folder (man 2 fsync).
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _read(file: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the state in a file, or None and what is wrong with it ('' where it is not there)."""
    import torch

    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"cannot be read ({_words(error)})"
    digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        return None, "is damaged"
    try:
        # weights_only: unpickling runs whatever a file holds, and the folder may be shared.
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for bytes that it did not write
        return None, f"holds no state ({type(error).__name__})"
    return (state, "") if isinstance(state, dict) else (None, "holds no state")


def _culprit(body: io.BytesIO, error: Exception) -> str:
    """Return what cannot be stored: the classes by name, else the error's first line."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    if isinstance(error, pickle.UnpicklingError):
        return ", ".join(sorted(get_unsafe_globals_in_checkpoint(io.BytesIO(body.getvalue()))))
    return f"this state ({str(error).partition(chr(10))[0]})"


def _words(error: OSError) -> str:
    return error.strerror or str(error)
