"""How a folder of images is laid out: its splits, its classes, their files; nothing is decoded."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainers.errors import DataError
from trainers.images.words import counted, some

PartName = Literal["train", "validation", "test"]
PART_NAMES: dict[str, PartName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
# Of the formats that Pillow reads, those that hold pictures: not .h5, .mpg, .fits or .eps, which
# it knows by name only or with the help of another program.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".avif", ".jp2", ".j2k", ".tga"),
    *(".pcx", ".ico", ".qoi", ".sgi", ".psd"),
)
# What archives and file servers leave behind.
_JUNK_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
LAYOUTS = (
    "train/<class>/* and, if you like, val/<class>/* and test/<class>/*, or one folder of "
    "<class>/*"
)
_OTHERWISE = "labels that are not folders (a CSV, file names) are for trainers.training.Training"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The image files of a folder: by split and, in the order of `classes`, by class.

    `parts` has "train" always; the others where the folder has them. `remarks` say what was
    passed over, and where the folders were found.
    """

    root: Path
    classes: tuple[str, ...]
    parts: Mapping[PartName, Sequence[Sequence[Path]]]
    remarks: tuple[str, ...]

    def labelled(self, part: PartName) -> list[tuple[Path, int]]:
        """Return the files of one split, each with the index of its class."""
        by_class = self.parts.get(part, ())
        return [(path, label) for label, files in enumerate(by_class) for path in files]


@contextmanager
def reading_files() -> Iterator[None]:
    """Raise DataError where a file or folder cannot be read."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


@reading_files()
def existing(folder: Path, *, given_as: str = "--data") -> Path:
    """Return the folder in full; raise DataError where there is none."""
    resolved = folder.expanduser().resolve()
    if resolved.is_file():
        raise DataError(f"{given_as} {folder}: this is a file; give a folder (unpack an archive)")
    if not resolved.is_dir():
        raise DataError(f"{given_as} {folder}: there is no such folder")
    return resolved


@reading_files()
def layout_of(folder: Path, *, given_as: str = "--data") -> Layout:
    """Return how the images below `folder` are laid out; links are followed.

    Raises DataError for a folder that is in none of the `LAYOUTS`, a class that is not in every
    split, and one without images.
    """
    given = existing(folder, given_as=given_as)
    root = _Folder(given).narrowed()
    parts = _parts(root)
    remarks = [] if root.path == given else [f"the class folders lie in {root.path}"]
    if len(parts) > 1 or parts["train"] != root:
        unused = [name for name in root.folders if name.lower() not in PART_NAMES]
        remarks += [f"not used: {some(unused)}"] if unused else []
    classes = _common_classes(parts)
    others = Counter[str]()
    files = {
        name: [_class_files(part.folders[each], others) for each in classes]
        for name, part in parts.items()
    }
    if len(classes) == 1:
        raise DataError(
            f"{parts['train'].path} holds one class only, {classes[0]!r}; at least 2 are needed, "
            f"one folder each; {_OTHERWISE}"
        )
    for part in {part.path: part for part in (root, *parts.values())}.values():
        if part.n_images:
            remarks.append(f"{counted(part.n_images, 'image')} in no class folder: not used")
    remarks += [f"passed over: {_words(others)}"] if others else []
    return Layout(root=root.path, classes=classes, parts=files, remarks=tuple(remarks))


class _Folder:
    """One directory: its sub-folders by name, and how many images lie directly in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders: dict[str, Path] = {}
        self.n_images = 0
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if _is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    # Archives made on a Mac spell the same accent in another way (NFD).
                    self.folders[unicodedata.normalize("NFC", entry.name)] = path / entry.name
                elif is_image_name(entry.name):
                    self.n_images += 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Folder) and self.path == other.path

    __hash__ = None  # type: ignore[assignment]

    def narrowed(self) -> "_Folder":
        """Return the folder that holds the class folders: below one that holds just one folder.

        An archive often unpacks into a folder of its own; `images/` is another habit.
        """
        folder = self
        while len(folder.folders) == 1 and not folder.n_images:
            (below,) = (_Folder(path) for path in folder.folders.values())
            if below.n_images or not below.folders:
                break
            folder = below
        return folder


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name; hidden files are not."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _JUNK_FOLDERS


