"""The command line: help, exit codes, bad input, JSON, signals, and what each command prints."""

import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import optuna
import pytest
from sqlalchemy import URL, create_engine, inspect, text

from studies.database import optuna_storage
from tests.conftest import ROOT, TABLE_STUDY, Ended, Finished, plain
from tests.postgres import PASSWORD
from tests.waits import wait_for

Main = Callable[..., Ended]

EVERY_COMMAND = """
import contextlib, io, json, sys
import typer
from search.__main__ import app, main

commands = [[], *([name] for name in typer.main.get_command(app).commands)]
seen = {}
for command in commands:
    for flag in ("--help", "--no-such-flag"):
        sys.argv = ["onecycle", *command, flag]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                main()
            except SystemExit as ended:
                seen[" ".join(sys.argv[1:])] = ended.code
print(json.dumps([seen, sorted(sys.modules)]))
"""

MAIN_AND_MODULES = """
import sys
from search.__main__ import main

try:
    main()
finally:
    print("\\nmodules:", *sorted(sys.modules), file=sys.stderr)
"""


def only_json(text: str) -> Any:
    """Return the one document in `text`; NaN and Infinity are not JSON."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def rows(database: URL | str, query: str) -> list[Any]:
    engine = create_engine(database)
    with engine.connect() as connection:
        found = list(connection.execute(text(query)))
    engine.dispose()
    return found


def n_stored(database: Path) -> int:
    """Return the number of stored studies, ours and Optuna's; 0 where there is no database."""
    if not database.exists():
        return 0
    engine = create_engine(f"sqlite:///{database}")
    there = set(inspect(engine).get_table_names())
    engine.dispose()
    counts = [
        rows(f"sqlite:///{database}", f"SELECT count(*) FROM {table}")[0][0]
        for table in ("study", "studies")
        if table in there
    ]
    return sum(counts)


def assert_refused(ended: Ended, *words: str) -> None:
    """Hold that a command ended with code 2 and one line 'error: ...' with those words."""
    assert ended.code == 2, ended
    assert ended.out == ""
    assert ended.err.startswith("error: "), ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.endswith("\n")
    for word in words:
        assert word in ended.err


# help and usage


def test_help_and_wrong_flags_answer_without_heavy_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_COMMAND], cwd=ROOT, capture_output=True, text=True, check=True
    )
    codes, modules = json.loads(done.stdout)
    assert {"run --help", "worker --help", "list --help", "delete --help"} <= set(codes)
    assert {"trials --help", "report --help", "--help", "run --no-such-flag"} <= set(codes)
    assert codes == {line: 0 if line.endswith("--help") else 2 for line in codes}
    assert "typer" in modules
    assert not {"torch", "optuna", "plotly", "sqlalchemy", "numpy", "scipy"} & set(modules)


@pytest.mark.parametrize("arguments", [["trials"], ["nonsense"], ["run", "--workers=x"]])
def test_usage_errors_of_typer_exit_2(arguments: list[str], main_here: Main) -> None:
    ended = main_here(*arguments)
    assert ended.code == 2
    assert "Usage:" in ended.err
    assert ended.out == ""


def test_search_run_is_an_alias_of_the_run_command() -> None:
    flags = ["--study", "no-such-study"]
    alias, command = (
        subprocess.run(
            [sys.executable, "-m", *module, *flags],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        for module in (["search.run"], ["search", "run"])
    )
    assert (alias.returncode, alias.stderr) == (command.returncode, command.stderr)
    assert_refused(
        Ended(alias.returncode, alias.stdout, alias.stderr), "'no-such-study'", "digits", "cifar"
    )


def test_the_console_script_is_the_same_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"onecycle": "search.__main__:main"}


# a finished study


