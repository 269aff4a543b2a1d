"""`status` tells how a study stands and changes nothing; `reap` frees what dead workers held."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, insert, select, text, update

from search.queue.leases import running
from search.queue.roster import Roster, process_identity
from search.queue.rows import release
from search.queue.work import Claim, FencedOffError, Queue
from search.results.status import overview, plan_of, stored_definition
from studies.answer import NoAnswer
from studies.database import open_engine, prepare, reading, transaction
from studies.registry import load
from studies.states import FailureKind, Stage
from studies.tables import EpochRecord, StudyRow, WorkRow
from tests.conftest import ROOT, TABLE_STUDY, Ended, Finished, plain
from tests.rows import study_row

Main = Callable[..., Ended]
Start = Callable[..., "subprocess.Popen[str]"]

N_TRIALS = 6
SWEEP_IMAGES = 600
CONFIRMATION_CYCLES = 9
EPOCH_VALUES = {
    "lr_first": 0.1,
    "lr_last": 0.2,
    "train_loss": 1.0,
    "train_accuracy": 0.5,
    "validation_loss": 1.0,
    "validation_accuracy": 0.5,
    "seconds": 1.0,
    "images_per_s": 10.0,
}


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    return Path(shutil.copy(TABLE_STUDY, tmp_path / "study.py"))


@pytest.fixture
def engine(url: URL, study_file: Path) -> Iterator[Engine]:
    """The table study in its search, in each kind of database."""
    yield from searching(url, study_file)


@pytest.fixture
def sqlite(sqlite_url: URL, study_file: Path) -> Iterator[Engine]:
    """The same where the database does not matter."""
    yield from searching(sqlite_url, study_file)


def searching(url: URL, study_file: Path) -> Iterator[Engine]:
    """Store the table study in its search: three sweeps ended in 2 s each, all slots wait."""
    engine = open_engine(url)
    prepare(engine)
    sweep = {"stage": "range_test", "state": "done", "n_images": SWEEP_IMAGES, "seconds": 2.0}
    with transaction(engine) as session:
        session.add(
            study_row(
                id="s",
                name="table",
                spec=str(study_file),
                source=load(str(study_file)).source,
                n_trials=N_TRIALS,
            )
        )
        session.flush()
        session.add_all(work(slot=n, sweep_steps=60, **sweep) for n in range(3))
        session.add_all(work(slot=n) for n in range(N_TRIALS))
    yield engine
    engine.dispose()


def work(**values: object) -> WorkRow:
    columns: dict[str, object] = {"study_id": "s", "stage": "search", "round": 0}
    length = {} if "sweep_steps" in values else {"epochs": 4}
    return WorkRow(**{**columns, **length, **values})


def queue_on(engine: Engine, owner: str, process: str | None = None) -> Queue:
    with reading(engine) as session:
        return Queue(engine, session.get_one(StudyRow, "s"), owner=owner, process=process)


def joined(engine: Engine, name: str, *, device: str) -> Roster:
    with reading(engine) as session:
        study = session.get_one(StudyRow, "s")
    roster = Roster(engine, study, name=name, process=None, device=device)
    roster.join()
    return roster


def claimed(queue: Queue) -> Claim:
    claim = queue.claim()
    assert claim is not None
    return claim


def change(engine: Engine, claim: Claim, **values: object) -> None:
    with transaction(engine) as session:
        session.execute(update(WorkRow).where(WorkRow.id == claim.work_id).values(**values))


def change_study(engine: Engine, **values: object) -> None:
    with transaction(engine) as session:
        session.execute(update(StudyRow).where(StudyRow.id == "s").values(**values))


def flags(engine: Engine) -> tuple[str, ...]:
    return ("--study", "table", "--storage", plain(engine.url))


def document(engine: Engine, main_here: Main) -> Any:
    ended = main_here("status", *flags(engine), "--json")
    assert ended.code == 0, ended
    return json.loads(ended.out)


def ago(seconds: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)


def everything(engine: Engine) -> list[Any]:
    with reading(engine) as session:
        return [
            list(session.execute(text(f"SELECT * FROM {table} ORDER BY 1")))
            for table in ("study", "work", "epoch", "trials")
        ]


# status


def test_every_run_is_counted_in_its_stage_and_state(engine: Engine, main_here: Main) -> None:
    queue = queue_on(engine, "host:1:a")
    change(engine, claimed(queue), state="done", score=0.7)
    change(engine, claimed(queue), state="failed")
    claimed(queue)
    shown = document(engine, main_here)["stages"]
    stages = [tuple(v for k, v in s.items() if k not in ("name", "at_most")) for s in shown]
    assert [s["name"] for s in shown] == ["range test", "search", "confirmation"]
    assert stages == [
        ("range_test", 3, 0, 0, 0, 3),
        ("search", 1, 1, 3, 1, N_TRIALS),
        ("confirmation", 0, 0, 0, 0, CONFIRMATION_CYCLES),
    ]


def test_a_silent_owner_is_shown_as_stale_by_the_databases_clock(
    engine: Engine, main_here: Main
) -> None:
    silent, living = queue_on(engine, "far:7:a"), queue_on(engine, "near:8:b")
    joined(engine, "far:7:a", device="cuda (a GPU)")
    joined(engine, "near:8:b", device="cpu (a CPU)")
    change(engine, claimed(silent), beat_at=ago(105))
    claim = claimed(living)
    with transaction(engine) as session:
        session.add_all(
            EpochRecord(work_id=claim.work_id, epoch=n, **EPOCH_VALUES) for n in (1, 2)
        )
    shown = document(engine, main_here)
    first, second = shown["running"]
    assert (first["owner"], first["stale"]) == ("far:7:a", True)
    assert 104 <= first["silent_s"] < 125
    assert (second["owner"], second["stale"]) == ("near:8:b", False)
    assert 0 <= second["silent_s"] < 20
    assert (second["slot"], second["epoch"], second["length"]) == (1, 2, 4)
    assert [point["score"] for point in second["by_epoch"]] == [0.5, 0.5]
    workers = [(w["name"], w["host"], w["device"], w["stale"]) for w in shown["workers"]]
    assert workers == [
        ("far:7:a", "far", "cuda (a GPU)", True),
        ("near:8:b", "near", "cpu (a CPU)", False),
    ], "a worker shows life by the run that it holds"
    lines = main_here("status", *flags(engine)).out.splitlines()
    (stale,) = [line for line in lines if "stale" in line]
    assert stale.startswith("  search 0 · step 0/40 · far:7 · cuda (a GPU) · silent for 1")
    living_line = "  search 1 · epoch 2/4 · ▁▁▁▁▁ score 0.5 · near:8 · cpu (a CPU) · silent for "
    assert any(line.startswith(living_line) for line in lines)


def test_an_idle_worker_is_shown_with_what_it_waits_for(engine: Engine, main_here: Main) -> None:
    waiting = joined(engine, "near:9:c", device="cpu (a CPU)")
    waiting.wait("2 search run(s) of other workers")
    (worker,) = document(engine, main_here)["workers"]
    assert worker["waits_for"] == "2 search run(s) of other workers"
    lines = main_here("status", *flags(engine)).out.splitlines()
    line = lines[lines.index("idle") + 1]
    assert line.startswith(
        "  near:9 · cpu (a CPU) · waits for 2 search run(s) of other workers · "
    )
    waiting.leave()
    assert document(engine, main_here)["workers"] == []


def test_failed_attempts_are_told_by_kind_with_the_end_of_a_traceback(
    engine: Engine, main_here: Main
) -> None:
    queue = queue_on(engine, "host:1:a")
    bug = claimed(queue)
    queue.fail(bug, FailureKind.BUG, "Traceback:\n  line 1\nValueError: first")
    queue.fail(claimed(queue), FailureKind.BUG, "Traceback:\n  line 1\nValueError: \x1b[2Jboom\n")
    change(engine, bug, state="done")
    queue.fail(claimed(queue), FailureKind.MEMORY, "Traceback:\nMemoryError")
    assert [tuple(each.values()) for each in document(engine, main_here)["failures"]] == [
        ("bug", 1, 2, "ValueError: \x1b[2Jboom"),
        ("memory", 1, 1, "MemoryError"),
    ]
    out = main_here("status", *flags(engine)).out
    assert "bug: 2 in 1 run(s) · ValueError:  [2Jboom" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.9), ("minimize", 0.2)])
def test_the_best_score_follows_the_direction(
    direction: str, best: float, engine: Engine, main_here: Main
) -> None:
    change_study(engine, direction=direction)
    queue = queue_on(engine, "host:1:a")
    for score in (0.5, 0.9, 0.2):
        change(engine, claimed(queue), state="done", score=score)
    assert document(engine, main_here)["best"]["score"] == best


def test_time_left_is_what_runs_take_times_how_many_are_left_among_the_workers_that_live(
    engine: Engine, main_here: Main
) -> None:
    assert document(engine, main_here)["seconds_left"] is None, "nobody works"
    assert "nobody works on it now" in main_here("status", *flags(engine)).out
    claim = claimed(queue_on(engine, "a:1:a"))
    claimed(queue_on(engine, "b:2:b"))
    change(engine, claimed(queue_on(engine, "dead:3:c")), beat_at=ago(1000))
    with transaction(engine) as session:
        session.add(EpochRecord(work_id=claim.work_id, epoch=3, **EPOCH_VALUES))
    cycle_s = 4 * EPOCH_VALUES["seconds"]  # by the epochs of the one that has begun
    searched, confirmed = N_TRIALS - 3 / 4, 14  # half of the confirmations have no more
    idle = 1 / 2  # of two workers one waits at the end of each stage, half a run on average
    said = document(engine, main_here)
    left = (searched + idle + confirmed + idle) * cycle_s / 2
    # The other one has no epoch yet: the clock may say that it is nearly over.
    assert left - 0.95 * cycle_s / 2 <= said["seconds_left"] <= left
    low, high = said["seconds_left_range"]
    assert low < left < high
    assert said["time_left"].endswith(" left")
    out = main_here("status", *flags(engine)).out
    assert re.search(r"^about \d+ s \(\d+ s to \d+ s\) left$", out, re.MULTILINE), "a second later"
    with transaction(engine) as session:
        session.execute(update(WorkRow).where(WorkRow.state == "done").values(state="waiting"))
    assert document(engine, main_here)["seconds_left"] is None, "nothing has ended"
    out = main_here("status", *flags(engine)).out
    assert "time left: not known before the first run has ended" in out


@pytest.mark.parametrize("change_file", [Path.unlink, lambda path: path.write_text("x = 1 2")])
def test_without_the_study_file_only_what_is_stored_is_told(
    change_file: Callable[[Path], object], sqlite: Engine, study_file: Path, main_here: Main
) -> None:
    claimed(queue_on(sqlite, "a:1:a"))
    change_file(study_file)
    found = document(sqlite, main_here)
    assert [(s["stage"], s["total"]) for s in found["stages"]] == [
        ("range_test", 3),
        ("search", N_TRIALS),
    ]
    assert found["seconds_left"] is None
    assert "its study file is not here" in found["time_left"]


def test_a_file_that_is_not_the_stored_one_plans_nothing(sqlite: Engine, study_file: Path) -> None:
    with reading(sqlite) as session:
        row = session.get_one(StudyRow, "s")
    assert stored_definition(row) is not None
    study_file.write_text(study_file.read_text().replace("n_seeds=3", "n_seeds=30"))
    assert stored_definition(row) is None


def test_a_look_changes_nothing(engine: Engine, main_here: Main) -> None:
    change(engine, claimed(queue_on(engine, "dead:3:c")), beat_at=ago(1000))
    before = everything(engine)
    assert main_here("status", *flags(engine)).code == 0
    assert document(engine, main_here)["running"] != []
    assert everything(engine) == before


def test_a_finished_study_says_so_without_torch(finished: Finished) -> None:
    script = (
        "import sys\nfrom search.__main__ import main\n"
        "try: main()\nfinally: print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            "status",
            "--study",
            "table",
            "--storage",
            finished.storage,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("study table: finished; its answer: onecycle report")
    assert "sqlalchemy" in done.stderr.split()
    assert not {"torch", "optuna", "plotly", "scipy"} & set(done.stderr.split())


def test_a_failed_study_says_why(sqlite: Engine, main_here: Main) -> None:
    change_study(sqlite, stage=Stage.FAILED, ending=NoAnswer("no sweep broke"))
    assert main_here("status", *flags(sqlite)).out.startswith(
        "study table: failed: no sweep broke"
    )


@pytest.mark.parametrize("command", ["status", "reap"])
def test_an_unknown_study_is_refused(command: str, sqlite: Engine, main_here: Main) -> None:
    ended = main_here(command, "--study", "tabel", "--storage", plain(sqlite.url))
    assert (ended.code, ended.out) == (2, "")
    assert "no stored study 'tabel'" in ended.err
    assert "stored: table" in ended.err


def test_one_document_and_many_looks_exclude_each_other(sqlite: Engine, main_here: Main) -> None:
    ended = main_here("status", *flags(sqlite), "--json", "--watch")
    assert (ended.code, ended.out) == (2, "")
    assert "--json --watch" in ended.err


def test_watching_ends_with_the_study(sqlite: Engine, start_onecycle: Start) -> None:
    watcher = start_onecycle("status", *flags(sqlite), "--watch")
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "study table: search\n"
    change_study(sqlite, stage="finished")
    out, err = watcher.communicate(timeout=300)
    assert watcher.returncode == 0, err
    assert "study table: finished" in out


def test_ctrl_c_ends_watching_quietly(sqlite: Engine, start_onecycle: Start) -> None:
    watcher = start_onecycle("status", *flags(sqlite), "--watch")
    assert watcher.stdout is not None
    watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=300)
    assert (watcher.returncode, err) == (0, "")


def test_watching_repaints_a_terminal(sqlite: Engine) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "status", *flags(sqlite), "--watch"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color"},
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    seen = b""
    while b"confirmation" not in seen:
        seen += os.read(controller, 65536)
    change_study(sqlite, stage="finished")
    with contextlib.suppress(OSError):  # the end of a terminal that nobody holds any more
        while part := os.read(controller, 65536):
            seen += part
    os.close(controller)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, b"")
    assert seen.index(b"study table: search") < seen.index(b"\x1b[1A")
    assert b"study table: finished" in seen.partition(b"\x1b[1A")[2]


@pytest.mark.long
def test_three_thousand_finished_runs_are_told_in_half_a_second(engine: Engine) -> None:
    ended = {"state": "done", "score": 0.5, "n_images": 400, "seconds": 1.0, "owner": "a:1:a"}
    with transaction(engine) as session:
        rows = [{"study_id": "s", "stage": "search", "round": 1, "epochs": 4, "slot": n, **ended}
                for n in range(3000)]  # fmt: skip
        session.execute(insert(WorkRow), rows)
        ids = session.scalars(select(WorkRow.id).where(WorkRow.round == 1)).all()
        epochs = [{"work_id": n, "epoch": e, **EPOCH_VALUES} for n in ids for e in range(1, 9)]
        session.execute(insert(EpochRecord), epochs)
    for n in range(N_TRIALS):
        claimed(queue_on(engine, f"host:{n}:a"))
    with reading(engine) as session:
        row = session.get_one(StudyRow, "s")
    started = time.perf_counter()
    found = overview(engine, "table", plan_of(row, stored_definition(row)))
    seconds = time.perf_counter() - started
    print(f"{engine.dialect.name}: {seconds:.3f} s")
    assert found.stages[1].done == 3000
    assert seconds < 0.5


# reap


def test_reap_frees_the_silent_and_leaves_the_living_alone(
    engine: Engine, main_here: Main
) -> None:
    change_study(engine, grace_s=3.0)  # a busy machine may keep a beat of 0.1 s waiting
    silent, living = queue_on(engine, "dead:7:a"), queue_on(engine, "alive:8:b")
    lost, kept = claimed(silent), claimed(living)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.1):
            living.beat(kept)

    thread = threading.Thread(target=beat)
    thread.start()
    ended = main_here("reap", *flags(engine))
    over.set()
    thread.join()
    assert ended.code == 0, ended
    assert ended.out.splitlines() == [
        "given back: search 0 · dead:7",
        "1 of 2 running run(s) given back",
    ]
    living.beat(kept)
    with pytest.raises(FencedOffError):
        silent.beat(lost)
    again = claimed(living)
    assert (again.slot, again.token) == (lost.slot, lost.token + 1)


def test_reap_waits_for_the_grace_time_whatever_the_last_beat_says(
    engine: Engine, main_here: Main
) -> None:
    change_study(engine, grace_s=1.0)
    change(engine, claimed(queue_on(engine, "dead:7:a")), beat_at=ago(1000))
    started = time.monotonic()
    assert "1 of 1" in main_here("reap", *flags(engine)).out
    assert time.monotonic() - started >= 1.0


def test_a_run_of_a_dead_process_of_this_host_is_freed_at_once(
    sqlite: Engine, main_here: Main
) -> None:
    change_study(sqlite, grace_s=600.0)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(process.pid)
    assert identity is not None
    claimed(queue_on(sqlite, "here:7:a", identity))
    process.kill()
    process.communicate()
    assert "given back: search 0 · here:7" in main_here("reap", *flags(sqlite)).out


def test_reap_with_nothing_running_ends_at_once(sqlite: Engine, main_here: Main) -> None:
    before = everything(sqlite)
    ended = main_here("reap", *flags(sqlite))
    assert (ended.code, ended.out) == (0, "0 of 0 running run(s) given back\n")
    assert everything(sqlite) == before


def test_an_owner_that_beats_after_the_last_look_keeps_its_run(engine: Engine) -> None:
    queue = queue_on(engine, "alive:8:b")
    claim = claimed(queue)
    with reading(engine) as session:
        study = session.get_one(StudyRow, "s")
    (before,) = running(engine, study)
    queue.beat(claim)
    assert not release(engine, before)
    queue.beat(claim)
    (now,) = running(engine, study)
    assert release(engine, now)
