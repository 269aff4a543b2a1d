"""The figures of a finished study."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, make_url

import search
from search.results.result import StudyResult, load_result
from search.results.trials import trials
from search.stages import range_test
from search.stages import statistics as confirmation
from search.starting import catalog
from search.views.figures.answer_figures import (
    confirmation_figure,
    importance_figure,
    schedule_figure,
)
from search.views.figures.rate_figures import median_curve, range_test_figure
from search.views.figures.trial_figures import Searched, search_figure
from studies.database import open_engine, reading
from tests.finished_rows import NAME, put, sweep_losses
from tests.table_study import sweep_loss
from trainers.onecycle import OneCycle
from trainers.run import Point
from trainers.sweeps.result import concluded
from trainers.sweeps.smoothing import SmoothedCurve
from trainers.sweeps.sweep import Sweep


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(make_url(f"sqlite:///{tmp_path / 'studies.db'}"))
    put(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def result(engine: Engine) -> StudyResult:
    return load_result(engine, NAME)


def test_importing_the_figures_imports_neither_plotly_nor_torch() -> None:
    script = (
        "import sys; from search.views import figures; "
        "print({'plotly', 'torch', 'matplotlib'} & {*sys.modules})"
    )
    paths = [str(Path(search.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    said = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    assert said.strip() == "set()"


def test_the_confirmation_figure_has_seeds_and_both_intervals(result: StudyResult) -> None:
    seeds, validation, test = confirmation_figure(result).data
    assert len(seeds.x) == 6
    winner = result.winner.validation
    assert validation.x[1] == pytest.approx(100 * winner.mean)
    assert validation.error_x.array[1] == pytest.approx(100 * winner.half_width)
    assert "3 seeds" in validation.name
    assert len(test.x) == 2


def test_a_candidate_with_fewer_seeds_is_counted_as_such(result: StudyResult) -> None:
    single = replace(result.winner, slot=2, scores=(0.9,), test=None)
    figure = confirmation_figure(replace(result, candidates=(*result.candidates, single)))
    assert "1 to 3 seeds" in figure.data[1].name
    assert figure.data[1].error_x.array[0] is None


def test_the_range_test_figure_draws_each_sweep_on_a_plain_log_axis(
    engine: Engine, result: StudyResult
) -> None:
    with reading(engine) as session:
        measured = range_test.measured(session, catalog.find(engine, NAME))
    figure = range_test_figure(measured)
    assert len(figure.data) == 2 * 2 + 2
    *_, median, rebounds = figure.data
    assert median.name == "median of n = 2 sweeps"
    assert list(rebounds.x) == [said.rebound for said in measured.judgements]
    assert measured.interval is None, "two sweeps are too few"
    assert figure.layout.xaxis.type == "log"
    assert "0.00001" in figure.layout.xaxis.ticktext
    assert len(figure.layout.shapes) == 3
    low, high = figure.layout.yaxis.range
    assert low < 0.6
    assert 2.3 < high < 3 < np.nanmax(sweep_losses(0))


def test_a_loss_that_exploded_lies_within_what_a_browser_draws() -> None:
    plan = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=120)
    losses = [sweep_loss(lr) if lr < 5 else 1e30 for lr in plan.lrs()]
    points = tuple(
        Point(n, lr, loss) for n, (lr, loss) in enumerate(zip(plan.lrs(), losses, strict=True))
    )
    figure = range_test_figure(concluded(plan, (points,), None, seconds=0.0))
    assert max(y for trace in figure.data[:2] for y in trace.y) == 1e9


def test_a_sweep_that_is_never_finite_still_gives_a_figure() -> None:
    plan = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=120)
    broken = tuple(Point(step, lr, float("nan")) for step, lr in enumerate(plan.lrs()))
    figure = range_test_figure(concluded(plan, (broken,), None, seconds=0.0))
    assert "n = 0 of 1 sweep" in figure.data[-1].name


def test_the_interval_of_three_sweeps_is_drawn_as_a_band() -> None:
    plan = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=120)
    sweeps = tuple(
        tuple(Point(step, lr, sweep_loss(lr * factor)) for step, lr in enumerate(plan.lrs()))
        for factor in (1.0, 1.3, 0.8)
    )
    measured = concluded(plan, sweeps, None, seconds=0.0)
    assert measured.interval is not None
    shown = "".join(shape.name for shape in range_test_figure(measured).layout.shapes)
    assert f"{measured.interval[0]:.3g} to {measured.interval[1]:.3g}" in shown


def test_the_slow_sweep_is_drawn_as_one_of_its_own() -> None:
    plan = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=120)
    slow = replace(plan, total_steps=240)
    sweeps = [
        tuple(Point(step, lr, sweep_loss(lr)) for step, lr in enumerate(each.lrs()))
        for each in (plan, slow)
    ]
    figure = range_test_figure(concluded(plan, (sweeps[0],), sweeps[1], seconds=0.0))
    *_, drawn, _ = figure.data
    assert drawn.name == "slow sweep, 240 steps (n = 1)"
    assert len(drawn.x) == 240


def test_the_search_figure_marks_diverged_baseline_and_winner(
    engine: Engine, result: StudyResult
) -> None:
    figure = search_figure(trials(engine, NAME), Searched.of(result))
    completed, diverged, baseline, winner = figure.data
    assert list(completed.y) == [97.0, 98.0]
    assert list(completed.marker.color) == [0.3, 0.4]
    assert list(diverged.x) == [0.39]
    assert "diverged (1)" in diverged.name
    assert figure.layout.yaxis.range[0] < diverged.y[0] < 97
    assert (baseline.x[0], winner.x[0]) == (0.08, 0.2)
    assert figure.layout.xaxis.type == "log"


def test_a_search_in_which_all_diverged_still_gives_a_figure(
    engine: Engine, result: StudyResult
) -> None:
    broken = [replace(trial, outcome="diverged") for trial in trials(engine, NAME)]
    assert len(search_figure(broken, Searched.of(result)).data[1].x) == 3


def test_the_schedule_figure_peaks_where_the_plans_do(result: StudyResult) -> None:
    winner, baseline = schedule_figure(result).data
    assert max(winner.y) == pytest.approx(0.2)
    assert max(baseline.y) == pytest.approx(0.08)
    assert winner.y[-1] == pytest.approx(0.2 / 250_000)


def test_the_schedule_figure_draws_the_next_finalists_too_as_far_as_they_are_stored(
    result: StudyResult,
) -> None:
    others = tuple(replace(result.baseline, slot=slot, scores=(0.1,)) for slot in range(5, 10))
    points = dict.fromkeys(range(6, 10), result.schedules[0])
    more = replace(
        result,
        candidates=(*result.candidates, *others),
        schedules={**result.schedules, **points},
    )
    names = [line.name for line in schedule_figure(more).data]
    assert names == ["slot 1 (answer)", "baseline", "slot 6", "slot 7", "slot 8"]


def test_the_median_of_sweeps_ends_where_most_of_them_are_broken() -> None:
    lrs = np.geomspace(0.01, 1, 20)
    curves = [
        SmoothedCurve(lrs[:n], losses, losses, 1.0, None)
        for n, level in ((20, 1.0), (15, 2.0), (12, 6.0))
        for losses in [np.full(n, level)]
    ]
    rates, losses = median_curve(curves)
    assert list(rates) == list(lrs[:15])
    assert list(losses) == [2.0] * 15


def test_a_bar_within_the_noise_of_a_seed_is_told_apart(result: StudyResult) -> None:
    noise = confirmation.Noise(0.25**0.5 * result.spread, 4, "neighbours")
    shares = {"max_lr": 0.7, "pct_start": 0.2, "div_factor": 0.1}
    told = replace(result, search_noise=noise, importances=shares)
    above, within = importance_figure(told).data
    assert (above.y, above.x) == (("max_lr",), (70.0,))
    assert set(within.y) == {"pct_start", "div_factor"}
    assert within.name == "within the noise (n = 3 configurations)"


def test_a_drawn_schedule_is_thinned_but_keeps_its_ends_and_its_peak() -> None:
    plan = OneCycle(max_lr=0.2, total_steps=2_000, pct_start=0.377)
    steps, rates = zip(*plan.samples(100), strict=True)
    lrs = plan.lrs()
    assert len(steps) <= 101
    assert (rates[0], max(rates), rates[-1]) == (lrs[0], max(lrs), lrs[-1])
    assert all(lrs[step] == rate for step, rate in zip(steps, rates, strict=True))


def test_no_figure_ships_plotlys_default_template(result: StudyResult) -> None:
    assert len(schedule_figure(result).layout.template.to_plotly_json()) == 0
