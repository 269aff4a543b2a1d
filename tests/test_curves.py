"""Learning curves: what is stored equals what a loop reported, whoever trained it to its end."""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import URL, Engine, event, make_url, select
from sqlalchemy.orm import undefer

from search import api
from search.queue.heartbeat import Heartbeat
from search.queue.work import Claim, Ended, FencedOffError, Queue
from search.results.curves import COLUMNS, RunCurve
from search.results.result import StudyResult
from search.starting.catalog import find
from search.views.figures.curve_figures import curves_figure
from search.views.figures.curve_lines import TRIAL_POINTS, Learned, missing_lines, trial_lines
from search.views.findings import findings
from search.views.page.report import MOST_PICKED, page
from studies.database import open_engine, prepare, reading, transaction
from studies.tables import EpochRecord, StudyRow, WorkRow
from tests import learned_rows
from tests.conftest import Ended as EndedCommand
from tests.conftest import Finished
from tests.curve_study import EPOCHS, STEPS_PER_EPOCH, Counting, Loop, study
from tests.rows import study_row
from tests.waits import wait_for
from trainers.checkpoint import Checkpoint
from trainers.curve import N_WINDOWS, Curve, Thinned
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Point, Run
from trainers.table import epoch_row

TOTAL = EPOCHS * STEPS_PER_EPOCH


def points(n: int, *, first: int = 0) -> list[Point]:
    return [Point(step, 0.1 + step / 1000, 2.0 / (1 + step)) for step in range(first, n)]


