"""A folder of the user's named as one of our packages; versions; what a shell completes."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from search.shadowed import own_in
from tests.conftest import ROOT


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The installed program, as pip writes it."""
    file = tmp_path / "bin" / "onecycle"
    file.parent.mkdir()
    file.write_text(f"#!{sys.executable}\nfrom search.__main__ import main\nmain()\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def started(*command: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("own", ["trainers/__init__.py", "studies/__init__.py", "trainers.py"])
def test_a_package_that_is_hidden_is_named_with_the_way_on(
    own: str, program: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    (folder / own).parent.mkdir(parents=True)
    (folder / own).write_text("")
    for module in ("search.run", "search"):
        done = started(sys.executable, "-m", module, "--version", cwd=folder)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert str(folder / own.removesuffix("/__init__.py")) in line
        assert "onecycle run" in line
    done = started(str(program), "--version", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("own", ["trainers/net.py", "search/data.txt"])
def test_a_folder_that_is_no_package_hides_nothing(own: str, tmp_path: Path) -> None:
    (tmp_path / own).parent.mkdir(parents=True)
    (tmp_path / own).write_text("")
    done = started(sys.executable, "-m", "search.run", "--version", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "study format 1" in done.stdout


def test_workers_leave_out_a_working_directory_that_hides_our_packages(tmp_path: Path) -> None:
    assert own_in(tmp_path) == []
    (tmp_path / "search").mkdir()
    assert own_in(tmp_path) == []
    (tmp_path / "search" / "__init__.py").write_text("")
    assert own_in(tmp_path) == [tmp_path / "search"]
    assert own_in(ROOT) == []


def completed(program: Path, cwd: Path, *lines: str) -> list[list[str]]:
    """Return what bash offers at the end of each line, by the script that the program prints."""
    script = 'eval "$(onecycle --show-completion)" || exit 9\n'
    for line in lines:
        words = line.split(" ")
        before = [word for word in words if word.startswith("ONECYCLE_")]
        typed = words[len(before) :]
        script += f"""
            COMP_WORDS=({" ".join(typed)}); COMP_CWORD={len(typed) - 1}
            {" ".join(f"export {each};" for each in before)}
            _onecycle_completion onecycle; echo "${{COMPREPLY[@]}}"
        """
    path = f"{program.parent}:{os.environ['PATH']}"
    done = started("bash", "--norc", "-c", script, cwd=cwd, PATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split() for line in done.stdout.splitlines()]


def test_bash_completes_commands_flags_and_names_of_studies(program: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "studies.db")) as database:
        database.execute("CREATE TABLE study (name TEXT)")
        database.execute("INSERT INTO study VALUES ('photos-resnet18'), ('other')")
        database.commit()
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "broken.db").write_text("no database")
    offered = completed(
        program,
        tmp_path,
        "onecycle sho",
        "onecycle run --stu",
        "onecycle run --study ci",
        "onecycle run --study mi",
        f"onecycle status --storage sqlite:///{tmp_path}/studies.db --study o",
        f"ONECYCLE_STORAGE=sqlite:///{tmp_path}/studies.db onecycle status --study ph",
        f"ONECYCLE_STORAGE=sqlite:///{tmp_path}/broken.db onecycle status --study ph",
        "ONECYCLE_STORAGE=postgresql://u:p@nowhere/x onecycle status --study ph",
    )
    assert offered == [
        ["show"],
        ["--study"],
        ["cifar-small", "cifar"],
        ["mine.py"],
        ["other"],
        ["photos-resnet18"],
        [],
        [],
    ]


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, os\n"
        "os.environ |= {'_ONECYCLE_COMPLETE': 'complete_bash',"
        " 'COMP_WORDS': 'onecycle\\nstatus\\n--study\\nd', 'COMP_CWORD': '3'}\n"
        "sys.argv = ['onecycle']\n"
        "from search.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = started(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0
    assert not {"numpy", "torch", "optuna", "sqlalchemy", "alembic"} & set(done.stderr.split())
