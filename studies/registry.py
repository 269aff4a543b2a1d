"""A study's name or path -> its definition and source."""

import importlib
import importlib.util
import shlex
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from studies.definition import Study
from studies.errors import StudyError, StudyFileError, UnknownStudyError
from studies.flags import Flags, setting, word_of
from studies.given import unexpected_argument
from studies.settings import Settings, changing, with_settings
from trainers.given import what
from trainers.module_files import module_of, run_module

BUNDLED = ("digits", "cifar-small", "cifar")


@dataclass(frozen=True, slots=True)
class Definition:
    """A loaded study: the object, the text of its file, and what loads it again."""

    study: Study
    source: str
    spec: str


def load(spec: str) -> Definition:
    """Return the bundled study named `spec`, or the STUDY of the Python file at that path.

    A spec that begins with a dash holds flags: those of a study without a file, or --study with
    --set. Raises UnknownStudyError for a name or path that is not there, StudyFileError (file,
    line) for a file that does not load, StudyError for flags that mean no study.
    """
    if not spec.startswith("-"):
        return _loaded(spec)
    words, settings = _split(shlex.split(spec))
    definition = _loaded(words[1]) if words[:1] == ["--study"] else of_flags(Flags.of(words))
    return with_set(definition, settings)


def of_flags(flags: Flags) -> Definition:
    """Return the study that flags mean; raise StudyError for values that are not allowed."""
    names: dict[str, Any] = {"__name__": "onecycle_study"}
    try:
        source = flags.source()
        exec(compile(source, "<a study without a file>", "exec"), names)
    except (ValueError, TypeError, NameError) as error:  # NameError: a number that is nan
        raise StudyError(" ".join(str(error).split())) from error
    study: Study = names["STUDY"]
    return Definition(study, source, shlex.join(flags.words()))


def with_set(definition: Definition, settings: Settings) -> Definition:
    """Return the definition with other values in some fields, which its source then says."""
    study = definition.study
    changed = changing(study, settings)
    if not changed:
        return definition
    spec, source = definition.spec, definition.source
    spec = spec if spec.startswith("-") else shlex.join(["--study", spec])
    told = [f"{name}={word_of(value)}" for name, value in changed.items()]
    sets = [word for each in told for word in ("--set", each)]
    return Definition(
        with_settings(study, changed),
        f"{source.rstrip()}\n\n{_SET.format(changed)}",
        f"{spec} {shlex.join(sets)}",
    )


_SET = """\
from studies.settings import with_settings

STUDY = with_settings(STUDY, {!r})
"""


def command_words(spec: str) -> list[str]:
    """Return the words of a command line that name a definition again."""
    if not spec.startswith("-"):
        return ["--study", spec]
    words = shlex.split(spec)
    if "--n-classes" in words:  # the folder says it
        at = words.index("--n-classes")
        del words[at : at + 2]
    return words


def own_name(spec: str) -> str:
    """Return the name that a definition gives a study, '' where only its file knows it."""
    if not spec.startswith("-"):
        return spec if spec in BUNDLED else ""
    words, _ = _split(shlex.split(spec))
    return own_name(words[1]) if words[:1] == ["--study"] else Flags.of(words).name


def _split(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the words without --set, and what it sets."""
    rest, settings = list[str](), dict[str, Any]()
    each = iter(words)
    for word in each:
        if word == "--set":
            name, value = setting(next(each, ""), "--set")
            settings[name] = value
        else:
            rest.append(word)
    return rest, settings


def _loaded(spec: str) -> Definition:
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
            f"no study named {spec!r}; known: {', '.join(BUNDLED)}, or the path of a .py file; "
            "without a file: --data FOLDER --model MODULE:NAME"
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
    module = module_of(path, f"onecycle_study_{path.stem}")
    try:
        run_module(module)
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
        reason += _if_ours(error, path.parent)
        raise StudyFileError(f"{path}, line {line}: {reason}") from error
    return module


def _if_ours(error: BaseException, folder: Path) -> str:
    """Return what to do where a study file means a package of its author's named as ours."""
    top = (getattr(error, "name", None) or "").partition(".")[0]
    if top not in ("search", "studies", "trainers"):
        return ""
    if not ((folder / top).is_dir() or (folder / f"{top}.py").is_file()):
        return ""
    return f"; {top} is a package of ours here, and hides your own in {folder}: rename yours"
