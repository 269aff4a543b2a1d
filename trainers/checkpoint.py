"""The state of an unfinished run in one file, written atomically and verified when read."""

import hashlib
import io
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One run's checkpoint file: a SHA-256 digest, then what torch.save wrote."""

    path: Path

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file by `state` in one step; a kill leaves the old or the new one whole."""
        import torch

        body = io.BytesIO()
        torch.save(dict(state), body)
        data = body.getvalue()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(f".{os.getpid()}.tmp")
        with draft.open("wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the saved state (tensors on the CPU), None where there is no whole file."""
        import torch

        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            log.warning("checkpoint %s is damaged: the run starts over", self.path)
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return state

    def remove(self) -> None:
        """Delete the file and what a killed writer left beside it."""
        self.path.unlink(missing_ok=True)
        for draft in self.path.parent.glob(f"{self.path.stem}.*.tmp"):
            draft.unlink(missing_ok=True)
