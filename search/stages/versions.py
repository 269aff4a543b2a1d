"""The versions that train and choose in this process."""

import importlib.metadata
import platform

PACKAGES = ("onecycle-search", "torch", "optuna")


def versions() -> dict[str, str]:
    """Return the versions that train and choose in this process."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