def _parts(root: _Folder) -> dict[PartName, _Folder]:
    """Return the splits that the folder has; the folder itself as "train" where it has none."""
    named: dict[PartName, list[str]] = {}
    for name in root.folders:
        if name.lower() in PART_NAMES:
            named.setdefault(PART_NAMES[name.lower()], []).append(name)
    for part, names in named.items():
        if len(names) > 1:
            raise DataError(
                f"{root.path} holds {' and '.join(names)}, which all mean {part}; keep one of them"
            )
    parts = {part: _Folder(root.folders[name]) for part, (name,) in named.items()}
    others = [name for name in root.folders if name.lower() not in PART_NAMES]
    if not parts or (others and all(part.n_images for part in parts.values())):
        # "train" may be a class, beside "car" and "plane": its images then lie directly in it.
        return {"train": root}
    if "train" not in parts:
        raise DataError(
            f"{root.path} holds {' and '.join(names[0] for names in named.values())} but no "
            f"train; allowed are {LAYOUTS}"
        )
    # Train first: the others are compared with it.
    in_order = sorted(parts, key=lambda part: part != "train")
    return {part: parts[part].narrowed() for part in in_order}


def _common_classes(parts: Mapping[PartName, _Folder]) -> tuple[str, ...]:
    """Return the sorted names of the class folders, the same in all splits."""
    train = parts["train"]
    for part in parts.values():
        if not part.folders:
            inside = (
                f": {counted(part.n_images, 'image')} {'lies' if part.n_images == 1 else 'lie'} "
                "directly in it"
                if part.n_images
                else ""
            )
            way_on = (
                f"one folder per class is needed, as in {LAYOUTS}; {_OTHERWISE}"
                if part is train
                else "put it away, and such a split is cut from train"
            )
            raise DataError(f"{part.path} holds no class folders{inside}; {way_on}")
        if part.folders.keys() != train.folders.keys():
            raise DataError(
                f"{part.path} must hold the classes of {train.path.name}: "
                f"{difference(list(part.folders), list(train.folders))}; mend it or put it away, "
                "and such a split is cut from train"
            )
    return tuple(sorted(train.folders))


def difference(got: Sequence[str], wanted: Sequence[str]) -> str:
    """Return which names are missing and which are not wanted, as words."""
    missing = sorted(set(wanted) - set(got))
    unknown = sorted(set(got) - set(wanted))
    named = {"missing": missing, "not among them": unknown}
    return "; ".join(f"{words}: {some(names)}" for words, names in named.items() if names)


def _class_files(folder: Path, others: Counter[str]) -> list[Path]:
    """Return the images of one class in sorted order, those of sub-folders too.

    What else lies there is counted in `others` by its suffix.
    """
    here = Counter[str]()
    files = sorted(_walk(folder, here, frozenset()), key=str)
    if not files:
        only = f", only {_words(here)}" if here else ""
        raise DataError(
            f"{folder} holds no images{only}; allowed are {' '.join(IMAGE_SUFFIXES)}; remove the "
            "folder if it is no class"
        )
    others.update(here)
    return files


def _walk(folder: Path, others: Counter[str], above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    stat = folder.stat()
    if (stat.st_dev, stat.st_ino) in above:  # a link to a folder above
        return
    above |= {(stat.st_dev, stat.st_ino)}
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_hidden(entry.name):
                others["hidden"] += 1
            elif entry.is_dir():
                yield from _walk(folder / entry.name, others, above)
            elif is_image_name(entry.name):
                # A dead link, too: it is named as a broken image.
                yield folder / entry.name
            else:
                others[Path(entry.name).suffix.lower() or "without a suffix"] += 1


def _words(others: Counter[str]) -> str:
    by_number = [f"{number} {suffix}" for suffix, number in others.most_common()]
    return f"{counted(others.total(), 'other file')} ({some(by_number)})"
