"""Libraries that come with an extra of this package."""

import importlib
from types import ModuleType

from trainers.errors import TaskError


def needed(module: str, *, extra: str) -> ModuleType:
    """Return the module, imported; raise TaskError with the pip command where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # Another one that it needs in turn is a broken installation, told as Python tells it.
        if error.name is None or not module.startswith(error.name):
            raise
        raise TaskError(
            f"{error.name} is not installed; pip install 'onecycle-search[{extra}]'"
        ) from error
