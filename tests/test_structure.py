"""The map of the house is true: what it names is there, and every room is on it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAP = (ROOT / "docs" / "structure.md").read_text()
PACKAGES = ("search", "studies", "trainers")


def named_paths(text: str) -> list[str]:
    """Return what stands in backticks and looks like a path of this repository."""
    return [each for each in re.findall(r"`([\w./]+)`", text) if "/" in each or ".py" in each]


def is_there(path: str) -> bool:
    """Whether a path is one of the repository, from its root or from a room of a package."""
    pattern = f"**/{path.strip('/')}"
    rooms_with_it = (place for package in PACKAGES for place in (ROOT / package).glob(pattern))
    return (ROOT / path).exists() or next(rooms_with_it, None) is not None


def rooms(package: str) -> list[Path]:
    """Return the modules and folders at the first level of a package."""
    return [
        path
        for path in sorted((ROOT / package).iterdir())
        if not path.name.startswith("__") and (path.is_dir() or path.suffix == ".py")
    ]


@pytest.mark.parametrize("document", ["docs/structure.md", "CONTRIBUTING.md"])
def test_each_path_that_a_document_names_is_there(document: str) -> None:
    named = named_paths((ROOT / document).read_text())
    assert named
    missing = [path for path in named if not is_there(path)]
    assert missing == []


@pytest.mark.parametrize("package", ["search", "studies"])
def test_each_room_of_a_package_is_on_the_map(package: str) -> None:
    section = MAP.split(f"### `{package}/`")[1].split("\n### ")[0].split("\n## ")[0]
    absent = [
        room.name
        for room in rooms(package)
        if f"`{room.name}`" not in section and f"`{room.name}/`" not in section
    ]
    assert set(absent) <= {"errors.py", "mounts.py"}


def test_the_rooms_of_search_are_layers_of_the_import_contract_in_the_order_of_the_map() -> None:
    contract = (ROOT / "pyproject.toml").read_text().split("what is done knows nothing")[1]
    layers = re.findall(r'^  "(\w+)",$', contract.split("]")[1], flags=re.M)
    section = MAP.split("### `search/`")[1].split("### `studies/`")[0]
    on_the_map = [
        name
        for row in re.findall(r"^\| (`[^|]*) \|", section, flags=re.M)
        for name in re.findall(r"`(\w+)(?:\.py|/)`", row)
    ]
    assert [name for name in on_the_map if name in layers] == layers


def test_at_least_twelve_changes_say_which_files_to_open() -> None:
    table = MAP.split("## To change X, open Y")[1]
    assert len(re.findall(r"^\| (?!to change|---)", table, flags=re.M)) >= 12


def test_a_room_opens_with_one_sentence() -> None:
    for package in PACKAGES:
        for folder in (ROOT / package).rglob("__init__.py"):
            if "migrations" not in folder.parts:
                text = folder.read_text().strip()
                assert re.fullmatch(r'"""[^"]+\."""', text), folder
