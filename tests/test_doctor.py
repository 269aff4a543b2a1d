"""`doctor` and `db upgrade`: what they say of databases, devices, data and disks that are real."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, inspect, text

from studies.database import open_engine, prepare, transaction
from studies.errors import DatabaseError
from studies.mounts import file_system_of, is_network
from studies.tables import HEAD, VERSION_TABLE, EpochRecord, WorkRow
from tests.conftest import ROOT, SQLITE_SLOWLY, Ended, Finished, plain
from tests.postgres import PASSWORD, PostgresServer
from tests.rows import study_row
from trainers.data import Digits, open_splits

pytestmark = pytest.mark.first_start

Main = Callable[..., Ended]
NEXT = f"{int(HEAD) + 1:04}"

MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/export /mnt/share nfs4 rw,vers=4.2 0 0
/dev/sdb1 /mnt/share/local\\040disk xfs rw 0 0
//server/b /mnt/back\\134slash cifs rw 0 0
me@host: /home/me/far fuse.sshfs rw 0 0
/dev/sdc1 /twice ext4 rw 0 0
server:/x /twice nfs rw 0 0
"""

NEXT_MIGRATION = f'''
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{HEAD}"


def upgrade() -> None:
    recreate = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    for table in ("study", "work"):
        with op.batch_alter_table(table, recreate=recreate) as batch_op:
            batch_op.add_column(sa.Column("note", sa.Text(), nullable=True))
'''


def ask(database: URL, query: str) -> list[tuple[object, ...]]:
    """Return what a query answers, through an engine of the test's own."""
    engine = create_engine(database)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return found


def change(database: URL, *statements: str) -> None:
    """Change a database behind the product's back."""
    engine = create_engine(database)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def tables(database: URL) -> set[str]:
    engine = create_engine(database)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def make(database: URL) -> None:
    """Make the schemas, and in them a study with one run of one epoch."""
    engine = open_engine(database)
    prepare(engine)
    row = study_row()
    with transaction(engine) as session:
        session.add(row)
        session.flush()
        work = WorkRow(study_id=row.id, stage="search", round=0, epochs=1, slot=0, state="done")
        session.add(work)
        session.flush()
        rates = {"lr_first": 0.1, "lr_last": 0.1, "seconds": 1.0, "images_per_s": 1.0}
        losses = dict.fromkeys(("train_loss", "validation_loss"), 1.0)
        accuracies = dict.fromkeys(("train_accuracy", "validation_accuracy"), 0.5)
        session.add(EpochRecord(work_id=work.id, epoch=1, **rates, **losses, **accuracies))
    engine.dispose()


def line(ended: Ended, name: str) -> str:
    """Return what was said of one thing, without its name."""
    (found,) = [said for said in ended.out.splitlines() if said.startswith(f"{name:<14} ")]
    return " ".join(found[14:].split())


