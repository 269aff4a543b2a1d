"""Trackers hold the whole study, each point once, whatever happens in between."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url, update

from search import api
from search.starting import catalog
from search.starting.following import followed
from search.starting.opening import opened
from search.starting.slurm import submit_script
from search.starting.trackers import Tracker
from search.tracking import sync
from search.tracking.sync import follow_study
from search.tracking.turn import Turn
from search.workers.stop import Stop
from studies.database import open_engine, transaction
from studies.states import Stage
from studies.tables import StudyRow
from tests.conftest import TABLE_STUDY, Ended, Finished, unavailable
from tests.tracker_books import Points, mlflow_points, rows, tensorboard_points, wandb_points
from tests.waits import wait_for


def needs(package: str) -> None:
    """Skip where a tracker's package is not installed; in CI it is, and this fails."""
    if find_spec(package) is None:
        unavailable(f"{package} is not installed")


def expected_points(storage: str) -> Points:
    """Return the points of all curves that a database holds, by the queries of this test."""
    file = Path(make_url(storage).database or "")
    numbers = "lr_last, train_loss, train_accuracy, validation_loss, validation_accuracy"
    names = ("lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    points: Points = Points()
    with sqlite3.connect(file) as connection:
        for work, epoch, *values in connection.execute(
            f"SELECT work_id, epoch, {numbers} FROM epoch"
        ):
            points.update(
                (str(work), name, epoch)
                for name, value in zip(names, values, strict=True)
                if value is not None
            )
        for work, step, loss in connection.execute("SELECT work_id, step, loss FROM point"):
            points[str(work), "lr", step] += 1
            points[str(work), "loss", step] += loss is not None
    connection.close()
    return +points


def curves(points: Points) -> Points:
    """Return points by the number of the run, of curves alone."""
    names = ("lr", "loss", "train_loss", "train_accuracy", "validation_loss")
    kept = (*names, "validation_accuracy")
    return Points({key: n for key, n in points.items() if key[1] in kept})


def sums(points: Points) -> tuple[list[tuple[str, int, int]], int]:
    """Return how often each curve has each step over all runs, and the highest count of one."""
    total: Points = Points()
    for (_, name, step), n in points.items():
        total["", name, step] += n
    return sorted((name, step, n) for (_, name, step), n in total.items()), max(points.values())


def earlier(storage: str) -> None:
    """Take a finished study back to a moment when one cycle of its confirmation was under way."""
    file = Path(make_url(storage).database or "")
    with sqlite3.connect(file) as connection:
        last = connection.execute("SELECT max(id) FROM work").fetchone()[0]
        connection.execute(
            "UPDATE work SET state = 'running', outcome = NULL, score = NULL, seconds = NULL "
            "WHERE id = ?",
            (last,),
        )
        connection.execute("DELETE FROM epoch WHERE work_id = ? AND epoch > 2", (last,))
        connection.execute("UPDATE study SET stage = 'confirmation', finished_at = NULL")
    connection.close()


def test_tensorboard_has_a_study_that_goes_on_each_point_once(
    finished: Finished, tmp_path: Path
) -> None:
    needs("tensorboard")
    storage, to = finished.copied_to(tmp_path), [f"tensorboard:{tmp_path}/runs"]
    earlier(storage)
    for _ in range(2):
        api.send("table", to, storage=storage)
        there = tensorboard_points(tmp_path / "runs")
        assert sums(curves(there)) == (sums(expected_points(storage))[0], 1)
    (tmp_path / "later").mkdir()
    storage = finished.copied_to(tmp_path / "later")
    newest = max((tmp_path / "runs").rglob("confirmation-*/*tfevents*"), key=os.path.getmtime)
    newest.write_bytes(newest.read_bytes()[:-5])  # killed within its last event
    (newest.parent / "onecycle-sent.txt").unlink()
    said: list[str] = []
    for _ in range(2):
        api.send("table", to, storage=storage, say=said.append)
        there = tensorboard_points(tmp_path / "runs")
        assert sums(curves(there)) == (sums(expected_points(storage))[0], 1)
        assert max(there.values()) == 1
    assert said[0] != said[1]
    assert said[1].endswith("of which 0 had to be sent")


def test_tensorboard_shows_the_answer_and_compares_runs_by_their_parameters(
    finished: Finished, tmp_path: Path
) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    api.send("table", [f"tensorboard:{tmp_path}"], storage=finished.storage)
    (folder,) = tmp_path.glob("table-*")
    answer = EventAccumulator(str(folder)).Reload().Tensors("answer/text_summary")
    words = answer[-1].tensor_proto.string_val[0].decode()
    assert "OneCycleLR(" in words
    assert words.startswith("Take ")
    run = EventAccumulator(str(folder / "search-003")).Reload()
    content = run.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    told = HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["slot"].number_value == 3
    assert told["max_lr"].number_value > 0
    assert told["seed"].number_value > 0
    assert len(run.Scalars("score")) == 1


def test_a_tracker_that_is_away_is_said_once_and_gets_everything_when_it_is_back(
    finished: Finished, tmp_path: Path
) -> None:
    needs("tensorboard")
    place = tmp_path / "runs"
    place.write_text("a file in the place of the folder")
    said: list[str] = []
    stop = Stop()
    with opened(finished.storage) as engine:
        row = catalog.find(engine, "table")
        follow = threading.Thread(
            target=follow_study,
            args=(engine, row, [Tracker("tensorboard", str(place))]),
            kwargs={"stop": stop, "say": said.append, "until_ended": True},
        )
        follow.start()
        wait_for(lambda: bool(said))
        assert "is away: NotADirectoryError" in said[0]
        place.unlink()
        follow.join(60)
        assert not follow.is_alive()
    assert said[1].endswith(f"{place} is back, and has all of the study so far")
    assert "has study 'table'" in said[2]
    assert len(said) == 3
    assert sums(curves(tensorboard_points(place))) == (
        sums(expected_points(finished.storage))[0],
        1,
    )


def test_who_follows_to_the_end_sees_it_soon_however_seldom_it_looks(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("tensorboard")
    monkeypatch.setattr(sync, "LOOK_S", 3600.0)
    said: list[str] = []
    with opened(finished.copied_to(tmp_path)) as engine:
        row = catalog.find(engine, "table")
        with transaction(engine) as session:
            session.execute(update(StudyRow).values(stage=Stage.CONFIRMATION))
        follow = threading.Thread(
            target=follow_study,
            args=(engine, row, [Tracker("tensorboard", str(tmp_path / "runs"))]),
            kwargs={"stop": Stop(), "say": said.append, "until_ended": True},
            daemon=True,
        )
        follow.start()
        wait_for(lambda: bool([*tmp_path.glob("runs/table-*/search-*")]))
        follow.join(3)
        assert follow.is_alive(), "the study goes on"
        with transaction(engine) as session:
            session.execute(update(StudyRow).values(stage=Stage.FINISHED))
        follow.join(60)
        assert not follow.is_alive()
    (line,) = said
    n_runs, n_sent = map(int, re.findall(r"\b(\d+) (?:runs|had)", line))
    assert 10 < n_sent == n_runs, line


def test_two_processes_take_turns_and_a_killed_one_loses_its_turn(url: URL) -> None:
    engine = open_engine(url)
    holds = (
        "import sys; from studies.database import open_engine; from sqlalchemy import make_url;"
        "from search.tracking.turn import Turn;"
        "turn = Turn(open_engine(make_url(sys.argv[1])), 'id', 'wandb:p');"
        "print(turn.is_ours(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds, url.render_as_string(hide_password=False)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        ours, other = Turn(engine, "id", "wandb:p"), Turn(engine, "id", "wandb:q")
        assert not ours.is_ours()
        assert other.is_ours()
        holder.kill()
        wait_for(ours.is_ours)
        assert ours.is_ours()
        third = Turn(engine, "id", "wandb:p")
        assert not third.is_ours()
        ours.end()
        wait_for(third.is_ours)  # a server frees a lock once it has seen its connection end
        assert third.is_ours()
        third.end()
        other.end()
    engine.dispose()


def test_slurm_gets_trackers_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\nprintenv ONECYCLE_TRACK >{tmp_path}/track\necho 7\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    track = [Tracker("mlflow", "http://u:p@h"), Tracker("tensorboard", "runs")]
    assert submit_script("", storage="sqlite:///x", track=track) == "7"
    assert (tmp_path / "track").read_text() == "mlflow:http://u:p@h\ntensorboard:runs\n"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_that_is_tracked_is_in_the_tracker_when_it_ends(
    onecycle: Callable[..., Ended], tmp_path: Path, workers: str
) -> None:
    needs("tensorboard")
    storage = f"sqlite:///{tmp_path}/studies.db"
    flags = ("--study", str(TABLE_STUDY), "--storage", storage, "--workers", workers)
    track = ("--track", f"tensorboard:{tmp_path}/runs")
    ended = onecycle("range-test", *flags, *track, ONECYCLE_CACHE=str(tmp_path))
    assert ended.code == 0, ended.err
    after_sweeps = tensorboard_points(tmp_path / "runs")
    assert sums(curves(after_sweeps)) == (sums(expected_points(storage))[0], 1)
    ended = onecycle("run", *flags, *track, TABLE_SLEEP_S="0.01", ONECYCLE_CACHE=str(tmp_path))
    assert ended.code == 0, ended.err
    assert "away" not in ended.err
    there = tensorboard_points(tmp_path / "runs")
    assert sums(curves(there)) == (sums(expected_points(storage))[0], 1)
    assert max(there.values()) == 1
    shutil.rmtree(tmp_path / "runs")
    assert onecycle("run", *flags, *track).code == 0  # ended before: what is missing is sent
    assert tensorboard_points(tmp_path / "runs") == there


@pytest.mark.slow
def test_a_follower_that_is_killed_is_started_again(finished: Finished, tmp_path: Path) -> None:
    needs("tensorboard")
    storage = finished.copied_to(tmp_path)
    earlier(storage)
    follower = "export --study table --follow --until-stdin-closes"
    with opened(storage) as engine:
        tracker = Tracker("tensorboard", str(tmp_path / "runs"))
        with followed(engine, "table", [tracker], Stop()):
            wait_for(lambda: len(list((tmp_path / "runs").rglob("onecycle-sent.txt"))) > 3)
            killed = [
                int(each.name)
                for each in Path("/proc").glob("[0-9]*")
                if _is_child(each) and follower in _command(each)
            ]
            for process in killed:
                os.kill(process, 9)
        assert killed
    there = tensorboard_points(tmp_path / "runs")
    assert sums(curves(there)) == (sums(expected_points(storage))[0], 1)


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _is_child(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())
    except OSError:
        return False


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[Callable[[], "Server"]]:
    """Start an MLflow server on a port that is always the same within a test."""
    needs("mlflow.server")
    server = Server(tmp_path)
    yield server.started
    server.end()


class Server:
    """An MLflow server with a SQLite file."""

    def __init__(self, folder: Path) -> None:
        import socket

        self.file = folder / "mlflow.db"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://me:s3cr-3t@127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def started(self, *, up: bool = True) -> "Server":
        """Start it, and wait until it answers; `up`: False gives its address alone."""
        if not up:
            return self
        # Without its job runners, nine processes that no tracking needs.
        quiet = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
                *("--port", str(self.port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{self.file}"),
            ],
            cwd=self.file.parent,
            env={**os.environ, **quiet},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(self.answers, timeout_s=240, pause_s=0.5)
        return self

    def answers(self) -> bool:
        """Whether it answers."""
        from urllib.request import urlopen

        try:
            with urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def end(self) -> None:
        """Kill it with its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


@pytest.mark.slow
def test_mlflow_has_a_study_that_goes_on_each_point_once(
    finished: Finished,
    tmp_path: Path,
    mlflow_server: Callable[..., Server],
    onecycle: Callable[..., Ended],
) -> None:
    server = mlflow_server()
    storage = finished.copied_to(tmp_path)
    earlier(storage)
    (tmp_path / "later").mkdir()
    for moment in (storage, finished.copied_to(tmp_path / "later")):
        for _ in range(2):
            flags = ("--study", "table", "--storage", moment, "--to", f"mlflow:{server.uri}")
            ended = onecycle("export", *flags)
            assert (ended.code, ended.err) == (0, "")
            assert "s3cr-3t" not in ended.out
            assert len(ended.out.splitlines()) == 1
            there = mlflow_points(server.file)
            assert sums(curves(there)) == (sums(expected_points(moment))[0], 1)
            assert max(there.values()) == 1
    tags = rows(server.file, "SELECT name, key, value FROM tags JOIN runs USING (run_uuid)")
    (parent,) = {name for name, key, value in tags if key == "answer" and value}
    assert parent == "table"
    assert any("answer" in str(value) for name, key, value in tags if key == "role")
    nested = [value for _, key, value in tags if key == "mlflow.parentRunId"]
    runs = rows(server.file, "SELECT name, status, run_uuid FROM runs")
    assert len(nested) == len(runs) - 1
    assert {status for _, status, _ in runs} == {"FINISHED"}


@pytest.mark.slow
def test_mlflow_that_is_away_stops_nothing_and_gets_all_when_it_is_there(
    tmp_path: Path, mlflow_server: Callable[..., Server], onecycle: Callable[..., Ended]
) -> None:
    server = mlflow_server(up=False)
    storage = f"sqlite:///{tmp_path}/studies.db"
    flags = ("--study", str(TABLE_STUDY), "--storage", storage, "--workers", "1")
    track = ("--track", f"mlflow:{server.uri}")
    ended = onecycle("run", *flags, *track, ONECYCLE_CACHE=str(tmp_path))
    assert ended.code == 0, ended.err
    told = [line for line in ended.err.splitlines() if "mlflow:" in line]
    assert len(told) == 2, ended.err
    assert "is away: ConnectionRefusedError" in told[0]
    assert "onecycle export --study table --to" in told[1]
    assert "s3cr-3t" not in ended.err + ended.out
    sending = ("export", "--study", "table", "--storage", storage, "--to", track[1])
    assert onecycle(*sending).code == 75
    server.started()
    ended = onecycle("run", *flags, *track, ONECYCLE_CACHE=str(tmp_path))
    assert ended.code == 0
    assert "mlflow:" not in ended.err
    there = mlflow_points(server.file)
    assert sums(curves(there)) == (sums(expected_points(storage))[0], 1)


def few(storage: str) -> None:
    """Leave a sweep, two cycles of the search and one of the confirmation, in a study under way:
    a run of W&B takes a second."""
    file = Path(make_url(storage).database or "")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("UPDATE study SET stage = 'confirmation', finished_at = NULL")
        connection.execute(
            "DELETE FROM work WHERE id NOT IN (1, 4, 5, (SELECT max(id) FROM work))"
        )
    connection.close()


@pytest.mark.slow
def test_wandb_offline_has_a_study_that_goes_on_each_point_once(
    finished: Finished, tmp_path: Path, onecycle: Callable[..., Ended]
) -> None:
    needs("wandb")
    (tmp_path / "later").mkdir()
    storage, later = finished.copied_to(tmp_path), finished.copied_to(tmp_path / "later")
    earlier(storage)
    places = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    left = None
    for moment in (storage, later, later):
        few(moment)
        flags = ("--study", "table", "--storage", moment, "--to", "wandb:onecycle")
        ended = onecycle("export", *flags, **places)
        assert (ended.code, ended.err) == (0, "")
        assert len(ended.out.splitlines()) == 1
        there = curves(wandb_points(tmp_path / "wandb"))
        if left is None:  # a process that was killed leaves no word that a run is whole
            left = next((tmp_path / "wandb").glob("offline-run-*-4"))
            (left / "onecycle_sent.txt").unlink()
    assert not left.exists()
    assert sums(there) == (sums(expected_points(later))[0], 1)
    assert ended.out.endswith("of which 0 had to be sent\n")
