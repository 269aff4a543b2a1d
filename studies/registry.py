"""A study's name or path -> its definition and source."""

import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from studies.definition import Study
from studies.errors import StudyFileError, UnknownStudyError
from studies.given import unexpected_argument
from trainers.given import what

BUNDLED = ("digits", "cifar-small", "cifar")


@dataclass(frozen=True, slots=True)
class Definition:
    """A loaded study: the object, the text of its file, and what loads it again."""

    study: Study
    source: str
    spec: str


def load(spec: str) -> Definition:
    """Return the bundled study named `spec`, or the STUDY of the Python file at that path.

    Raises UnknownStudyError for a name or path that is not there, StudyFileError (file, line)
    for a file that does not load.
    """
    if spec in BUNDLED:
        module = importlib.import_module(f"studies.{spec.replace('-', '_')}")
        assert module.__file__ is not None
        path = Path(module.__file__)
    elif spec.endswith(".py"):
        path = Path(spec).expanduser().resolve()
        if not path.is_file():
            raise UnknownStudyError(f"no study file at {path}")
        module, spec = _module_at(path), str(path)
    else:
        raise UnknownStudyError(
            f"no study named {spec!r}; known: {', '.join(BUNDLED)}, or the path of a .py file"
        )
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise StudyFileError(f"{path}: {_no_study(vars(module))}")
    # As Python itself reads it, with the file's own declaration of its encoding (PEP 263).
    return Definition(study, importlib.util.decode_source(path.read_bytes()), spec)


def _no_study(names: dict[str, object]) -> str:
    """Return why a study file has no study, and what to write."""
    if "STUDY" not in names:
        others = [name for name, value in names.items() if isinstance(value, Study)]
        call = f"; {others[0]} is one: call it STUDY" if others else ""
        return f"no STUDY = Study(...) in it{call}"
    given = names["STUDY"]
    several = "; a file holds one study" if isinstance(given, (list, tuple, dict)) else ""
    return f"no STUDY = Study(...) in it, got STUDY = {what(given)}{several}"


def _module_at(path: Path) -> ModuleType:
    """Import the file at `path`; modules beside it can be imported by it."""
    name = f"onecycle_study_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    if str(path.parent) not in sys.path:
        # At the end: a file beside it that is named like a package must not hide that package.
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(module_spec)
    # Before it runs: dataclasses look up their module there.
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except SyntaxError as error:
        where = f"{error.filename or path}, line {error.lineno or '?'}"
        raise StudyFileError(f"{where}: {error.msg}") from error
    # A script that calls exit() when it is imported must not end our process without a word.
    except (Exception, SystemExit) as error:
        line = next(
            (
                f.lineno
                for f in reversed(traceback.extract_tb(error.__traceback__))
                if f.filename == str(path)
            ),
            "?",
        )
        told = unexpected_argument(error, vars(module)) if isinstance(error, TypeError) else None
        reason = " ".join((told or f"{type(error).__name__}: {error}").split())
        raise StudyFileError(f"{path}, line {line}: {reason}") from error
    return module