def test_a_finished_study_says_so_and_prints_the_same_answer_without_torch(
    finished: Finished,
) -> None:
    run = ("run", "--study", str(finished.study_file), "--storage", finished.storage, "--json")
    again = subprocess.run(
        [sys.executable, "-c", MAIN_AND_MODULES, *run],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said, _, modules = again.stderr.partition("\nmodules:")
    assert again.returncode == 0
    assert only_json(again.stdout) == only_json(finished.first.out)
    assert said.splitlines() == [
        f"study 'table' in {finished.storage} is finished: nothing left to do"
    ]
    assert "sqlalchemy" in modules.split()
    assert not {"torch", "optuna", "plotly", "sklearn"} & set(modules.split())


def test_a_page_that_was_deleted_is_written_again(finished: Finished, main_here: Main) -> None:
    page = finished.database.with_name(f"{finished.database.stem}-table.html")
    before = page.read_text()
    page.unlink()
    run = ("run", "--study", str(finished.study_file), "--storage", finished.storage)
    assert main_here(*run).code == 0
    assert page.read_text() == before


def test_a_page_from_before_the_end_of_the_study_is_replaced(
    finished: Finished, main_here: Main
) -> None:
    page = finished.database.with_name(f"{finished.database.stem}-table.html")
    page.write_text("a page of long ago")
    os.utime(page, (0, 0))
    run = ("run", "--study", str(finished.study_file), "--storage", finished.storage)
    assert main_here(*run).code == 0
    assert "a page of long ago" not in page.read_text()


# JSON and the plan


def test_json_is_one_document_with_the_answer(finished: Finished) -> None:
    document = only_json(finished.first.out)
    assert document["name"] == "table"
    assert document["n_trials"] == 12
    assert {0, document["winner"]} <= {c["slot"] for c in document["candidates"]}
    assert all(c["scores"] for c in document["candidates"])
    assert document["onecycle_lr"]["total_steps"] == 40
    assert Path(document["report"]).is_file()


@pytest.mark.parametrize("n_trials", [1, 2])
def test_json_of_the_smallest_studies_holds_no_nan(
    n_trials: int, main_here: Main, tmp_path: Path
) -> None:
    ended = main_here(
        *("run", "--study", str(TABLE_STUDY), "--storage", f"sqlite:///{tmp_path}/a.db"),
        *("--workers", "1", "--trials", str(n_trials), "--json"),
    )
    assert ended.code == 0
    assert only_json(ended.out)["n_trials"] == n_trials


def test_report_prints_the_same_document_and_writes_where_it_is_told(
    finished: Finished, main_here: Main, tmp_path: Path
) -> None:
    page = tmp_path / "pages" / "mine.html"
    flags = ("--study", "table", "--storage", finished.storage)
    ended = main_here("report", *flags, "--html", str(page), "--json")
    assert ended.code == 0
    assert only_json(ended.out) == {**only_json(finished.first.out), "report": str(page)}
    assert page.is_file()


def test_dry_run_prints_the_cost_and_stores_nothing(main_here: Main, tmp_path: Path) -> None:
    database = tmp_path / "plan.db"
    flags = ("--study", str(TABLE_STUDY), "--trials", "20", "--storage", f"sqlite:///{database}")
    document = only_json(main_here("run", *flags, "--dry-run", "--json").out)
    stages = [(s["stage"], s["runs"], s["steps"], s["images"]) for s in document["stages"]]
    assert stages == [
        ("range_test", 2, 60, 2 * 60 * 10),
        ("search", 20, 40, 20 * 40 * 10),
        ("confirmation", 9, 40, 9 * 40 * 10),  # a cycle for each of three, and three pairs
    ]
    assert document["seconds"] > 0

    ended = main_here("run", *flags, "--dry-run")
    assert ended.code == 0
    for number in ("1,200", "8,000", "3,600", "12,800"):
        assert f"{number} training samples" in ended.out
    assert re.search(r"^  (about .*|under 0\.1 s) here", ended.out, re.MULTILINE)
    assert not database.exists()
    assert not (tmp_path / "data-home").exists()
    assert "at most 4 sweeps = 3,000, where sweeps disagree" in ended.out
    assert "at most 17,000" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


# bad input


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--workers", "0"], ["workers", "at least 1", "got 0"]),
        (["--trials", "0"], ["trials", "at least 1", "got 0"]),
        (["--trials", "-3"], ["trials", "at least 1", "got -3"]),
        (["--timeout-min", "0"], ["timeout-min", "above 0", "got 0"]),
        (["--timeout-min", "nan"], ["timeout-min", "above 0", "got nan"]),
        (["--seed", "-1"], ["seed", "between 0 and", "got -1"]),
        (["--seed", str(2**32)], ["seed", "between 0 and", f"got {2**32}"]),
        (["--name", "a/b"], ["name", "'a/b'", "without '/'"]),
        (["--name", "x.py"], ["name", "'x.py'", "'.py'"]),
        (["--name", ""], ["name", "''"]),
        (["--name", "n" * 201], ["name", "at most 200"]),
        (["--device", "tpu"], ["device", "'tpu'", "cpu"]),
        (["--report", "/dev/null/a.html"], ["--report /dev/null/a.html", "folder"]),
        (["--report", "/dev"], ["--report /dev:", "file"]),
    ],
    ids=lambda value: " ".join(value)[:20],
)
def test_a_wrong_value_of_a_flag_is_refused_before_anything_is_stored(
    flags: list[str], words: list[str], main_here: Main, tmp_path: Path
) -> None:
    database = tmp_path / "a.db"
    run = ("run", "--study", str(TABLE_STUDY), "--storage", f"sqlite:///{database}")
    assert_refused(main_here(*run, *flags), *words)
    assert n_stored(database) == 0


