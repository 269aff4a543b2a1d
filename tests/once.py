"""Folders that the processes of one session share, so that what is dear is made once."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(name: str, make: Callable[[Path], None], folders: pytest.TempPathFactory) -> Path:
    """Return a folder that the first process to ask has filled; the others wait for it."""
    base = folders.getbasetemp()
    # pytest-xdist gives each of its processes a folder within that of the session.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / f"once-{name}"
    made = shared / f"once-{name}.made"
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            # What is made keeps its own path, so that it cannot be moved here when it is whole.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder
