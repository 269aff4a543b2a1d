"""The product as a library: run() in one's own program, and what plain Optuna reads of it."""

import dataclasses
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import URL, create_engine, text

from search import api
from search.errors import GivenBackError, NoResultError, UsageError
from search.results.result import StudyResult
from search.starting.opening import opened
from studies.definition import Screening
from studies.errors import ProtocolError, UnknownStudyError
from tests.conftest import Finished, plain
from tests.table_study import STUDY, Table
from trainers.device import Site
from trainers.run import Run, RunResult
from trainers.task import OwnLoop

SMALL = dataclasses.replace(STUDY, screening=Screening(n_trials=4, epochs=4))


def stored_studies(storage: str) -> list[Any]:
    engine = create_engine(storage)
    with engine.connect() as connection:
        found = list(connection.execute(text("SELECT name, stage, n_trials, seed FROM study")))
    engine.dispose()
    return found


def test_a_study_object_runs_here_and_again_gives_the_same_result(url: URL) -> None:
    storage = plain(url)
    result = api.run(SMALL, storage=storage)
    assert isinstance(result, StudyResult)
    assert result.n_trials == 4
    assert result.winner in result.candidates
    assert result.winner.validation.mean == max(c.validation.mean for c in result.candidates)
    assert api.run(SMALL, storage=storage) == result
    assert stored_studies(url.render_as_string(hide_password=False)) == [
        ("table", "finished", 4, 0)
    ]