def test_a_device_that_is_not_there_is_refused(main_here: Main, tmp_path: Path) -> None:
    import torch

    missing = "mps" if torch.cuda.is_available() else "cuda"
    run = ("run", "--study", str(TABLE_STUDY), "--storage", f"sqlite:///{tmp_path}/a.db")
    assert_refused(main_here(*run, "--device", missing), f"'{missing}'", "not", "cpu")
    assert n_stored(tmp_path / "a.db") == 0


@pytest.mark.parametrize(
    ("study", "make", "words"),
    [
        ("cifar-small", None, ["--data", "there is no such folder"]),
        ("cifar-small", "empty", ["must hold", "train/"]),
        ("digits", "empty", ["--data", "scikit-learn"]),
    ],
)
def test_a_wrong_data_folder_is_refused_before_anything_is_stored(
    study: str, make: str | None, words: list[str], main_here: Main, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    if make is not None:
        folder.mkdir()
    run = ("run", "--study", study, "--storage", f"sqlite:///{tmp_path}/a.db")
    assert_refused(main_here(*run, "--data", str(folder)), str(folder), *words)
    assert n_stored(tmp_path / "a.db") == 0


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("studies.db", ["'studies.db'", "sqlite:///FILE"]),
        ("mysql://me:secret@host/db", ["mysql://me:***@host/db", "postgresql://"]),
        ("postgresql://me:secret@host:port/db", ["***", "sqlite:///FILE"]),
        ("sqlite://", ["'sqlite://'", "sqlite:///FILE"]),
        ("sqlite:///:memory:", ["memory", "cannot hold a study", "sqlite:///FILE"]),
        ("sqlite:////dev/null/folder/a.db", ["/dev/null/folder/a.db"]),
        ("sqlite:////dev", ["sqlite:////dev"]),
    ],
)
def test_a_wrong_storage_is_refused_and_no_password_is_shown(
    storage: str, words: list[str], main_here: Main
) -> None:
    ended = main_here("run", "--study", str(TABLE_STUDY), "--storage", storage)
    assert_refused(ended, *words)
    assert "secret" not in ended.err


