"""Where a final model is written: looked at before anything is trained, filled in one move."""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from search.errors import UsageError
from search.starting.places import why_unwritable
from trainers.errors import DataError, TaskError
from trainers.final import Facts, digest, facts_file, facts_of
from trainers.run import Saver


@dataclass(frozen=True, slots=True)
class Place:
    """The path of one final model: a file, or a folder where its library writes one."""

    path: Path

    @property
    def key(self) -> str:
        """A short name that no other path has."""
        return hashlib.sha256(str(self.path).encode(errors="surrogatepass")).hexdigest()[:16]

    def check_folder(self) -> None:
        """Raise UsageError where nothing can be written."""
        path, folder = self.path, self.path.parent
        if not folder.is_dir():
            raise UsageError(
                f"--out {path}: there is no folder {folder}; make it, or name another"
            )
        reason = why_unwritable(folder)
        if reason is not None:
            raise UsageError(f"--out {path}: {folder} cannot be written ({reason}); name another")

    def check(self, *, force: bool) -> None:
        """Raise UsageError where something is in the way, and `force` is needed or no help."""
        path, taken = self.path, self.taken()
        if taken and path.is_dir() and self.facts() is None:
            raise UsageError(f"--out {path}: is a folder of something else; name another")
        if taken and not force:
            raise UsageError(f"--out {path}: {taken}; name another, or overwrite it with --force")

    def taken(self) -> str:
        """Return what is there already, in words; empty where nothing is."""
        if os.path.lexists(self.path):
            facts = self.facts()
            if facts is None:
                return "is there already"
            return f"holds a model of study {facts.study!r} (slot {facts.slot}) already"
        # A kill between two moves may leave the facts of a model alone.
        beside = facts_file(self.path)
        if beside.exists() and _read(self.path) is None:
            return f"its facts would overwrite {beside.name}"
        return ""

    def facts(self) -> Facts | None:
        """Return the facts of the whole model that is there, None where none is."""
        facts = _read(self.path) if self.path.exists() else None
        with suppress(OSError):
            if facts is not None and facts.sha256 == digest(self.path):
                return facts
        return None


def _read(path: Path) -> Facts | None:
    try:
        return facts_of(path)
    except DataError:
        return None


class Draft:
    """A model on its way: written beside its place, and moved there once its score is known."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.folder = place.path.with_name(f".{place.path.name}.draft")
        self.path = self.folder / place.path.name

    @property
    def is_there(self) -> bool:
        """Whether the training has offered its model."""
        return self.path.exists()

    def take(self, save: Saver) -> None:
        """Let a training write its model."""
        self.drop()  # of an owner that was killed in between
        self.folder.mkdir()
        save(self.path)
        if not self.path.exists():
            wrote = ", ".join(sorted(each.name for each in self.folder.iterdir())) or "nothing"
            raise TaskError(
                f"run.trained(save): save(path) must write the model at path "
                f"({self.path.name}), it wrote {wrote}"
            )

    def put(self, facts: Facts, *, force: bool) -> Facts:
        """Move the model to its place with its facts; return these with the digest."""
        self.place.check(force=force)  # something may have come there meanwhile
        facts = replace(facts, sha256=digest(self.path))
        beside = facts_file(self.path)
        beside.write_text(facts.text(), encoding="utf-8")
        for file in (beside, self.path):
            if file.is_file():
                _sync(file)
        target, old = self.place.path, self.folder / "old"
        if target.is_dir() or (self.path.is_dir() and target.exists()):
            target.rename(old)
        # The facts first: alone they are of no model, and the next start writes both.
        if not self.path.is_dir():
            beside.replace(facts_file(target))
        self.path.replace(target)
        self.drop()
        return facts

    def drop(self) -> None:
        """Remove what is on its way."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _sync(file: Path) -> None:
    """Make what was written last through a power cut."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
