"""The versions that train and choose in this process."""

import importlib.metadata
import platform

PACKAGES = ("onecycle-search", "torch", "optuna")


def versions() -> dict[str, str]:
    """Return the versions that train and choose in this process."""
    by_name = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            by_name[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            by_name[name] = "not installed as a package"
    return by_name
