"""Studies that search batch size and weight decay, from the first sweep to the answer."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna
import pytest
from sqlalchemy import URL, Engine, select

from search.stages import range_test
from search.stages.order import advance
from search.stages.space import RELATIVE_MAX_LR
from search.starting import catalog
from search.starting.cost import costs
from search.workers.stop import Stop
from search.workers.worker import Worker
from studies.database import (
    close_optuna,
    open_engine,
    optuna_storage,
    prepare,
    reading,
    transaction,
)
from studies.definition import Confirmation, RangeTest, Screening, Space
from studies.registry import Definition
from studies.states import RunState, Stage
from studies.tables import StudyRow, WorkRow
from tests.conftest import Ended
from tests.table_study import STUDY as TABLE
from tests.table_study import Formula
from trainers.calls.audit import AuditError, audit_batches
from trainers.device import Site
from trainers.run import Run, RunResult
from trainers.table import TableTrainer
from trainers.task import OwnLoop

STUDY_FILE = Path(__file__).parent / "tuned_study.py"


@pytest.mark.slow
def test_digits_at_two_batch_sizes(main_here: Callable[..., Ended], tmp_path: Path) -> None:
    """One range test each, one range for both, and every view says which was trained."""
    url = f"sqlite:///{tmp_path}/a.db"
    here = ("--study", str(STUDY_FILE), "--storage", url)
    stored = ("--study", "tuned", "--storage", url)
    swept = json.loads(main_here("range-test", *here, "--workers", "1", "--json").out)
    proposals = {64: swept["proposal"]["max_lr"]}
    proposals[128] = swept["batch_sizes"]["128"]["proposal"]["max_lr"]
    assert proposals[64] != proposals[128]
    answer = json.loads(main_here("run", *here, "--workers", "1", "--json").out)
    assert {int(n): s["max_lr"] for n, s in answer["range_tests"].items()} == proposals

    lines = main_here("trials", *stored, "--csv").out.splitlines()
    names, *rows = (line.split(",") for line in lines)
    cycles = [dict(zip(names, row, strict=True)) for row in rows]
    assert len(cycles) == 6
    assert {c["batch_size"] for c in cycles} == {"64", "128"}
    for cycle in cycles:
        size, epochs = int(cycle["batch_size"]), int(cycle["epochs"])
        assert int(cycle["n_steps"]) == epochs * (896 // size)
        assert int(cycle["n_images"]) == epochs * 896
    baseline = cycles[0]
    assert float(baseline["max_lr"]) == proposals[64]
    assert (baseline["batch_size"], baseline["weight_decay"]) == ("64", "0.0005")

    trials = {
        str(trial.user_attrs["slot"]): trial
        for trial in optuna.load_study(study_name="tuned", storage=url).trials
    }
    assert len({trial.distributions[RELATIVE_MAX_LR] for trial in trials.values()}) == 1
    for cycle in cycles:
        trial, max_lr = trials[cycle["slot"]], float(cycle["max_lr"])
        assert trial.user_attrs["max_lr"] == max_lr
        factor = max_lr / proposals[int(cycle["batch_size"])]
        assert trial.params[RELATIVE_MAX_LR] == pytest.approx(factor)

    candidates = {each["slot"]: each for each in answer["candidates"]}
    taken = candidates[answer["recommended"]]["params"]
    assert answer["batch_size"] == taken["batch_size"]
    assert answer["onecycle_lr"]["total_steps"] == 3 * (896 // taken["batch_size"])
    assert answer["importances"] is None
    assert "15 on, 3 for each parameter" in answer["no_importances"]
    assert 'id="figure-slice-batch_size"' in (tmp_path / "a-tuned.html").read_text()
    words = main_here("report", *stored).out
    assert "range test, batch_size 128: " in words
    assert f"batches of {taken['batch_size']} images" in words
    assert f"# The training has weight_decay={taken['weight_decay']!r}." in words
    page = (tmp_path / "a-tuned.html").read_text()
    assert all(f'id="figure-range_test{suffix}"' in page for suffix in ("", "-128"))
    assert "which max_lr, pct_start, div_factor, weight_decay, batch_size?" in page
    shown = main_here("trials", *stored, "--csv").out
    assert {"weight_decay", "batch_size"} <= set(shown.splitlines()[0].split(","))
    exported = json.loads(main_here("export", *stored, "--format", "json").out)
    assert exported["weight_decay"] == taken["weight_decay"]
    assert main_here("run", *here, "--workers", "1", "--json").out != "", "nothing is left to do"


class Scaled(Formula):
    """The table's answers where rates of a batch twice as large may be twice as high."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        return super().losses([lr * 10 / self.batch_size for lr in lrs], seed=seed)


@dataclass
class Loop:
    """A loop of one's own that follows the run's batch size and notes its runs."""

    site: Site
    before: Callable[[Run], None] = lambda run: None
    runs: list[Run] = field(default_factory=list)

    def fit(self, run: Run) -> RunResult:
        self.before(run)
        self.runs.append(run)
        assert run.batch_size is not None
        steps = 100 // run.batch_size
        table = Scaled(run.batch_size)
        return TableTrainer(table, batch_size=run.batch_size, steps_per_epoch=steps).fit(run)