def test_the_same_study_elsewhere_gives_the_same_configurations(tmp_path: Path) -> None:
    first, second, other = (
        api.run(SMALL, storage=f"sqlite:///{tmp_path}/{name}.db", seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.candidates == second.candidates
    assert other.candidates != first.candidates


class Saving(Table):
    """Saves a state in each run, and finds none of the runs before."""

    def fit(self, run: Run) -> RunResult:
        files = self.site.cache / "checkpoints"
        assert list(files.glob("*/*")) == []
        run.save({"step": 0})
        run.save({"step": 1})
        assert len(list(files.glob("*/*"))) == (0 if run.checkpoint is None else 2)
        return super().fit(run)


def test_a_finished_run_leaves_nothing_to_the_next(sqlite_url: URL) -> None:
    task = OwnLoop(factory=Saving, batch_size=10, steps_per_epoch=10)
    result = api.run(dataclasses.replace(SMALL, task=task), storage=plain(sqlite_url))
    assert result.n_trials == 4


def test_checkpoints_of_killed_owners_do_not_outlive_the_study(
    sqlite_url: URL, tmp_path: Path
) -> None:
    folder, storage = tmp_path / "cache" / "checkpoints", plain(sqlite_url)
    (folder / "of another study").mkdir(parents=True)
    with pytest.raises(GivenBackError):
        api.run(SMALL, storage=storage, timeout_min=1e-9)
    engine = create_engine(storage)
    with engine.connect() as connection:
        study_id = connection.execute(text("SELECT id FROM study")).scalar_one()
    engine.dispose()
    for _ in ("at the end", "once more, after the end"):
        (folder / study_id).mkdir()
        (folder / study_id / "0.pt").write_bytes(b"of an owner killed after its last step")
        api.run(SMALL, storage=storage)
        assert [left.name for left in folder.iterdir()] == ["of another study"]


def test_optuna_reads_every_configuration_from_the_same_database(finished: Finished) -> None:
    study = optuna.load_study(study_name="table", storage=finished.storage)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.COMPLETE] * 12
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert set(study.best_trial.params) == {"max_lr", "pct_start", "div_factor"}
    result = api.run(finished.study_file, storage=finished.storage)
    scores = {t.user_attrs["slot"]: t.value for t in study.trials}
    assert {c.slot: c.search_score for c in result.candidates}.items() <= scores.items()


def test_a_study_object_travels_to_worker_processes_without_a_trace(tmp_path: Path) -> None:
    class Mine(Table):
        def facts(self) -> dict[str, str]:
            return {"process": "any"}

    mine = OwnLoop(factory=lambda site: Mine(site), batch_size=10, steps_per_epoch=10)
    study = dataclasses.replace(SMALL, task=mine)
    alone = api.run(study, storage=f"sqlite:///{tmp_path}/a.db")
    two = api.run(study, storage=f"sqlite:///{tmp_path}/b.db", workers=2)
    assert two.n_trials == alone.n_trials
    assert two.winner.validation.n == alone.winner.validation.n
    assert len(list((tmp_path / "cache" / "logs").rglob("worker-*.log"))) == 2


def test_without_cloudpickle_a_study_object_has_one_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    storage = f"sqlite:///{tmp_path}/a.db"
    with pytest.raises(UsageError, match=r"workers=2.*by the package cloudpickle.*workers=1"):
        api.run(SMALL, storage=storage, workers=2)
    assert not (tmp_path / "a.db").exists()
    assert api.dry_run(SMALL).n_workers == 1


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("screening.epochs", {"screening": Screening(n_trials=4, epochs=5)}),
        ("screening.n_trials", {"screening": Screening(n_trials=5, epochs=4)}),
        ("diverged_value", {"diverged_value": 0.2}),
    ],
)
def test_another_study_of_the_same_name_is_refused(
    field: str, changed: dict[str, Any], tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/a.db"
    first = api.run(SMALL, storage=storage)
    other = dataclasses.replace(SMALL, **changed)
    with pytest.raises(ProtocolError, match=f"'table' was made with {field} = "):
        api.run(other, storage=storage)
    assert api.run(SMALL, storage=storage) == first
    assert api.run(other, storage=storage, name="other").name == "other"


def test_a_worker_cannot_join_what_only_a_program_knows(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/a.db"
    with pytest.raises(GivenBackError):
        api.run(SMALL, storage=storage, timeout_min=1e-9)
    with pytest.raises(UsageError, match="'table' was made from a Study object"):
        api.join("table", storage=storage)
    assert api.run(SMALL, storage=storage).n_trials == 4


def test_what_fails_before_the_first_run_stores_no_study(tmp_path: Path) -> None:
    class Broken(Table):
        def fit(self, run: Run) -> RunResult:
            raise ZeroDivisionError("a bug of mine")

    def loop(make: type[Table]) -> OwnLoop:
        return OwnLoop(factory=make, batch_size=10, steps_per_epoch=10)

    storage = f"sqlite:///{tmp_path}/a.db"
    with pytest.raises(ZeroDivisionError, match="a bug of mine"):
        api.run(dataclasses.replace(SMALL, task=loop(Broken)), storage=storage)
    assert stored_studies(storage) == []


def test_a_study_that_finds_no_edge_ends_without_a_result(tmp_path: Path) -> None:
    class Flat(Table):
        def fit(self, run: Run) -> RunResult:
            for step, lr in enumerate(run.plan.lrs()):
                run.report(step, 2.3, lrs=[lr])
            return RunResult(
                score=0.1, outcome="completed", n_steps=run.plan.total_steps, n_images=1, seconds=0
            )

    study = dataclasses.replace(
        SMALL, task=OwnLoop(factory=Flat, batch_size=10, steps_per_epoch=10)
    )
    storage = f"sqlite:///{tmp_path}/a.db"
    for _ in range(2):
        with pytest.raises(NoResultError, match="'table' ended without a result: "):
            api.run(study, storage=storage)
    assert [row.stage for row in stored_studies(storage)] == ["failed"]


def test_progress_can_be_watched(tmp_path: Path) -> None:
    from contextlib import contextmanager

    seen: list[api.Started] = []

    @contextmanager
    def watch(engine: object, started: api.Started) -> Any:
        seen.append(started)
        yield

    api.run(SMALL, storage=f"sqlite:///{tmp_path}/a.db", watch=watch)
    (started,) = seen
    assert [(c.stage, c.n_runs) for c in started.costs] == [
        ("range_test", 2),
        ("search", 4),
        ("confirmation", 9),
    ]
    n_runs = sum(c.n_runs for c in started.costs)
    assert started.seconds == pytest.approx(
        sum(c.n_images for c in started.costs) / started.images_per_s + n_runs * started.run_s
    )
    assert started.most_seconds > started.seconds


def test_run_works_outside_the_main_thread_and_leaves_signals_alone(tmp_path: Path) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    results: list[StudyResult] = []
    thread = threading.Thread(
        target=lambda: results.append(api.run(SMALL, storage=f"sqlite:///{tmp_path}/a.db"))
    )
    thread.start()
    thread.join()
    assert results[0] == api.run(SMALL, storage=f"sqlite:///{tmp_path}/a.db")
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_reading_a_database_that_is_not_there_makes_none(tmp_path: Path) -> None:
    missing = tmp_path / "folder" / "a.db"
    with (
        pytest.raises(UnknownStudyError, match=f"no database at {missing}"),
        opened(f"sqlite:///{missing}"),
    ):
        pass
    assert not missing.parent.exists()


def test_the_data_folder_reaches_an_own_loop(tmp_path: Path) -> None:
    sites: list[Site] = []

    def factory(site: Site) -> Table:
        sites.append(site)
        return Table(site)

    study = dataclasses.replace(
        SMALL, task=OwnLoop(factory=factory, batch_size=10, steps_per_epoch=10)
    )
    api.dry_run(study, data=tmp_path, device="cpu")
    assert sites == [Site(device="cpu", data=tmp_path, cache=tmp_path / "cache")]


def test_a_result_as_json_is_what_the_command_prints(finished: Finished) -> None:
    document = api.run(finished.study_file, storage=finished.storage).as_json()
    printed = json.loads(finished.first.out)
    for beside in ("report", "next", "provenance", "train"):
        del printed[beside]
    assert json.loads(json.dumps(document, allow_nan=False)) == printed