def everything_below(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# file systems


@pytest.mark.parametrize(
    ("path", "file_system"),
    [
        ("/mnt/share/studies.db", "nfs4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/shared/studies.db", "ext4"),
        ("/mnt/share/local disk/studies.db", "xfs"),
        ("/mnt/back\\slash/studies.db", "cifs"),
        ("/home/me/far/off/studies.db", "fuse.sshfs"),
        ("/twice/studies.db", "nfs"),
        ("/studies.db", "ext4"),
    ],
)
def test_a_path_is_on_the_longest_mount_point_above_it(path: str, file_system: str) -> None:
    assert file_system_of(MOUNTS, path) == file_system


def test_without_mounts_no_file_system_is_known() -> None:
    assert file_system_of("", "/studies.db") is None


def test_only_network_file_systems_are_called_so() -> None:
    assert all(map(is_network, ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre"]))
    assert not any(map(is_network, ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "fuse.ntfs-3g"]))


@pytest.fixture
def _on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mounts"
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/home {tmp_path}/share nfs4 rw 0 0\n")
    monkeypatch.setattr("studies.mounts.MOUNTS", table)


@pytest.mark.usefixtures("_on_nfs")
def test_a_sqlite_file_on_a_network_file_system_is_refused(
    tmp_path: Path, main_here: Main
) -> None:
    storage = f"sqlite:///{tmp_path}/share/studies.db"
    with pytest.raises(DatabaseError, match=r"\(nfs4\).* postgresql://USER:PASSWORD@HOST/NAME"):
        open_engine(URL.create("sqlite", database=f"{tmp_path}/share/studies.db"))
    assert not (tmp_path / "share").exists()
    open_engine(URL.create("sqlite", database=f"{tmp_path}/local.db")).dispose()
    ended = main_here("doctor", "--storage", storage)
    assert ended.code == 2
    assert line(ended, "file system").startswith("to do SQLite file")
    assert "postgresql://USER:PASSWORD@HOST/NAME" in line(ended, "file system")


# doctor


def test_all_is_well_before_the_first_start_and_nothing_is_made(
    tmp_path: Path, onecycle: Main
) -> None:
    before = everything_below(tmp_path)
    ended = onecycle("doctor")
    assert ended.code == 0, ended
    assert ended.err == ""
    assert line(ended, "database").startswith("ok sqlite:///")
    assert line(ended, "database").endswith("studies.db: will be made at the first start")
    assert line(ended, "our schema") == f"ok none yet: {HEAD} will be made at the first start"
    assert line(ended, "cache").endswith("cache: will be made at the first start")
    assert line(ended, "data").startswith("warning CIFAR-10 is not here yet")
    assert "bf16" in line(ended, "device")
    assert everything_below(tmp_path) == before
    assert not (tmp_path / "cache").exists()


def test_a_current_database_is_ok_and_stays_as_it_is(
    url: URL, tmp_path: Path, main_here: Main
) -> None:
    make(url)
    before = everything_below(tmp_path)
    ended = main_here("doctor", "--storage", plain(url), "--device", "cpu")
    assert ended.code == 0, ended
    assert line(ended, "database").endswith(" answers")
    assert line(ended, "our schema") == f"ok {HEAD}, the newest"
    (optunas,) = ask(url, "SELECT version_num FROM alembic_version")
    assert line(ended, "Optuna schema") == f"ok {optunas[0]}, the newest"
    assert line(ended, "device").startswith("ok cpu: ")
    assert everything_below(tmp_path) == before
    assert PASSWORD not in ended.out + ended.err


def test_what_another_process_wrote_last_is_seen(sqlite_url: URL, main_here: Main) -> None:
    make(sqlite_url)
    engine = open_engine(sqlite_url)
    with transaction(engine) as session:  # stays in the write-ahead log while the engine is open
        session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0000'"))
    assert Path(f"{sqlite_url.database}-wal").exists()
    ended = main_here("doctor", "--storage", plain(sqlite_url))
    engine.dispose()
    assert line(ended, "our schema").startswith("to do 0000, ")


def test_an_empty_database_stays_empty(url: URL, main_here: Main) -> None:
    assert tables(url) == set()
    ended = main_here("doctor", "--storage", plain(url))
    assert ended.code == 0, ended
    assert line(ended, "Optuna schema").startswith("ok none yet: ")
    assert tables(url) == set()


@pytest.mark.parametrize(
    ("table", "version", "name", "advice"),
    [
        (VERSION_TABLE, "0000", "our schema", "run `onecycle db upgrade`"),
        (VERSION_TABLE, "9999", "our schema", "upgrade onecycle-search"),
        ("alembic_version", "v3.0.0.d", "Optuna schema", "run `onecycle db upgrade`"),
        ("alembic_version", "v99", "Optuna schema", "upgrade optuna"),
    ],
)
def test_another_schema_is_named_with_what_to_do(
    table: str, version: str, name: str, advice: str, sqlite_url: URL, main_here: Main
) -> None:
    make(sqlite_url)
    change(sqlite_url, f"UPDATE {table} SET version_num = '{version}'")
    ended = main_here("doctor", "--storage", plain(sqlite_url))
    assert ended.code == 2
    assert line(ended, name).startswith(f"to do {version}, ")
    assert advice in line(ended, name)
    assert ended.out.count(" to do ") == 1


def test_a_failing_check_stops_no_other_and_shows_no_password(
    postgres_server: PostgresServer, main_here: Main
) -> None:
    storage = plain(postgres_server.url.set(port=1))
    ended = main_here("doctor", "--storage", storage, "--device", "abacus", "--study", "digits")
    assert ended.code == 2
    assert "***@127.0.0.1:1/postgres does not answer" in line(ended, "database")
    assert line(ended, "device").startswith("to do device 'abacus' is not known")
    assert line(ended, "cache disk").startswith("ok ")
    assert len(ended.out.splitlines()) == 11
    assert PASSWORD not in ended.out + ended.err
    assert storage not in ended.out + ended.err


@pytest.mark.parametrize(
    "storage", [f"postgresql://u:{PASSWORD}@h:x/n", f"mysql://u:{PASSWORD}@h/n"]
)
def test_an_impossible_url_is_told_without_its_password(storage: str, main_here: Main) -> None:
    ended = main_here("doctor", "--storage", storage)
    assert ended.code == 2
    assert "allowed: sqlite:///FILE" in line(ended, "database")
    assert PASSWORD not in ended.out + ended.err


def test_a_password_in_the_query_is_masked_too(main_here: Main) -> None:
    ended = main_here("doctor", "--storage", "postgresql://u@127.0.0.1:1/n?password=sec%40ret")
    assert ended.code == 2
    assert "n?password=***" in line(ended, "database")
    assert "ret" not in line(ended, "database").replace("return", "")


def test_a_file_that_is_no_database_is_told(sqlite_url: URL, main_here: Main) -> None:
    Path(str(sqlite_url.database)).write_bytes(b"not a database at all" * 100)
    ended = main_here("doctor", "--storage", plain(sqlite_url))
    assert ended.code == 2
    assert "file is not a database" in line(ended, "database")


def test_a_cache_that_cannot_be_made_is_told(
    tmp_path: Path, main_here: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONECYCLE_CACHE", str(tmp_path / "file" / "cache"))
    ended = main_here("doctor")
    assert ended.code == 2
    assert line(ended, "cache") == (
        f"to do {tmp_path}/file/cache cannot be made ({tmp_path}/file is no folder): "
        f"{tmp_path}/file must be a folder you can write"
    )


def test_the_folder_of_checkpoints_is_looked_at_where_it_is_wanted(
    tmp_path: Path, main_here: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    assert line(main_here("doctor"), "checkpoints") == (
        f"ok {cache}/checkpoints: will be made at the first start"
    )
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONECYCLE_CHECKPOINTS", str(tmp_path / "file"))
    ended = main_here("doctor")
    assert ended.code == 2
    assert line(ended, "checkpoints") == (
        f"to do {tmp_path}/file cannot be written (it is no folder): "
        "set ONECYCLE_CHECKPOINTS to a folder that can"
    )
    assert line(ended, "cache").startswith("ok ")
    monkeypatch.setenv("ONECYCLE_CHECKPOINTS", str(tmp_path))
    assert line(main_here("doctor"), "checkpoints") == f"ok {tmp_path} can be written"


def test_little_room_is_a_warning_alone(main_here: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.starting.doctor.FREE_ENOUGH_BYTES", 2**70)
    ended = main_here("doctor")
    assert ended.code == 0
    assert line(ended, "cache disk").startswith("warning ")
    assert "make room" in line(ended, "database disk")


def test_data_is_told_before_and_after_it_is_decoded(tmp_path: Path, main_here: Main) -> None:
    said = line(main_here("doctor", "--study", "digits"), "data")
    assert said == "ok scikit-learn's digits: will be decoded at the first start"
    cache = tmp_path / "cache"
    open_splits(Digits(n_train=896, n_validation=400), folder=None, cache=cache)
    said = line(main_here("doctor", "--study", "digits"), "data")
    assert said == f"ok scikit-learn's digits: decoded in {cache}"


def test_a_folder_of_other_data_is_told(tmp_path: Path, main_here: Main) -> None:
    ended = main_here("doctor", "--data", str(tmp_path))
    assert ended.code == 2
    assert "must hold cifar-10-batches-py/" in line(ended, "data")
    (tmp_path / "cifar-10-batches-py").mkdir()
    said = line(main_here("doctor", "--data", str(tmp_path)), "data")
    assert said == f"ok CIFAR-10 in {tmp_path}: will be decoded at the first start"


def test_a_stored_study_is_found_and_an_unknown_one_told(
    finished: Finished, tmp_path: Path, main_here: Main
) -> None:
    storage = finished.copied_to(tmp_path)
    name = json.loads(finished.first.out)["name"]
    ended = main_here("doctor", "--storage", storage, "--study", name)
    assert ended.code == 0, ended
    assert "a loop of its own" in line(ended, "data")
    ended = main_here("doctor", "--storage", storage, "--study", "nobody")
    assert ended.code == 2
    assert "nor one of digits, cifar-small, cifar" in line(ended, "data")


def test_json_is_one_document_with_the_same_checks(main_here: Main) -> None:
    lines = main_here("doctor", "--device", "abacus")
    ended = main_here("doctor", "--device", "abacus", "--json")
    document = json.loads(ended.out)
    assert (ended.code, document["ok"]) == (2, False)
    shown = [f"{c['name']:<14} {c['state']:<8} {c['text']}" for c in document["checks"]]
    without_room = [said for said in shown if " disk" not in said]
    assert without_room == [said for said in lines.out.splitlines() if " disk" not in said]


# db upgrade


def test_a_current_database_is_left_alone(url: URL, main_here: Main) -> None:
    make(url)
    ended = main_here("db", "upgrade", "--storage", plain(url))
    assert ended.code == 0, ended
    assert ended.out.splitlines()[0] == f"onecycle schema: {HEAD}, current already"
    assert ended.out.splitlines()[1].endswith(", current already")
    assert ask(url, "SELECT count(*) FROM epoch") == [(1,)]


def test_missing_tables_of_ours_are_made_beside_optunas(url: URL, main_here: Main) -> None:
    make(url)
    change(
        url,
        *(f"DROP TABLE {name}" for name in ("point", "epoch", "work", "worker", "study")),
    )
    change(url, f"DELETE FROM {VERSION_TABLE}")
    refused = main_here("list", "--storage", plain(url))
    assert refused.code == 2
    assert "run `onecycle db upgrade`" in refused.err
    ended = main_here("db", "upgrade", "--storage", plain(url))
    assert ended.code == 0, ended
    assert f"onecycle schema: from none to {HEAD}\n" in ended.out
    assert ask(url, "SELECT count(*) FROM study") == [(0,)]
    assert main_here("list", "--storage", plain(url)).code == 0


def test_an_older_optuna_is_refused_by_name_and_upgraded(url: URL, main_here: Main) -> None:
    make(url)
    (head,) = ask(url, "SELECT version_num FROM alembic_version")[0]
    change(url, "UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    ended = main_here("db", "upgrade", "--storage", plain(url))
    assert ended.code == 0, ended
    assert f"Optuna schema: from v3.0.0.d to {head}\n" in ended.out
    assert ask(url, "SELECT version_num FROM alembic_version") == [(head,)]
    assert PASSWORD not in ended.out + ended.err


def test_a_run_on_an_older_optuna_names_the_command(
    finished: Finished, tmp_path: Path, main_here: Main
) -> None:
    storage = finished.copied_to(tmp_path)
    change(URL.create("sqlite", database=f"{tmp_path}/copy.db"), "UPDATE work SET told = false")
    change(
        URL.create("sqlite", database=f"{tmp_path}/copy.db"),
        "UPDATE alembic_version SET version_num = 'v3.0.0.d'",
    )
    study = ("--study", str(finished.study_file), "--workers", "1")
    ended = main_here("run", *study, "--storage", storage)
    assert ended.code == 2
    assert "run `onecycle db upgrade`" in ended.err


@pytest.mark.parametrize(
    ("table", "version", "advice"),
    [
        (VERSION_TABLE, "9999", "upgrade onecycle-search"),
        ("alembic_version", "v99", "upgrade optuna"),
    ],
)
def test_a_newer_schema_is_left_as_it_is(
    table: str, version: str, advice: str, url: URL, main_here: Main
) -> None:
    make(url)
    change(url, f"UPDATE {table} SET version_num = '{version}'")
    ended = main_here("db", "upgrade", "--storage", plain(url))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert advice in ended.err
    assert PASSWORD not in ended.err
    assert ask(url, f"SELECT version_num FROM {table}") == [(version,)]


def test_no_database_is_made_by_an_upgrade(sqlite_url: URL, main_here: Main) -> None:
    ended = main_here("db", "upgrade", "--storage", plain(sqlite_url))
    assert ended.code == 2
    assert "no database at" in ended.err
    assert not Path(str(sqlite_url.database)).exists()


@SQLITE_SLOWLY
def test_the_next_version_of_the_product_upgrades_and_keeps_every_row(
    url: URL, tmp_path: Path, main_here: Main
) -> None:
    """The next version is a copy of this one with one more migration, which remakes tables."""
    make(url)
    product = tmp_path / "next"
    for package in ("search", "studies", "trainers"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, product / package, ignore=ignored)
    migrations = product / "studies" / "migrations" / "versions"
    (migrations / f"{NEXT}_next.py").write_text(NEXT_MIGRATION)
    module = product / "studies" / "tables.py"
    module.write_text(module.read_text().replace(f'HEAD = "{HEAD}"', f'HEAD = "{NEXT}"'))

    def call(*arguments: str) -> Ended:
        command = [sys.executable, "-m", "search", *arguments, "--storage", plain(url)]
        environment = {**os.environ, "PYTHONPATH": str(product)}
        done = subprocess.run(
            command, cwd=product, env=environment, capture_output=True, text=True, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    refused = call("list")
    assert refused.code == 2
    assert f"has schema {HEAD}, this version needs {NEXT}: run `onecycle db up" in refused.err
    assert "run `onecycle db upgrade`" in line(call("doctor"), "our schema")
    ended = call("db", "upgrade")
    assert ended.code == 0, ended
    assert f"onecycle schema: from {HEAD} to {NEXT}\n" in ended.out
    assert [ask(url, f"SELECT count(*) FROM {table}") for table in ("study", "work", "epoch")] == [
        [(1,)]
    ] * 3
    assert ask(url, "SELECT note FROM work") == [(None,)]
    assert line(call("doctor"), "our schema") == f"ok {NEXT}, the newest"
    older = main_here("list", "--storage", plain(url))
    assert "upgrade onecycle-search" in older.err