STUDY = replace(
    TABLE,
    name="wide",
    task=OwnLoop(factory=Loop, batch_size=10, steps_per_epoch=10, weight_decay=1e-3),
    space=Space(pct_start=(0.1, 0.6), weight_decay=(1e-4, 1e-2), batch_size=(5, 10, 20)),
    screening=Screening(n_trials=6, epochs=8, n_initial=3),
    range_test=RangeTest(n_sweeps=2, n_steps=60),
    confirmation=Confirmation(n_finalists=1, n_seeds=2),
)


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    engine = open_engine(url)
    prepare(engine)
    yield engine
    engine.dispose()


def stored(engine: Engine) -> StudyRow:
    definition = Definition(STUDY, "", "")
    return catalog.find_or_create(engine, definition, name="wide", seed=None)


def work(
    engine: Engine, row: StudyRow, loop: Loop, stop: Stop, *, only: Stage | None = None
) -> str:
    site = loop.site
    return Worker(engine, row, STUDY, trainer=loop, site=site, stop=stop, only=only).work()


def rows_of(engine: Engine) -> list[WorkRow]:
    with reading(engine) as session:
        order = (WorkRow.stage, WorkRow.round, WorkRow.slot)
        return list(session.scalars(select(WorkRow).order_by(*order)))


def summary(row: WorkRow) -> tuple[object, ...]:
    names = ("stage", "length", "slot", "state", "params", "score")
    return tuple(getattr(row, name) for name in names)


def test_a_study_that_is_stopped_in_every_second_run_ends_as_one_that_is_not(
    engine: Engine, tmp_path: Path
) -> None:
    site = Site(device="cpu", data=None, cache=tmp_path)
    undisturbed = Loop(site)
    assert work(engine, stored(engine), undisturbed, Stop()) == "finished"
    expected = [summary(row) for row in rows_of(engine)]
    for cost in costs(STUDY, n_trials=6):
        images = [row.n_images for row in rows_of(engine) if row.stage == cost.stage]
        assert len(images) == cost.n_runs or cost.stage == Stage.CONFIRMATION, "it may stop"
        assert 0 < len(images) <= cost.most_runs
        assert sum(n or 0 for n in images) * cost.n_runs == cost.n_images * len(images)
    for run in undisturbed.runs:
        assert (run.weight_decay is None) == (run.split is None), "a sweep has the loop's own"
    catalog.delete(engine, "wide")
    seen: list[tuple[int, int]] = []
    stop = Stop()

    def stop_once(run: Run) -> None:
        if (key := (run.seed, run.plan.total_steps)) not in seen:
            seen.append(key)
            if len(seen) % 2:
                stop.ask()

    row = stored(engine)
    while work(engine, row, Loop(site, stop_once), stop) == "stopped":
        stop = Stop()
    assert [summary(row) for row in rows_of(engine)] == expected
    storage = optuna_storage(engine.url)
    trials = optuna.load_study(study_name="wide", storage=storage).trials
    close_optuna(storage)
    search = [row for row in rows_of(engine) if row.stage == "search"]
    told = sorted(trial.user_attrs["max_lr"] for trial in trials)
    assert told == sorted((row.params or {})["max_lr"] for row in search)
    assert {t.state.name for t in trials} == {"COMPLETE"}


def test_each_batch_size_has_sweeps_and_a_proposal_of_its_own(
    engine: Engine, tmp_path: Path
) -> None:
    row = stored(engine)
    loop = Loop(Site(device="cpu", data=None, cache=tmp_path))
    assert work(engine, row, loop, Stop(), only=Stage.RANGE_TEST) == "finished"
    swept = sorted((run.plan.total_steps, run.batch_size) for run in loop.runs)
    assert swept == [(60, 5), (60, 5), (60, 10), (60, 10), (60, 20), (60, 20)]
    with reading(engine) as session:
        row = session.get_one(StudyRow, row.id)
        said = {n: range_test.measured(session, row, setting=str(n)) for n in (5, 10, 20)}
        assert range_test.measured(session, row) == said[10]
    assert all(len(result.points) == 2 and not result.slow for result in said.values())
    proposals = {size: result.proposal for size, result in said.items() if result.proposal}
    assert (row.proposed_max_lr, row.edge) == (proposals[10].max_lr, proposals[10].edge)
    for size in (5, 20):
        edges = proposals[size].edge / proposals[10].edge
        assert edges == pytest.approx(size / 10, rel=0.2)
        steps = {5: 160, 10: 80, 20: 76}  # 40 steps count as the shortest cycle measured
        moved = edges * steps[size] / steps[10]
        assert proposals[size].max_lr / proposals[10].max_lr == pytest.approx(moved)
    reach = {(p.low / p.max_lr, p.high / p.max_lr) for p in proposals.values()}
    assert all(pair == pytest.approx((0.25, 4)) for pair in reach)


def test_a_batch_size_without_an_edge_ends_the_study_and_is_named(engine: Engine) -> None:
    row = stored(engine)
    with transaction(engine) as session:
        for work_row in session.scalars(select(WorkRow)):
            work_row.state = RunState.FAILED
    assert advance(engine, row.id, STUDY) == "failed"
    with reading(engine) as session:
        reason = session.get_one(StudyRow, row.id).reason
    assert reason == "at batch_size 10, every sweep of the range test was given up"


def test_a_loop_that_does_not_follow_the_batch_size_is_found() -> None:
    def ended(n_images: int) -> RunResult:
        return RunResult(score=0.9, outcome="completed", n_steps=8, n_images=n_images, seconds=1.0)

    audit_batches(64, ended(512))
    audit_batches(None, ended(1))
    with pytest.raises(AuditError, match="256 images in 8 steps, the run has batch_size 64"):
        audit_batches(64, ended(256))
