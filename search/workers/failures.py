"""Failures told apart: of a run, or of the place where it ran; never of the configuration."""

import re

from search.queue.work import FailureKind
from trainers.errors import DataError, UserError

_KILLED_LOADER = re.compile(r"DataLoader worker .* killed by signal")


def failure_kind(error: Exception) -> FailureKind | None:
    """Return what an exception says about an attempt: nothing about the configuration, ever.

    None for what the user must fix, unless that is the data. torch raises OutOfMemoryError for
    GPUs, and a RuntimeError of its CPU allocator.
    """
    import torch
    from PIL import UnidentifiedImageError

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "CPUAllocator" in str(error):
        return "memory"
    if isinstance(error, (DataError, UnidentifiedImageError)):
        return "data"
    if isinstance(error, UserError):
        return None
    if isinstance(error, OSError) or _KILLED_LOADER.search(str(error)):
        return "infrastructure"
    return "bug"
