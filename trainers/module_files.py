"""A Python file of the user's as a module: a study, or the model of one."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def module_of(path: Path, name: str) -> ModuleType:
    """Return a new module of a file under a name, known to all but not run yet (run_module).

    Modules beside the file can be imported by it.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    if str(path.parent) not in sys.path:
        # At the end: a file beside it that is named like a package must not hide that package.
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look up their module there
    return module


def run_module(module: ModuleType) -> None:
    """Run the file of a module; what it raises, SystemExit too, is the caller's to tell."""
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    module.__spec__.loader.exec_module(module)
