"""Damaged SQLite files and half-made tables: one line that names the way on, no traceback."""

import hashlib
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

from studies.database import open_engine, prepare, reading
from studies.errors import DatabaseError
from studies.tables import VERSION_TABLE, StudyRow
from tests.conftest import ROOT, TABLE_STUDY, Ended, Finished, plain
from tests.test_processes import n_done
from tests.waits import wait_for

pytestmark = pytest.mark.first_start

Main = Callable[..., Ended]

PAGE = 4096


def zeroed(data: bytes) -> bytes:
    return data[: 2 * PAGE] + bytes(6 * PAGE) + data[8 * PAGE :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "no database": lambda data: b"not a database at all" * 100,
    "header": lambda data: b"\xff" * 100 + data[100:],
    "first page": lambda data: data[:100] + b"\xff" * (PAGE - 100) + data[PAGE:],
    "cut off": lambda data: data[: len(data) // 2],
    "cut off early": lambda data: data[: PAGE + 17],
    "zeroed": zeroed,
}
COMMANDS = ("list", "status", "trials", "report", "run")


def words(command: str, finished: Finished) -> tuple[str, ...]:
    if command == "run":
        return ("run", "--study", str(finished.study_file), "--workers", "1")
    return (command,) if command == "list" else (command, "--study", "table")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_line_with_the_way_on(
    damage: str, finished: Finished, tmp_path: Path, main_here: Main
) -> None:
    file = tmp_path / "studies.db"
    file.write_bytes(DAMAGES[damage](finished.database.read_bytes()))
    storage = ("--storage", f"sqlite:///{file}")
    for command in COMMANDS:
        ended = main_here(*words(command, finished), *storage)
        if damage == "zeroed" and ended.code == 0:
            continue  # what it reads is whole
        assert ended.code == 2, (command, ended)
        (line,) = ended.err.splitlines()
        assert line.startswith(f"error: database sqlite:///{file} cannot be used: "), line
        assert "older copy" in line
    ended = main_here("doctor", *storage, "--device", "cpu")
    assert ended.code == 2
    (database,) = [line for line in ended.out.splitlines() if line.startswith("database  ")]
    assert "to do" in database
    assert "older copy" in database


def test_doctor_finds_damage_that_no_command_has_met(
    finished: Finished, tmp_path: Path, main_here: Main
) -> None:
    file = tmp_path / "studies.db"
    shutil.copy(finished.database, file)
    with sqlite3.connect(file) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_work_study_state'"
        ).fetchone()
    connection.close()
    with file.open("r+b") as raw:
        raw.seek((root - 1) * PAGE + PAGE - 200)
        raw.write(b"\x05" * 200)
    assert main_here("list", "--storage", f"sqlite:///{file}").code == 0
    ended = main_here("doctor", "--storage", f"sqlite:///{file}", "--device", "cpu")
    assert ended.code == 2
    assert f"save what can be read: sqlite3 {file} .recover" in ended.out


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bytes_are_read_or_told_but_never_a_traceback(
    seed: int, finished: Finished, tmp_path: Path, main_here: Main
) -> None:
    """What SQLite and the types of the columns cannot see (another letter) is read as it is."""
    chance = random.Random(seed)
    data = bytearray(finished.database.read_bytes())
    for _ in range(60):
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    file = tmp_path / "studies.db"
    file.write_bytes(data)
    for command in ("list", "status", "trials"):
        ended = main_here(*words(command, finished), "--storage", f"sqlite:///{file}")
        assert ended.code in (0, 2), ended
        assert len(ended.err.splitlines()) == (0 if ended.code == 0 else 1)


@pytest.mark.slow
def test_damage_in_the_middle_of_work_ends_in_one_line(
    sqlite_url: URL, start_onecycle: Callable[..., "subprocess.Popen[str]"]
) -> None:
    file = Path(str(sqlite_url.database))
    run = start_onecycle(
        *("run", "--study", str(TABLE_STUDY), "--storage", plain(sqlite_url), "--workers", "1"),
        *("--device", "cpu"),
        TABLE_SLEEP_S="0.05",
    )
    wait_for(lambda: n_done(sqlite_url) >= 2)
    with file.open("r+b") as raw:
        raw.truncate(PAGE)
    with Path(f"{file}-wal").open("r+b") as log:
        log.truncate(0)
    _, err = run.communicate(timeout=300)
    assert run.returncode == 2, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "cannot be used" in last


def test_a_folder_is_no_database(tmp_path: Path, main_here: Main) -> None:
    for command in (("list",), ("run", "--study", str(TABLE_STUDY)), ("doctor",)):
        ended = main_here(*command, "--storage", f"sqlite:///{tmp_path}")
        assert ended.code == 2, ended
        assert "Traceback" not in ended.err
    assert "it is a folder" in main_here("list", "--storage", f"sqlite:///{tmp_path}").err


def test_an_empty_file_holds_no_study_and_is_left_empty(sqlite_url: URL, main_here: Main) -> None:
    file = Path(str(sqlite_url.database))
    file.touch()
    ended = main_here("status", "--study", "table", "--storage", plain(sqlite_url))
    assert ended.code == 2
    assert "is empty: no study is stored there; if there were some, restore" in ended.err
    ended = main_here("doctor", "--storage", plain(sqlite_url), "--device", "cpu")
    assert "is empty: if studies were stored there" in ended.out
    assert file.stat().st_size == 0
    prepare(open_engine(sqlite_url))  # a first start may find a file that somebody touched


