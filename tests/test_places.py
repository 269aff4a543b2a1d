"""Places that cannot be written are found before anything is trained, by really writing there."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from search.starting.places import why_unwritable
from tests.conftest import TABLE_STUDY, Ended

pytestmark = pytest.mark.first_start

Main = Callable[..., Ended]


@pytest.fixture(params=["below a file", "full", "read-only"])
def unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder in which no file can be written, for root neither."""
    if request.param == "below a file":
        (tmp_path / "file").write_text("")
        yield tmp_path / "file" / "folder"
        return
    folder = tmp_path / "mounted"
    folder.mkdir()
    mounted = _call("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    if not mounted:
        pytest.skip("only root may mount")
    try:
        if request.param == "full":
            with (folder / "filling").open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(2**16))
        else:
            assert _call("mount", "-o", "remount,ro", str(folder))
        yield folder
    finally:
        _call("umount", str(folder))


def _call(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def refused(ended: Ended, *words: str) -> None:
    assert ended.code == 2, ended
    (line,) = ended.err.splitlines()
    for word in words:
        assert word in line


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("variable", ["ONECYCLE_CACHE", "ONECYCLE_CHECKPOINTS"])
def test_an_unwritable_folder_is_found_before_anything_is_trained(
    variable: str,
    workers: int,
    unwritable: Path,
    tmp_path: Path,
    main_here: Main,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TABLE_LEDGER", str(tmp_path / "ledger"))
    monkeypatch.setenv(variable, str(unwritable))
    storage = ("--storage", f"sqlite:///{tmp_path}/studies.db")
    ended = main_here("run", "--study", str(TABLE_STUDY), *storage, "--workers", str(workers))
    refused(ended, f"error: {unwritable} cannot be written (", f"set {variable} to a folder")
    assert not (tmp_path / "ledger").exists(), "not even the warm-up was trained"
    doctor = main_here("doctor", *storage, "--device", "cpu")
    assert doctor.code == 2
    assert " to do " in doctor.out


def test_an_unwritable_place_of_a_page_is_found_before_anything_is_trained(
    unwritable: Path, tmp_path: Path, main_here: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_LEDGER", str(tmp_path / "ledger"))
    storage = ("--storage", f"sqlite:///{tmp_path}/studies.db")
    study = ("--study", str(TABLE_STUDY), "--workers", "1")
    page = unwritable / "page.html"
    ended = main_here("run", *study, *storage, "--report", str(page))
    refused(ended, f"error: --report {page}: no file can be written there (")
    if unwritable.exists():  # range-test makes no folder for what it saves
        curve = unwritable / "curve.csv"
        ended = main_here("range-test", *study, *storage, "--save", str(curve))
        refused(ended, f"error: --save {curve}: no file can be written there (")
    assert not (tmp_path / "ledger").exists()


def test_a_page_that_is_a_folder_is_refused(tmp_path: Path, main_here: Main) -> None:
    study = ("--study", str(TABLE_STUDY), "--workers", "1")
    storage = ("--storage", f"sqlite:///{tmp_path}/studies.db")
    ended = main_here("run", *study, *storage, "--report", str(tmp_path))
    refused(ended, "no file can be written there (it is a folder)")


def test_a_database_in_an_unwritable_place_is_one_line(unwritable: Path, main_here: Main) -> None:
    study = ("--study", str(TABLE_STUDY), "--workers", "1")
    page = ("--report", "/tmp/page-of-a-test.html")
    refused(main_here("run", *study, *page, "--storage", f"sqlite:///{unwritable}/studies.db"))


def test_looking_leaves_nothing(tmp_path: Path) -> None:
    assert why_unwritable(tmp_path / "not" / "there") is None
    assert list(tmp_path.iterdir()) == []
