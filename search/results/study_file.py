"""A stored study as a study file: saved and run under its name, it resumes the study."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from search.text import printable, shell_line
from studies.errors import StudyError
from studies.flags import is_written_by_us, source_of_fields
from studies.made_of import code_fields, is_of_object
from studies.registry import command_words
from studies.tables import StudyRow

_COOKIE = re.compile(r"coding[:=][ \t]*[-\w.]+")


def study_file(row: StudyRow) -> tuple[str, tuple[str, ...]]:
    """Return the text of the file, and in lines what has to stand beside it.

    Raises StudyError for a study that was made of an object, whose values are not all stored.
    """
    source = _of_object(row) if is_of_object(row.source) else row.source
    run = shell_line("python", "-m", "search.run", "--study", "FILE.py", "--name", row.name)
    head = f"# Study {printable(row.name)}; saved as FILE.py it is resumed by:\n#   {run}\n"
    return head + _in_utf8(source), tuple(_notes(source, row.spec))


def _of_object(row: StudyRow) -> str:
    own = sorted(code_fields(row.source))
    try:
        if own:
            raise StudyError(f"it uses {_few(own)}, which are not stored as code")
        return source_of_fields(row.name, row.declared)
    except StudyError as error:
        raise StudyError(
            f"study {row.name!r} was made of a Study object of a program, and {error}: copy the "
            "cells into a file that ends in STUDY = Study(...), as `onecycle new mine.py` writes "
            "one, and give it a --name of its own"
        ) from None


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _in_utf8(source: str) -> str:
    """Return source as it is written in UTF-8: a declaration of another encoding gives way."""
    first, second, rest = [*source.split("\n", 2), "", ""][:3]
    lines = [
        _COOKIE.sub("coding: utf-8", line) if line.lstrip().startswith("#") else line
        for line in (first, second)
    ]
    return "\n".join([*lines, rest]) if "\n" in source else source


def _notes(source: str, spec: str) -> Iterator[str]:
    if "ImageFolder(" in source and "path=" not in source:
        yield "its images come from --data FOLDER, which goes with the command"
    tree = ast.parse(source)
    if is_written_by_us(tree) or not spec:
        return
    folder = Path(command_words(spec)[1]).parent
    beside = sorted({name for name in _imported(tree) if _lies_in(folder, name)})
    if beside and folder.is_absolute():
        yield f"it imports {', '.join(beside)} of {folder}: save it there"


def _imported(tree: ast.Module) -> list[str]:
    nodes = list(ast.walk(tree))
    names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return [name.partition(".")[0] for name in names]


def _lies_in(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
