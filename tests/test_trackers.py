"""Trackers by their text: what is allowed, what is said of what is not, and no password shown."""

import builtins
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.errors import UsageError
from search.starting import trackers
from search.starting.trackers import Tracker, trackers_of
from tests.conftest import TABLE_STUDY, Ended

SECRET = "s3cr-3t"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every tracker's package found, for what is read here is the text alone."""
    monkeypatch.setattr(trackers, "find_spec", lambda name: builtins.__spec__)


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("tensorboard:runs", "tensorboard", "runs"),
        ("TensorBoard: my runs ", "tensorboard", "my runs"),
        ("tensorboard:/tmp/a:b", "tensorboard", "/tmp/a:b"),
        ("mlflow:http://localhost:5000", "mlflow", "http://localhost:5000"),
        ("mlflow:https://u:p@host/sub", "mlflow", "https://u:p@host/sub"),
        ("mlflow:sqlite:///mlflow.db", "mlflow", "sqlite:///mlflow.db"),
        ("mlflow:postgresql+psycopg://u:p@h/db", "mlflow", "postgresql+psycopg://u:p@h/db"),
        ("mlflow:databricks", "mlflow", "databricks"),
        ("wandb:one-cycle", "wandb", "one-cycle"),
        ("wandb:my team/one cycle", "wandb", "my team/one cycle"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_tracker_is_a_tool_and_a_place(text: str, kind: str, place: str) -> None:
    assert trackers_of([text]) == (Tracker(kind, place),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "foo:bar",
        "mlflow",
        "mlflow:",
        "tensorboard: ",
        "wandb:",
        "http://localhost:5000",
        "mlflow:localhost:5000",
        "mlflow:htp://localhost:5000",
        "mlflow:http:/localhost:5000",
        "mlflow:http://",
        "mlflow:http://localhost:port",
        "mlflow:http://a host",
        "mlflow:runs",
        "mlflow:./mlruns",
        "mlflow:/data/mlruns",
        "mlflow:file:///data/mlruns",
        "tensorboard:s3://bucket/runs",
        "wandb:a/b/c",
        "wandb:/project",
        "wandb:team/",
        "wandb:what?",
        f"mlflow:{'x' * 50}",
    ],
)
@pytest.mark.usefixtures("installed")
def test_what_names_no_tracker_is_told_in_one_line_with_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        trackers_of([text])
    line = str(raised.value)
    assert "\n" not in line
    ways = (
        "tensorboard:DIR",
        "mlflow:URI",
        "http://HOST",
        "PROJECT",
        "mlflow:sqlite:///mlflow.db",
    )
    assert any(way in line for way in ways)


@pytest.mark.parametrize(
    "text",
    [
        f"mlflow:htp://user:{SECRET}@host",
        f"mlflow:http://user:{SECRET}@host:port",
        f"mlfow:http://user:{SECRET}@host",
        f"user:{SECRET}@host",
        f"http://user:{SECRET}@host",
        f"mlflow:user:{SECRET}@host:5000",
        f"mlflow:http://user:{SECRET}@",
        f"wandb:{SECRET}?x",
        f"mlflow:postgresql://user:{SECRET}@host:x/db",
    ],
)
@pytest.mark.usefixtures("installed")
def test_malformed_text_does_not_show_what_may_be_a_password(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        trackers_of([text])
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("http://localhost:5000/", "http://localhost:5000/"),
        (f"https://me:{SECRET}@host:80/a", "https://***@host:80/a"),
        (f"https://{SECRET}@host", "https://***@host"),
        (f"https://host/?token={SECRET}", "https://host/?***"),
        (f"postgresql://me:{SECRET}@host/db", "postgresql://me:***@host/db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("databricks://profile", "databricks://profile"),
    ],
)
def test_a_tracker_is_shown_without_its_password(place: str, shown: str) -> None:
    tracker = Tracker("mlflow", place)
    assert tracker.shown == f"mlflow:{shown}"
    assert SECRET not in tracker.missing_line("digits")
    told = tracker.scrubbed(f"refused: {place} ({SECRET})")
    assert told.count(SECRET) == (SECRET not in place)  # what it does not hold it cannot know


@pytest.mark.usefixtures("installed")
def test_a_tracker_that_is_named_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONECYCLE_TRACK", "wandb:p\n\n tensorboard:d\nwandb:p\n")
    assert trackers_of(None) == (Tracker("wandb", "p"), Tracker("tensorboard", "d"))
    assert trackers_of([]) == ()


def test_one_text_in_place_of_a_list_is_told() -> None:
    with pytest.raises(UsageError, match="a list"):
        trackers_of("wandb:p")


@pytest.mark.usefixtures("installed")
def test_a_folder_that_cannot_be_one_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        trackers_of([f"tensorboard:{tmp_path}/file/runs"])
    assert trackers_of([f"tensorboard:{tmp_path}/new/runs"])


def test_a_package_that_is_missing_is_told_with_its_extra_and_code_2(
    main_here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    monkeypatch.setenv("ONECYCLE_STORAGE", f"sqlite:///{tmp_path}/studies.db")
    flags = ("--study", str(TABLE_STUDY), "--track", f"mlflow:http://u:{SECRET}@h")
    for command in ("run", "range-test"):
        ended = main_here(command, *flags)
        assert ended.code == 2
        assert "pip install 'onecycle-search[mlflow]'" in ended.err
        assert SECRET not in ended.err
        assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "studies.db").exists()


def test_a_folder_of_the_package_s_name_is_not_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wandb").mkdir()  # where W&B keeps its runs
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UsageError, match="wandb is not installed"):
        trackers_of(["wandb:p"])


def test_export_to_nowhere_and_in_two_forms_is_told(main_here: Callable[..., Ended]) -> None:
    ended = main_here("export", "--study", "x", "--to", "foo:bar")
    assert (ended.code, ended.out) == (2, "")
    assert "--to 'foo:bar' names no tracker; allowed: tensorboard:DIR" in ended.err
    ended = main_here("export", "--study", "x", "--to", "wandb:p", "--format", "json")
    assert ended.code == 2
    assert "--format json" in ended.err
    ended = main_here("export", "--study", "x", "--follow")
    assert ended.code == 2
    assert "--to is needed" in ended.err
