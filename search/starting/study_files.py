"""New study files: one for each kind of training, which runs as it is and says what to replace."""

from importlib.resources import files
from pathlib import Path

from search.errors import UsageError
from search.text import shell_line
from studies.definition import check_name

KINDS = ("training", "lightning", "transformers", "images")


def write_study_file(path: Path, kind: str) -> None:
    """Write a study file of that kind; it names its study after the file.

    Raises UsageError for a path that is no new .py file in a folder that is there.
    """
    if path.suffix != ".py":
        raise UsageError(f"{path}: a study file ends in .py")
    try:
        check_name(path.stem)
    except ValueError as error:
        raise UsageError(f"{path}: the study is named after the file, and its {error}") from None
    template = files("search.starting").joinpath("templates", f"{kind}.py.txt").read_text()
    text = template.replace("NAME", path.stem).replace("FILE", shell_line(str(path)))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already, and is left as it is: name another") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
