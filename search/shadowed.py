"""Whether a folder of the user's own hides one of our packages: looked at before they are used.

`python -m search.run` puts the working directory before all that is installed, so that a folder
`trainers` there is found in place of ours. The installed program `onecycle` does not.
"""

import importlib.util
import sys
from pathlib import Path

OURS = ("search", "studies", "trainers")
_EXIT_USER_ERROR = 2  # search.errors imports trainers, which may be the hidden one


def check_packages() -> None:
    """End with exit code 2 and one line where studies or trainers is another one than ours."""
    for name in OURS:
        other = found_elsewhere(name)
        if other is not None:
            print(f"error: {hidden_text(name, other)}", file=sys.stderr)
            sys.exit(_EXIT_USER_ERROR)


def hidden_text(name: str, other: Path) -> str:
    """Return what is hidden by what, and the ways on, in one line."""
    return (
        f"{other} hides our package {name!r}, because `python -m` looks in the working directory "
        "first; start it as `onecycle run ...`, which works from anywhere, start it in another "
        "folder, or rename yours"
    )


def found_elsewhere(name: str) -> Path | None:
    """Return what an import of this package would find; None where that is ours."""
    root = Path(__file__).resolve().parent.parent
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:  # a folder without __init__.py: ours comes first
        return None
    origin = Path(spec.origin).resolve()
    if origin == root / name / "__init__.py":
        return None
    return origin.parent if origin.name == "__init__.py" else origin


def own_in(folder: Path) -> list[Path]:
    """Return what in a folder hides one of our packages where `python -m` is started in it."""
    root = Path(__file__).resolve().parent.parent
    if folder.resolve() == root:
        return []
    places = (place for name in OURS for place in (folder / name, folder / f"{name}.py"))
    return [p for p in places if p.is_file() or (p / "__init__.py").is_file()]