def test_a_server_that_does_not_answer_is_named_without_its_password(main_here: Main) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    url = URL.create("postgresql", "me", PASSWORD, "127.0.0.1", port, "db")
    storage = url.render_as_string(hide_password=False)
    run = ("run", "--study", str(TABLE_STUDY), "--wait-s", "0")
    for command in (run, ("trials", "--study", "table")):
        ended = main_here(*command, "--storage", storage)
        assert ended.code == 75
        assert ended.err.count("\n") == 1
        assert f"postgresql://me:***@127.0.0.1:{port}/db" in ended.err
        assert "refused" in ended.err
        assert PASSWORD not in ended.err
        assert "w%25" not in ended.err


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, ["no study file at"]),
        ("STUDY = 1\n\nprint(1 2)\n", ["line 3"]),
        ("\nraise RuntimeError('two\\nlines')\n", ["line 2", "RuntimeError: two lines"]),
        ("import no_such_module\n", ["line 1", "no_such_module"]),
        ("raise SystemExit(3)\n", ["line 1", "SystemExit"]),
        ("STUDY = 3\n", ["STUDY", "got STUDY = 3"]),
        ("", ["STUDY", "no STUDY"]),
        (
            "from studies.definition import Screening\n\nA = Screening(n_trials=0, epochs=1)\n",
            ["line 3", "n_trials", "at least 1", "got 0"],
        ),
    ],
    ids=["missing", "syntax", "raises", "import", "exit", "other type", "empty", "bad value"],
)
def test_a_broken_study_file_is_refused_with_file_and_line(
    source: str | None, words: list[str], main_here: Main, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    if source is not None:
        path.write_text(source)
    ended = main_here("run", "--study", str(path), "--storage", f"sqlite:///{tmp_path}/a.db")
    assert_refused(ended, str(path), *words)
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize("command", ["report", "trials", "delete", "worker"])
def test_an_unknown_stored_study_is_refused_with_those_there_are(
    command: str, finished: Finished, main_here: Main, tmp_path: Path
) -> None:
    ended = main_here(command, "--study", "tabel", "--storage", finished.storage)
    assert_refused(ended, "'tabel'", "stored: table")

    missing = tmp_path / "missing.db"
    ended = main_here(command, "--study", "table", "--storage", f"sqlite:///{missing}")
    assert_refused(ended, str(missing))
    assert not missing.exists()


def test_a_page_that_cannot_be_written_is_refused(finished: Finished, main_here: Main) -> None:
    flags = ("--study", "table", "--storage", finished.storage, "--html", "/dev/null/a.html")
    assert_refused(main_here("report", *flags), "/dev/null/a.html")


# a study that is not what was stored


def test_flags_and_files_that_differ_from_what_is_stored_are_refused(
    finished: Finished, main_here: Main, tmp_path: Path
) -> None:
    study = shutil.copy(finished.study_file, tmp_path / "study.py")
    before = rows(finished.storage, "SELECT * FROM study")

    def run(*flags: str, **changes: str) -> Ended:
        source = finished.study_file.read_text()
        for old, new in changes.values():
            assert source.count(old) == 1
            source = source.replace(old, new)
        study.write_text(source)
        return main_here("run", "--study", str(study), "--storage", finished.storage, *flags)

    assert_refused(run("--trials", "13"), "--trials 13", "target of 12")
    assert_refused(run("--seed", "7"), "--seed 7", "seed 0")
    assert run("--trials", "12", "--seed", "0").code == 0
    changed = run(a=("epochs=4", "epochs=5"))
    assert_refused(changed, "'table'", "screening.epochs = 4", "now it is 5", "--name")
    changed = run(a=("n_trials=12", "n_trials=13"))
    assert_refused(changed, "screening.n_trials = 12", "now it is 13")
    assert_refused(run(a=("BEST_LR = 0.2", "BEST_LR = 0.3")), "code of the study file")
    assert run(a=("BEST_LR = 0.2", "BEST_LR  =  0.2  # a comment")).code == 0
    other = main_here("run", "--study", "digits", "--name", "table", "--storage", finished.storage)
    assert_refused(other, "'table'", "--name")
    assert rows(finished.storage, "SELECT * FROM study") == before


def test_out_of_time_gives_work_back_and_a_changed_fact_is_refused(
    main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: F401  the time given is for work

    storage = f"sqlite:///{tmp_path}/a.db"
    run = ("run", "--study", str(TABLE_STUDY), "--storage", storage, "--workers", "1")
    monkeypatch.setenv("TABLE_SLEEP_S", "0.02")
    ended = main_here(*run, "--timeout-min", "0.05")
    assert ended.code == 75
    assert "out of time" in ended.err
    assert ended.out == ""
    states = rows(storage, "SELECT state FROM work")
    assert ("running",) not in states
    given_back = "SELECT count(*) FROM work WHERE state = 'waiting' AND token = 1"
    # None where the time runs out between two runs, or before the first on a busy machine.
    assert rows(storage, given_back) in ([(0,)], [(1,)])

    monkeypatch.delenv("TABLE_SLEEP_S")
    monkeypatch.setenv("TABLE_FACT", "2")
    changed = main_here(*run)
    assert_refused(changed, "'table'", "table = 1", "now it is 2")
    assert rows(storage, "SELECT state FROM work") == states
    ended = main_here("worker", "--study", "table", "--storage", storage)
    assert_refused(ended, "table = 1", "now it is 2")

    monkeypatch.delenv("TABLE_FACT")
    assert main_here("report", "--study", "table", "--storage", storage).code == 1
    assert main_here("worker", "--study", "table", "--storage", storage).code == 0
    assert main_here("report", "--study", "table", "--storage", storage).code == 0


# list, trials, delete


def test_trials_as_csv_equal_the_database(finished: Finished, main_here: Main) -> None:
    ended = main_here("trials", "--study", "table", "--storage", finished.storage, "--csv")
    assert ended.code == 0
    assert "\r" not in ended.out
    read = list(csv.DictReader(io.StringIO(ended.out)))
    stored = rows(
        finished.storage,
        "SELECT slot, trial_number, state, outcome, score, params, n_steps, epochs "
        "FROM work WHERE stage = 'search' ORDER BY slot",
    )
    assert len(read) == len(stored) == 12
    for line, row in zip(read, stored, strict=True):
        assert (
            (line["state"], line["outcome"]) == (row.state, row.outcome) == ("done", "completed")
        )
        for name in ("slot", "trial_number", "n_steps", "epochs"):
            assert int(line[name]) == getattr(row, name)
        assert float(line["score"]) == row.score
        params = {name: float(line[name]) for name in ("max_lr", "pct_start", "div_factor")}
        assert params == json.loads(row.params)


def test_csv_before_the_search_is_the_same_header_alone(
    finished: Finished, main_here: Main, tmp_path: Path
) -> None:
    storage = finished.copied_to(tmp_path)
    flags = ("--study", "table", "--storage", storage, "--csv")
    header = main_here("trials", *flags).out.splitlines()[0]
    engine = create_engine(storage)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM work WHERE stage = 'search'"))
    engine.dispose()
    assert main_here("trials", *flags).out == header + "\n"


def test_delete_asks_and_no_keeps_the_study(
    finished: Finished, main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = finished.copied_to(tmp_path)
    for answer in ("n\n", ""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        assert main_here("delete", "--study", "table", "--storage", storage).code == 1
        assert n_stored(tmp_path / "copy.db") == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main_here("delete", "--study", "table", "--storage", storage).code == 0
    assert n_stored(tmp_path / "copy.db") == 0


@pytest.mark.parametrize("elsewhere", [False, True])
def test_delete_takes_the_studys_files_along(
    finished: Finished,
    main_here: Main,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: bool,
) -> None:
    cache, shared = tmp_path / "cache", tmp_path / "shared"
    if elsewhere:
        monkeypatch.setenv("ONECYCLE_CHECKPOINTS", str(shared))
    checkpoints = shared if elsewhere else cache / "checkpoints"
    storage = finished.copied_to(tmp_path)
    ((study_id,),) = rows(storage, "SELECT id FROM study WHERE name = 'table'")
    for folder in (checkpoints, cache / "logs"):
        for owner in (str(study_id), "another"):
            (folder / owner).mkdir(parents=True)
            (folder / owner / "file").write_text("")
    assert main_here("delete", "--study", "table", "--storage", storage, "--yes").code == 0
    assert [p.name for f in (checkpoints, cache / "logs") for p in f.iterdir()] == ["another"] * 2


def test_run_list_delete_and_the_same_name_again(url: URL, main_here: Main) -> None:
    flags = ("--storage", plain(url))
    run = ("run", "--study", str(TABLE_STUDY), *flags, "--workers", "1", "--json")
    first = main_here(*run)
    assert first.code == 0
    assert PASSWORD not in first.err
    listed = main_here("list", *flags)
    assert listed.code == 0
    assert "table" in listed.out
    assert "12/12" in listed.out

    assert main_here("delete", "--study", "table", *flags, "--yes").code == 0
    assert "table" not in main_here("list", *flags).out
    storage = optuna_storage(url)
    assert optuna.get_all_study_names(storage) == []
    storage.remove_session()
    storage.engine.dispose()
    for table in ("study", "work", "epoch", "point"):
        assert rows(url, f"SELECT count(*) FROM {table}") == [(0,)]

    def answer(ended: Ended) -> Any:
        whole = only_json(ended.out)
        assert {"made", "finished"} <= set(whole["provenance"])
        for at in ("made", "finished"):
            del whole["provenance"][at]
        return {k: v for k, v in whole.items() if k != "spent"}

    assert answer(main_here(*run)) == answer(first)


# signals


def wait_for_running(database: Path, stage: str, process: "subprocess.Popen[str]") -> None:
    """Wait until a run of that stage is under way."""
    query = f"SELECT count(*) FROM work WHERE stage = '{stage}' AND state = 'running'"

    def is_running() -> bool:
        assert process.poll() is None, process.communicate()
        return n_stored(database) == 2 and rows(f"sqlite:///{database}", query) != [(0,)]

    wait_for(is_running)


TERMINATED = ("range_test", signal.SIGTERM, 75)
INTERRUPTED = ("search", signal.SIGINT, 130)


@pytest.mark.parametrize(
    ("workers", "stops"),
    [
        ("1", [TERMINATED, INTERRUPTED]),
        pytest.param("2", [INTERRUPTED], marks=pytest.mark.long),
    ],
)
@pytest.mark.slow
def test_signals_give_work_back_and_the_next_start_finishes_with_exact_counts(
    workers: str,
    stops: list[tuple[str, int, int]],
    start_onecycle: Callable[..., "subprocess.Popen[str]"],
    main_here: Main,
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, ledger = tmp_path / "a.db", tmp_path / "ledger"
    storage = f"sqlite:///{database}"
    run = ("run", "--study", str(TABLE_STUDY), "--storage", storage, "--device", "cpu")
    monkeypatch.setenv("TABLE_LEDGER", str(ledger))
    for stage, number, code in stops:
        process = start_onecycle(*run, "--workers", workers, TABLE_SLEEP_S="0.01")
        wait_for_running(database, stage, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        assert "the same command resumes it" in err.splitlines()[-1]
        assert "Traceback" not in err
        assert out == ""
        assert rows(storage, "SELECT count(*) FROM work WHERE state = 'running'") == [(0,)]
        assert rows(storage, "SELECT count(*) FROM work WHERE state = 'waiting'") != [(0,)]

    ended = main_here(*run, "--workers", "1", "--json")
    assert ended.code == 0
    counts = "SELECT stage, state, count(*), count(DISTINCT slot) FROM work GROUP BY stage, state"
    ((n_confirmed,),) = rows(storage, "SELECT count(*) FROM work WHERE stage = 'confirmation'")
    assert sorted(rows(storage, counts)) == [
        ("confirmation", "done", n_confirmed, n_confirmed),
        ("range_test", "done", 2, 2),
        ("search", "done", 12, 12),
    ]
    assert rows(storage, "SELECT state, count(*) FROM trials GROUP BY state") == [("COMPLETE", 12)]
    of_runs = [line for line in ledger.read_text().splitlines() if line != "0"]  # 0: the warm-up
    assert len(of_runs) == 2 + 12 + n_confirmed
    if workers == "1":
        undisturbed = only_json(finished.first.out)
        assert only_json(ended.out)["candidates"] == undisturbed["candidates"]