def test_a_file_that_may_not_be_written_is_told_at_once(
    finished: Finished, tmp_path: Path
) -> None:
    """By SQLite itself: permission bits do not hold for root, an open for reading does."""
    file = tmp_path / "studies.db"
    shutil.copy(finished.database, file)
    engine = create_engine(f"sqlite:///file:{file}?mode=ro&uri=true")

    def write() -> None:
        from studies.translation import translated

        with translated(URL.create("sqlite", database=str(file))), engine.begin() as connection:
            connection.execute(text("UPDATE study SET seed = 1"))

    with pytest.raises(DatabaseError, match=r"readonly database: the file and its folder must"):
        write()
    engine.dispose()


# migrations

CHECKSUMS = {
    "0001_the_first_tables.py": (
        "d708814b2919eb2bca6b40a1563b7ebb91c72f27a870d39b3c40663da5caf6d5"
    ),
    "0002_workers.py": ("e0661ad27d8826fa751a379f66d948682fde806503bf8ea39cd6b04a3b1ba094"),
    "0003_deaths_and_other_groups.py": (
        "613e0c5d0b1da57a4f46801f8af6ba55ceb32bc9ab8169e370c1b4e0dfb4a670"
    ),
    "0004_cycle_lengths_budget_and_readings.py": (
        "cc4119774af66fb601868bbd900b214f085a80fbcdafbcc233d5dc7e5557cab6"
    ),
    "0005_the_edge_of_the_range_test.py": (
        "5a021101be60630828798b24a129c5be9d59f342e1bac8a855e6fd135248230c"
    ),
    "0006_weight_decay_and_batch_size.py": (
        "7582c2029a271aecfc60f69e5e38e28440b4ffff524058c2cba4b27ef37c30ca"
    ),
    "0007_params_by_name_and_lengths_with_units.py": (
        "5025e13c7667456de1f2a2a933b129cb3fa2ea794983cdc6a5fae8a1eb92d654"
    ),
    "0008_the_optimizer_of_a_run.py": (
        "52fbc24082827f6ebe170b67d3e00e69dccaf9b1a0cb5a50fa2dbd87f73cf9d0"
    ),
    "0009_scores_that_are_measured_or_missing.py": (
        "739dd1f67179e1a9c113c9a21384ee3b4535233f7b9fc7592441785a50486aca"
    ),
    "0010_a_search_that_ends_by_itself.py": (
        "47175345c4b83ecbd78d928503d777c20330b2a0c2ba5c2788a5605762bb3e55"
    ),
    "0011_learning_curves.py": (
        "949e15607feb017ce9050c5f6a2739056e2009a7dafb1721fd04089e74947a68"
    ),
    "0012_the_next_run_by_an_index.py": (
        "12f69b8c7a1bea61d7e0b18dc729df667c68114f6433da9d14527bc5656c923d"
    ),
}


def _versions() -> dict[str, str]:
    folder = ROOT / "studies" / "migrations" / "versions"
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.py")
    }


def test_a_migration_that_has_landed_is_never_edited() -> None:
    """A new file takes a new line here; a line that is there never changes."""
    assert _versions() == CHECKSUMS


@pytest.mark.parametrize("lacking", [("metric", "bugs_in_a_row"), ("bugs_in_a_row",)])
@pytest.mark.parametrize("half_upgraded", [False, True])
def test_a_database_of_the_first_0001_is_upgraded_whole(
    lacking: tuple[str, ...], half_upgraded: bool, url: URL, main_here: Main
) -> None:
    """0001 got a column twice after it had landed: each form of it, and what came of it since."""
    _make_old(url, lacking, "head" if half_upgraded else "0001")
    storage = ("--storage", plain(url))
    refused = main_here("list", *storage)
    assert refused.code == 2
    assert "run `onecycle db upgrade`" in refused.err
    assert "run `onecycle db upgrade`" in main_here("doctor", *storage, "--device", "cpu").out
    ended = main_here("db", "upgrade", *storage)
    assert ended.code == 0, ended
    added = ", ".join(f"study.{name}" for name in lacking)
    assert f"onecycle schema: {added} were missing, added now\n" in ended.out
    engine = open_engine(url)
    prepare(engine)
    with reading(engine) as session:
        (row,) = session.query(StudyRow).all()
    assert (row.name, row.metric, row.bugs_in_a_row) == ("old", "accuracy", 0)
    engine.dispose()
    assert main_here("list", *storage).code == 0
    assert "already" in main_here("db", "upgrade", *storage).out.splitlines()[0]


def test_what_cannot_be_completed_is_refused_and_kept(url: URL, main_here: Main) -> None:
    _make_old(url, ("direction",), "0001")
    ended = main_here("db", "upgrade", "--storage", plain(url))
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert "it says schema 0001 but has no study.direction; nothing was changed" in line
    engine = create_engine(url)
    with engine.connect() as connection:
        version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one()
    engine.dispose()
    assert version == "0001"


def _make_old(url: URL, lacking: tuple[str, ...], revision: str) -> None:
    """Make the tables of `revision` without some columns, and a study in them."""
    from alembic import command
    from alembic.config import Config

    engine = open_engine(url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "studies:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        values = {
            **dict.fromkeys(("id", "name"), "old"),
            **dict.fromkeys(("spec", "source"), ""),
            **{"declared": "{}", "direction": "maximize", "metric": "accuracy"},
            **{"stage": "range_test", "bugs_in_a_row": 0, "seed": 0, "diverged_value": 0.1},
            **dict.fromkeys(("batch_size", "steps_per_epoch", "n_trials"), 1),
            **dict.fromkeys(("beat_s", "grace_s"), 1.0),
        }
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        connection.execute(text(f"INSERT INTO study ({names}) VALUES ({marks})"), values)
        for name in lacking:
            connection.execute(text(f"ALTER TABLE study DROP COLUMN {name}"))
        command.upgrade(config, revision)
    engine.dispose()
    if revision == "head":
        from studies.database import close_optuna, optuna_storage

        close_optuna(optuna_storage(url))
