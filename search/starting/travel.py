"""How a Study object reaches other processes: pickled by value into a file without a name.

Only processes that this program starts can open that file, and nothing of it is left behind when
they have ended. It never goes through the database: what is read there is not trusted, and to
unpickle is to run code.
"""

import importlib.util
import mmap
import os
import pickle
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from search.errors import UsageError
from studies.parts import parts_of
from studies.registry import Definition

_DEEPEST = 20


def why_it_stays(definition: Definition) -> str | None:
    """Return why a Study object cannot travel to worker processes; None if it can."""
    if importlib.util.find_spec("cloudpickle") is None:
        return (
            "a Study object travels to worker processes by the package cloudpickle; "
            "pip install 'onecycle-search[notebook]', give the path of a study file"
        )
    error = _why_not_pickled(definition.study)
    return None if error is None else _told(definition, error)


def can_travel(definition: Definition) -> bool:
    """Whether worker processes can have the definition: by its file, or by pickle."""
    return bool(definition.spec) or why_it_stays(definition) is None


@contextmanager
def packed(definition: Definition) -> Iterator[IO[bytes] | None]:
    """Give an open file with a Study object in it; None where a study file is loaded again."""
    if definition.spec:
        yield None
        return
    import cloudpickle

    with tempfile.TemporaryFile() as file:
        # First: what the study imports must be found before the study is read.
        pickle.dump(sys.path, file)
        cloudpickle.dump(definition, file)
        file.flush()
        yield file


def unpacked(descriptor: int) -> Definition:
    """Return the definition that packed() wrote, from the open file that was inherited.

    Raises UsageError where it does not load in this process.
    """
    # Mapped, not read: all workers share the place in the file that reading would move.
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as file:
        os.close(descriptor)
        # At the end: a file that is named like a package must not hide that package.
        sys.path += [each for each in pickle.load(file) if each not in sys.path]
        try:
            definition: Definition = pickle.load(file)
        except Exception as error:
            raise UsageError(
                f"the Study object does not load in a worker process: "
                f"{type(error).__name__}: {error}; pass workers=1"
            ) from error
    return definition


class _Nowhere:
    """A file that keeps nothing: to learn whether something can be written."""

    def write(self, data: Any) -> int:
        return len(data)


def _why_not_pickled(value: Any) -> Exception | None:
    import cloudpickle

    try:
        cloudpickle.dump(value, _Nowhere())
    except Exception as error:  # whatever an object's own __reduce__ raises
        return error
    return None


def _told(definition: Definition, error: Exception) -> str:
    """Say in one line which object cannot travel, and the way on."""
    name, value, error = _culprit(definition.study, error)
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    reason = " ".join(str(error).split())
    return (
        f"the study uses {name}, a {kind}, which cannot travel to another process ({reason}): "
        "make it inside the function that uses it"
    )


def _culprit(study: Any, error: Exception) -> tuple[str, Any, Exception]:
    """Return the innermost part that cannot be pickled, by its name, and why not."""
    name, value, seen = "", study, {id(study)}
    for _ in range(_DEEPEST):
        for label, part in parts_of(name, value):
            reason = None if id(part) in seen else _why_not_pickled(part)
            if reason is not None:
                name, value, error = label, part, reason
                seen.add(id(part))
                break
        else:
            break
    return name or "an object", value, error