def windows(losses: Sequence[float], total: int) -> list[tuple[int, float | None]]:
    """Return steps done and mean finite loss of each window, the slow way."""
    n, found = min(N_WINDOWS, total), []
    for window in range(n):
        steps = [s for s in range(len(losses)) if s * n // total == window]
        finite = [losses[s] for s in steps if math.isfinite(losses[s])]
        if steps:
            mean = float(f"{sum(finite) / len(finite):.6g}") if finite else None
            found.append((steps[-1] + 1, mean))
    return found


@pytest.mark.parametrize("total", [1, 7, 99, 100, 101, 640, 2_501])
def test_a_curve_is_the_mean_loss_of_a_hundred_windows_at_most(total: int) -> None:
    thinned = Thinned(total)
    thinned.read(points(total))
    curve = thinned.curve()
    expected = windows([p.loss for p in points(total)], total)
    assert list(zip(curve.steps, curve.losses, strict=True)) == expected
    assert len(curve.steps) <= N_WINDOWS
    assert curve.steps[-1] == total
    assert curve.lrs[-1] == pytest.approx(points(total)[-1].lr)


def test_points_read_as_they_come_give_the_curve_of_all_of_them() -> None:
    whole, parts, every = Thinned(640), Thinned(640), points(640)
    whole.read(every)
    for n in (0, 1, 50, 51, 333, 640):
        parts.read(every[:n])
    assert parts.curve() == whole.curve()


@pytest.mark.parametrize("n_again", [3, 40, 90])
def test_a_run_that_starts_over_leaves_nothing_of_its_earlier_curve(n_again: int) -> None:
    thinned, again = Thinned(100), points(n_again)
    thinned.read([Point(step, 9.0, 9.0) for step in range(40)])
    thinned.read(again)
    fresh = Thinned(100)
    fresh.read(again)
    assert thinned.curve() == fresh.curve()


def test_where_a_run_breaks_its_window_has_the_losses_before() -> None:
    thinned = Thinned(10_000)
    thinned.read([*points(100), Point(100, 0.2, 4.0), Point(101, 0.2, math.nan)])
    assert (thinned.curve().steps[-1], thinned.curve().losses[-1]) == (102, 4.0)
    alone = Thinned(100)
    alone.read([*points(3), Point(3, 0.2, math.inf)])
    assert alone.curve().losses[-1] is None, "not zero"


@pytest.mark.parametrize("step", [np.int64(3), -1, 10_000])
def test_a_loop_that_counts_steps_in_its_own_way_stops_no_heartbeat(step: Any) -> None:
    run = Run(plan=OneCycle(max_lr=0.1, total_steps=200), seed=0)
    run.report(step, np.float32(1.5), lrs=[np.float64(0.1)])
    run.look()
    thinned = Thinned(200)
    thinned.read(run.points)
    assert json.loads(json.dumps(asdict(thinned.curve())))["losses"][-1] == 1.5


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    """A study with one waiting cycle of EPOCHS epochs."""
    engine = open_engine(url)
    prepare(engine)
    with transaction(engine) as session:
        session.add(study_row(id="s", epochs=EPOCHS, steps_per_epoch=STEPS_PER_EPOCH))
        session.flush()
        session.add(WorkRow(study_id="s", stage="search", round=0, epochs=EPOCHS, slot=0))
    yield engine
    engine.dispose()


def queue_on(engine: Engine, owner: str) -> Queue:
    with reading(engine) as session:
        return Queue(engine, session.get_one(StudyRow, "s"), owner=owner, process=None)


def claimed(queue: Queue) -> Claim:
    claim = queue.claim()
    assert claim is not None
    return claim


def run_in(folder: Path) -> Run:
    file = Checkpoint(folder / "checkpoint.pt")
    return Run(plan=OneCycle(max_lr=0.1, total_steps=TOTAL), seed=1, checkpoint=file)


def report(run: Run, steps: range) -> None:
    for point in points(steps.stop, first=steps.start):
        run.report(point.step, point.loss, lrs=[point.lr])


def stored(engine: Engine) -> tuple[int | None, Curve | None]:
    with reading(engine) as session:
        row = session.scalars(select(WorkRow).options(undefer(WorkRow.curve))).one()
        return row.step, row.curve


def ended() -> Ended:
    return Ended(
        outcome="completed",
        score=0.5,
        sealed_score=None,
        n_steps=TOTAL,
        n_images=10 * TOTAL,
        seconds=1.0,
        device="cpu",
        diverged=None,
    )


def of_all() -> Curve:
    thinned = Thinned(TOTAL)
    thinned.read(points(TOTAL))
    return thinned.curve()


@pytest.mark.parametrize("saved", [0, 64], ids=["starts over", "resumes"])
def test_a_run_that_was_taken_over_has_the_curve_of_an_undisturbed_one(
    saved: int, engine: Engine, tmp_path: Path
) -> None:
    first, run = queue_on(engine, "first"), run_in(tmp_path)
    claim = claimed(first)
    with Heartbeat(first, claim, beat_s=0.05) as heartbeat:
        heartbeat.follow(run)
        report(run, range(saved))
        if saved:
            run.save({})
        report(run, range(saved, 90))
        wait_for(lambda: stored(engine)[0] == 90)
    with transaction(engine) as session:  # as a reaper does with the run of a dead owner
        session.get_one(WorkRow, claim.work_id).state = "waiting"  # type: ignore[assignment]
    second, again = queue_on(engine, "second"), run_in(tmp_path)
    later = claimed(second)
    with Heartbeat(second, later, beat_s=0.05) as heartbeat:
        heartbeat.follow(again)
        assert stored(engine)[0] == 90, "what is stored stays until there is more to say"
        again.load()
        report(again, range(saved, TOTAL))
        again.look()
        stale = Heartbeat(first, claim, beat_s=0.05)
        stale.follow(run)
        report(run, range(90, 120))
        with pytest.raises(FencedOffError):
            first.beat(claim, [epoch_row(1, 0.1)], stale.reached())
    second.finish(later, ended(), heartbeat.unwritten, heartbeat.reached())
    assert stored(engine) == (TOTAL, of_all())
    with pytest.raises(FencedOffError):
        first.finish(claim, ended(), (), stale.reached())
    assert stored(engine) == (TOTAL, of_all())


def test_a_curve_takes_no_statement_of_its_own(engine: Engine, tmp_path: Path) -> None:
    queue, run = queue_on(engine, "w"), run_in(tmp_path)
    claim = claimed(queue)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    queue.beat(claim)
    without = len(statements)
    heartbeat = Heartbeat(queue, claim, beat_s=5.0)
    heartbeat.follow(run)
    report(run, range(100))
    statements.clear()
    queue.beat(claim, (), heartbeat.reached())
    assert len(statements) == without
    assert stored(engine)[0] == 100


def test_an_epoch_may_lack_all_but_its_number(engine: Engine) -> None:
    queue = queue_on(engine, "w")
    queue.beat(claimed(queue), [EpochRow(epoch=1)])
    with reading(engine) as session:
        record = session.scalars(select(EpochRecord)).one()
    assert (record.epoch, record.train_loss, record.validation_accuracy) == (1, None, None)


def searched(loop: type[Loop], folder: Path) -> StudyResult:
    loop.seen.clear()
    result = api.run(study(loop), storage=f"sqlite:///{folder}/{loop.__name__}.db")
    assert {run.outcome for run in result.learned} == {"completed", "diverged"}
    return result


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A study of a loop that reports steps alone."""
    return searched(Loop, tmp_path_factory.mktemp("silent"))


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A study of a loop that reports of its epochs the score alone, the first as epoch 0."""
    return searched(Counting, tmp_path_factory.mktemp("counting"))


def by_rate(curves: Sequence[RunCurve]) -> Counter[tuple[float, tuple[Any, ...]]]:
    return Counter(
        (run.params.max_lr, tuple((w.step, w.train_loss) for w in run.steps))
        for run in curves
        if run.params is not None
    )


def _until_broken(losses: Sequence[float]) -> int:
    return next((n for n, loss in enumerate(losses, 1) if math.isnan(loss)), len(losses))


def test_every_cycle_of_a_loop_without_epochs_has_the_losses_that_it_reported(
    silent: StudyResult,
) -> None:
    # What follows a break was trained only because nobody had looked yet.
    seen = [(lr, losses[: _until_broken(losses)]) for lr, losses in Loop.seen]
    reported = Counter((lr, tuple(windows(losses, TOTAL))) for lr, losses in seen)
    assert by_rate(silent.learned) == reported
    assert all(not run.epochs for run in silent.learned)
    for run in silent.learned:
        assert run.params is not None
        lrs = run.params.plan(TOTAL).lrs()
        assert [w.lr for w in run.steps] == pytest.approx(
            [lrs[w.step - 1] for w in run.steps], rel=1e-5
        )


def test_what_a_loop_reports_of_its_epochs_is_there_and_the_rest_is_not(
    counting: StudyResult,
) -> None:
    whole = [run for run in counting.learned if run.outcome == "completed"]
    for run in whole:
        assert [(e.epoch, e.step) for e in run.epochs] == [
            (n, n * STEPS_PER_EPOCH) for n in range(1, EPOCHS + 1)
        ]
        assert [e.score for e in run.epochs] == [100.0 / n for n in range(1, EPOCHS + 1)]
        assert {(e.validation_loss, e.train_loss, e.lr) for e in run.epochs} == {(None,) * 3}
        assert len(run.steps) == N_WINDOWS
    roles = {run.role for run in counting.learned}
    assert roles == {"baseline", "finalist", "search"}
    broken = [run for run in counting.learned if run.outcome == "diverged"]
    assert broken
    for run in broken:
        assert run.diverged_step is not None
        assert run.steps[-1].step == run.diverged_step + 1


def traces(figure: Any, axis: str, dash: str | None = None) -> list[Any]:
    return [
        trace
        for trace in figure.data
        if trace.yaxis == axis
        and trace.fill is None
        and trace.x
        and trace.mode == "lines"
        and (dash is None or trace.line.dash == dash)
    ]


def test_a_figure_says_what_a_loop_does_not_report_and_draws_no_zero_for_it(
    silent: StudyResult, counting: StudyResult
) -> None:
    nothing, half = Learned.of(silent), Learned.of(counting)
    assert (nothing.unit, half.unit) == ("step", "epoch")
    assert "reports no epochs" in " ".join(missing_lines(nothing))
    assert missing_lines(half) == ["this loop reports no validation loss"]
    for learned in (nothing, half):
        figure = curves_figure(learned)
        assert traces(figure, "y2", "dot")
        assert not traces(figure, "y2", "solid")
        assert figure.layout.yaxis2.title.text == "training loss"
        assert all(value for trace in figure.data for value in trace.y)
    assert not traces(curves_figure(nothing), "y3"), "one score is no line"
    assert curves_figure(nothing).layout.xaxis.title.text == "optimizer step"


def test_a_figure_has_the_mean_over_seeds_in_a_band_that_holds_them_all(
    counting: StudyResult,
) -> None:
    learned = Learned.of(counting)
    figure = curves_figure(learned)
    group = learned.groups[0]
    (mean, *_), band = traces(figure, "y2", "dot"), next(t for t in figure.data if t.fill)
    losses = [[w.train_loss for w in run.steps] for run in group.runs]
    assert len(losses) >= 2
    assert list(mean.y) == pytest.approx(
        [sum(each) / len(each) for each in zip(*losses, strict=True)]
    )
    n = len(mean.y)
    assert list(band.y[:n]) == [max(each) for each in zip(*losses, strict=True)]
    assert list(band.y[n:][::-1]) == [min(each) for each in zip(*losses, strict=True)]
    assert list(mean.x)[-1] == EPOCHS
    assert f"n = {len(losses)} seeds" in traces(figure, "y")[0].name


def test_any_trial_can_be_picked_and_one_that_broke_shows_where(silent: StudyResult) -> None:
    learned = Learned.of(silent)
    assert len(learned.trials) == 8
    figure = curves_figure(learned, choose=8)
    (menu,) = figure.layout.updatemenus
    labels = [button.label for button in menu.buttons]
    assert labels[0] == "pick a trial (green)"
    assert labels[1] == f"slot {learned.trials[0].slot}: {learned.trials[0].score:.4g}".replace(
        "slot 0:", "slot 0 baseline:"
    )
    (place,) = [n for n, label in enumerate(labels) if label.endswith(": diverged")][:1]
    drawn, places = menu.buttons[place].args
    kinds = [figure.data[each].meta["trial"] for each in places]
    broke = learned.trials[place - 1]
    assert broke.diverged_step is not None
    assert drawn["x"][kinds.index("broke")] == [broke.diverged_step + 1]
    assert drawn["y"][kinds.index("score")] == []
    lines = trial_lines(broke, learned.metric)
    assert all(len(line) <= TRIAL_POINTS for line in lines.values())
    low, high = figure.layout.yaxis2.range
    assert low < 0.5
    assert 3 < high < 4.5, "cut above the first level"


def test_a_notebook_has_the_curves_as_a_table(counting: StudyResult) -> None:
    table = counting.curves()
    assert tuple(table.columns) == COLUMNS
    pick = table[(table["slot"] == 0) & (table["stage"] == "search")]
    assert len(pick[pick["by"] == "step"]) == N_WINDOWS
    assert list(pick[pick["by"] == "epoch"]["score"]) == [100.0 / n for n in range(1, EPOCHS + 1)]
    assert counting.plot("curves").layout.updatemenus


def test_the_page_of_many_trials_lets_the_best_be_picked_and_stays_small(tmp_path: Path) -> None:
    engine = open_engine(make_url(f"sqlite:///{tmp_path}/studies.db"))
    learned_rows.put(engine, n_trials=210, epochs=6)
    found = findings(engine, find(engine, learned_rows.NAME))
    engine.dispose()
    text = page(found)
    picked = json.loads(re.search(r"const picked = (.*), curvesBy", text)[1])  # type: ignore[index]
    assert len(picked["trials"]) == MOST_PICKED
    assert "The best 200 of 210 trials can be chosen" in text
    best = max(found.trials, key=lambda trial: trial.score or 0.0)
    assert picked["trials"][0]["slot"] == best.slot
    place, losses = picked["trials"][0]["lines"]["train"]
    assert len(picked["steps"][place]) == len(losses) == TRIAL_POINTS
    assert len(json.dumps(picked)) < 1500 * MOST_PICKED


def test_trials_prints_the_curves_of_every_cycle(
    finished: Finished, main_here: Callable[..., EndedCommand]
) -> None:
    command = ("trials", "--study", "table", "--storage", finished.storage, "--curves")
    rows = list(csv.DictReader(io.StringIO(main_here(*command).out)))
    assert tuple(rows[0]) == COLUMNS
    per_run = Counter((r["stage"], r["round"], r["slot"], r["replicate"], r["by"]) for r in rows)
    assert {n for (*_, by), n in per_run.items() if by == "epoch"} == {4}
    assert {n for (*_, by), n in per_run.items() if by == "step"} == {40}
    assert {r["train_loss"] for r in rows} == {"1.0"}
