"""From a study that fails to one that runs: the user's own lines, --fresh, a corrected file."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from search.starting import cost
from search.tracebacks import headline, in_short, message_of, place_of, text_of
from studies.database import open_engine, transaction
from studies.tables import WorkerRow
from tests.conftest import Ended
from tests.rows import query
from tests.table_study import STUDY as TABLE
from trainers.run import Run, RunResult

Main = Callable[..., Ended]

LOOP = """
from dataclasses import replace

from studies.definition import Confirmation
from tests.table_study import STUDY as TABLE
from tests.table_study import Table
from trainers.task import OwnLoop


class Loop(Table):
    def __init__(self, site):
        super().__init__(site)
        {at_the_start}

    def fit(self, run):
        {in_the_steps}
        result = super().fit(run)
        return self.scored(run, result)

    def scored(self, run, result):
        metrics = dict(accuracy=result.score)
        score = metrics[{metric!r}] if run.split else None
        return replace(result, score=score, seconds=0.0)


STUDY = replace(
    TABLE,
    name="mine",
    task=OwnLoop(factory=Loop, batch_size=10, steps_per_epoch=10),
    confirmation=Confirmation(n_finalists=1, n_seeds=2),
)
"""


class Mine:
    """A study file that is changed between starts, and its database."""

    def __init__(self, folder: Path, main_here: Main) -> None:
        self.file, self.main = folder / "mine.py", main_here
        self.storage = f"sqlite:///{folder}/a.db"
        self.url = make_url(self.storage)

    def write(
        self, *, at_the_start: str = "", in_the_steps: str = "", metric: str = "accuracy"
    ) -> None:
        self.file.write_text(
            LOOP.format(
                at_the_start=at_the_start or "pass",
                in_the_steps=in_the_steps or "pass",
                metric=metric,
            )
        )

    def run(self, *flags: str) -> Ended:
        where = ("--study", str(self.file), "--storage", self.storage, "--workers", "1")
        return self.main("run", *where, *flags)

    def told(self, command: str, *flags: str) -> Ended:
        return self.main(command, "--study", "mine", "--storage", self.storage, *flags)


@pytest.fixture
def mine(tmp_path: Path, main_here: Main) -> Mine:
    return Mine(tmp_path, main_here)


def test_a_failed_study_shows_the_users_own_lines_and_where_all_are(mine: Mine) -> None:
    mine.write(metric="accuracies")
    ended = mine.run("--trials", "3")
    assert ended.code == 1
    shown = ended.err.partition("no result: ")[2]
    assert shown.splitlines()[0].endswith("the last with KeyError: 'accuracies'")
    assert "search 0 failed with:" in shown
    code = mine.file.read_text().splitlines()
    line = 1 + next(n for n, each in enumerate(code) if "metrics['accuracies']" in each)
    assert f'File "{mine.file}", line {line}, in scored' in shown
    assert "score = metrics['accuracies']" in shown
    assert "search/workers" not in shown, "not our lines"
    assert f"onecycle status --study mine --storage {mine.storage} --errors" in shown

    errors = mine.told("status", "--errors")
    assert errors.out.startswith("1 of 1: search 0 and 1 more run(s), 6 attempt(s), bug\n")
    assert "Traceback (most recent call last):" in errors.out
    assert "search/workers/worker.py" in errors.out
    (told,) = json.loads(mine.told("status", "--errors", "--json").out)
    assert (told["kind"], told["n_runs"], told["n_attempts"]) == ("bug", 2, 6)
    again = mine.run()
    assert (again.code, "in scored" in again.err) == (1, True)


@pytest.mark.parametrize(
    ("broken", "when"),
    [
        ({"at_the_start": "{}['folder']"}, "as the task was loaded"),
        ({"in_the_steps": "1 / 0"}, "in the first steps of training"),
    ],
)
def test_what_raises_before_the_first_run_is_told_without_a_traceback(
    mine: Mine, broken: dict[str, str], when: str
) -> None:
    mine.write(**broken)
    ended = mine.run()
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert f"in your code, {when}:\n" in ended.err
    assert f'  File "{mine.file}", line ' in ended.err
    assert "Traceback" not in ended.err
    assert query(mine.url, "SELECT * FROM study") == []


def test_a_corrected_file_replaces_a_study_of_which_no_cycle_has_finished(
    mine: Mine, caplog: pytest.LogCaptureFixture
) -> None:
    mine.write(metric="accuracies")
    assert mine.run("--trials", "3", "--seed", "7").code == 1
    (before,) = query(mine.url, "SELECT id FROM study")
    mine.write()
    ended = mine.run()
    assert ended.code == 0, ended.err
    assert "'mine' was changed; no cycle had finished, so it starts again" in caplog.text
    assert query(mine.url, "SELECT seed, n_trials, stage FROM study") == [(7, 3, "finished")]
    assert query(mine.url, "SELECT id FROM study") != [before]
    sweeps = "SELECT count(*) FROM work WHERE stage = 'range_test'"
    assert query(mine.url, sweeps) == [(2,)], "those of the old definition are gone"

    mine.write(in_the_steps="run.seed")
    refused = mine.run()
    assert refused.code == 2
    assert "put it back, or start a new study with --name" in refused.err
    assert "--fresh" not in refused.err


def test_a_file_is_not_replaced_under_workers_that_live(mine: Mine) -> None:
    mine.write(metric="accuracies")
    assert mine.run().code == 1
    engine = open_engine(mine.url)
    (study,) = query(mine.url, "SELECT id FROM study")[0]
    with transaction(engine) as session:
        worker = WorkerRow(name="far:1:x", study_id=study, process=None, device="cpu")
        session.add(worker)
    engine.dispose()
    mine.write()
    for flags in ((), ("--fresh",)):
        ended = mine.run(*flags)
        assert ended.code == 2
        assert "far:1:x" in ended.err
    assert query(mine.url, "SELECT id FROM study") == [(study,)]


def test_fresh_starts_a_failed_study_again_and_keeps_one_that_has_results(mine: Mine) -> None:
    mine.write(metric="accuracies")
    assert mine.run("--fresh", "--trials", "3").code == 1, "of none it makes one"
    mine.write()
    ended = mine.run("--fresh", "--trials", "2")
    assert ended.code == 0, ended.err
    assert query(mine.url, "SELECT n_trials, stage FROM study") == [(2, "finished")]
    assert query(mine.url, "SELECT count(*) FROM studies") == [(1,)], "Optuna's old one is gone"
    refused = mine.run("--fresh")
    assert refused.code == 2
    assert "onecycle delete --study mine" in refused.err
    assert query(mine.url, "SELECT stage FROM study") == [("finished",)]


def test_time_is_measured_where_a_loop_counts_none_and_samples_are_no_images(mine: Mine) -> None:
    mine.write()
    ended = mine.run("--trials", "2")
    assert ended.code == 0, ended.err
    assert query(mine.url, "SELECT count(*) FROM work WHERE seconds <= 0") == [(0,)]
    report = mine.told("report").out
    for text in (ended.out, ended.err, report):
        assert "images" not in text
        assert " 0 s" not in text
    assert "training samples" in ended.out


def raised() -> str:
    try:
        json.loads("{")
    except ValueError as error:
        return text_of(error)
    raise AssertionError


def test_of_a_traceback_the_own_lines_and_the_message_are_read() -> None:
    text = raised()
    assert headline(text).startswith("json.decoder.JSONDecodeError: ")
    short = in_short(text)
    assert f'File "{__file__}"' in short
    assert 'json.loads("{")' in short
    assert "decoder.py" not in short


def test_messages_of_several_lines_begin_where_the_exception_does() -> None:
    text = (
        'Traceback:\n  File "/a.py", line 1, in f\n    f()\nValueError: one\n  two\nthree\nfour\n'
    )
    assert message_of(text) == ["ValueError: one", "  two", "three", "four"]
    assert in_short(text).endswith("ValueError: one\n  two\nthree\n...")
    assert place_of(text) == place_of(text.replace("two", "2"))
    assert place_of(text) != place_of(text.replace("line 1", "line 2"))


def test_a_hostile_traceback_moves_no_cursor() -> None:
    text = 'T:\n  File "/a\x1b[2J.py", line 1, in f\nValueError: \x1b]0;x\x07\u202e\n'
    assert all(c.isprintable() or c == "\n" for c in in_short(text))


@pytest.mark.parametrize("kind", ["training", "images"])
def test_a_new_study_file_runs_as_it_is(kind: str, tmp_path: Path, main_here: Main) -> None:
    file, storage = tmp_path / "fresh.py", f"sqlite:///{tmp_path}/a.db"
    flags = () if kind == "training" else (f"--{kind}",)
    written = main_here("new", str(file), *flags)
    assert written.code == 0, written.err
    assert f"--study {file}" in written.err
    assert len(file.read_text().splitlines()) <= 36
    ended = main_here("run", "--study", str(file), "--storage", storage, "--dry-run")
    assert ended.code == 0, ended.err
    assert "study fresh" in ended.out


@pytest.mark.long
@pytest.mark.parametrize("kind", ["training", "images", "lightning", "transformers"])
def test_a_new_study_file_gives_a_range_test(
    kind: str, tmp_path: Path, onecycle: Callable[..., Ended]
) -> None:
    pytest.importorskip({"images": "torch", "training": "torch"}.get(kind, kind))
    file, storage = tmp_path / "fresh.py", f"sqlite:///{tmp_path}/a.db"
    assert onecycle("new", str(file), f"--{kind}").code == 0
    where = ("--study", str(file), "--storage", storage, "--workers", "1", "--device", "cpu")
    ended = onecycle("range-test", *where)
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("there.py", (), "is there already"),
        ("study.txt", (), "ends in .py"),
        ("missing/a.py", (), "cannot be written"),
        ("a.py", ("--images", "--lightning"), "--lightning --images: a study file is of one kind"),
    ],
)
def test_no_file_is_written_over_or_beside_what_was_asked(
    name: str, flags: tuple[str, ...], words: str, tmp_path: Path, main_here: Main
) -> None:
    (tmp_path / "there.py").write_text("mine")
    ended = main_here("new", str(tmp_path / name), *flags)
    assert (ended.code, words in ended.err) == (2, True), ended.err
    assert [file.name for file in tmp_path.iterdir()] == ["there.py"]
    assert (tmp_path / "there.py").read_text() == "mine"


def test_a_first_round_that_loads_for_long_is_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loads:
        n_fits = 0

        def fit(self, run: Run) -> RunResult:
            time.sleep(0.5 if self.n_fits == 0 else 0.01)
            self.n_fits += 1
            n = run.plan.total_steps
            return RunResult(score=None, outcome="completed", n_steps=n, n_images=n, seconds=0.0)

    pace = cost.warm_up(Loads(), TABLE)
    assert pace.images_per_s > 100 * TABLE.task.batch_size / 0.2


def test_what_a_loop_does_at_each_start_is_no_part_of_its_speed() -> None:
    class Reads:
        def fit(self, run: Run) -> RunResult:
            n = run.plan.total_steps
            time.sleep(0.1 + 0.002 * n)
            return RunResult(score=None, outcome="completed", n_steps=n, n_images=n, seconds=0.0)

    pace = cost.warm_up(Reads(), TABLE)
    assert pace.images_per_s == pytest.approx(TABLE.task.batch_size / 0.002, rel=0.3)
    assert pace.run_s == pytest.approx(0.1, abs=0.03)
