"""The page of a finished study and its figures."""

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, make_url

import search
from search import catalog, confirmation, range_test
from search.errors import UsageError
from search.figures import (
    confirmation_figure,
    importance_figure,
    range_test_figure,
    schedule_figure,
    screening_figure,
    search_figure,
)
from search.rate_figures import median_curve
from search.report import default_path, page, write_report
from search.result import Candidate, StudyResult, load_result
from search.terminal import call_lines
from studies.database import open_engine, reading, transaction
from studies.tables import Base, PointRecord, StudyRow, WorkRow
from tests.table_study import sweep_loss
from trainers.judgement import SmoothedCurve
from trainers.onecycle import OneCycle
from trainers.range_test_result import concluded
from trainers.run import Point
from trainers.sweep import Sweep

NAME = "a<b>"
EPOCHS, STEPS_PER_EPOCH = 4, 25
DIVERGED_STEP = 37
SEARCH = ((0.08, 0.3, 25.0, 0.97), (0.2, 0.4, 10.0, 0.98), (0.39, 0.1, 3.0, 0.1))
"""max_lr, pct_start, div_factor and score by slot; the baseline first, the last one diverges."""
VALIDATION = {0: (0.96, 0.97, 0.965), 1: (0.98, 0.985, 0.98)}
TEST = {0: (0.95, 0.955, 0.96), 1: (0.97, 0.98, 0.975)}
SWEEP_LRS = np.geomspace(1e-5, 10.0, 120)
DECLARED = {
    "range_test.n_sweeps": "2",
    "range_test.n_steps": "120",
    "range_test.start_lr": "1e-05",
    "range_test.end_lr": "10.0",
}


def study_row() -> StudyRow:
    comparison = confirmation.compare(TEST[1], TEST[0])
    return StudyRow(
        id="the-study",
        name=NAME,
        spec="digits",
        source="",
        declared={"task": "Task", "torch": "2.99", **DECLARED},
        resolved={"precision": "fp32"},
        seed=7,
        direction="maximize",
        metric="accuracy",
        diverged_value=0.1,
        batch_size=64,
        steps_per_epoch=STEPS_PER_EPOCH,
        n_trials=len(SEARCH),
        lengths=[EPOCHS],
        beat_s=5.0,
        grace_s=30.0,
        stage="finished",
        edge=1.1,
        bracket_low=0.025,
        bracket_high=0.4,
        proposal=0.08,
        result={
            "winner": 1,
            "comparisons": [asdict(comparison)],
            "test": {str(slot): list(scores) for slot, scores in TEST.items()},
            "importances": {"max_lr": 0.7, "pct_start": 0.2, "div_factor": 0.1},
            "search_noise": {"deviation": 0.004, "freedom": 4, "source": "neighbours"},
            "schedules": {
                slot: OneCycle(max_lr=max_lr, total_steps=EPOCHS * STEPS_PER_EPOCH).samples(50)
                for slot, max_lr in (("0", 0.08), ("1", 0.2))
            },
        },
    )


def run_row(stage: str, slot: int, **columns: object) -> WorkRow:
    shared = {"round": 0, "state": "done", "n_images": 6400, "seconds": 1.5, "device": "TestChip"}
    length = 120 if stage == "range_test" else EPOCHS
    values = {**shared, "length": length, "outcome": "completed", **columns}
    return WorkRow(study_id="the-study", stage=stage, slot=slot, **values)


def configuration(slot: int) -> dict[str, float]:
    return dict(zip(("max_lr", "pct_start", "div_factor"), SEARCH[slot], strict=False))


def rows() -> Iterator[WorkRow]:
    for slot in range(2):
        yield run_row("range_test", slot)
    for slot, (*_, score) in enumerate(SEARCH):
        ending: dict[str, object] = {"outcome": "completed", "n_steps": EPOCHS * STEPS_PER_EPOCH}
        if slot == 2:
            ending = {"outcome": "diverged", "diverged_step": DIVERGED_STEP, "diverged_lr": 0.31}
        yield run_row("search", slot, score=score, **configuration(slot), **ending)
    for index, (slot, scores) in enumerate(VALIDATION.items()):
        for seed, score in enumerate(scores):
            place = {"candidate": slot, "replicate": seed, **configuration(slot)}
            yield run_row("confirmation", 3 * index + seed, score=score, **place)


def sweep_losses(slot: int) -> np.ndarray:
    """A descent at 0.01, a rise after 0.1, an explosion; the last two are not finite."""
    x = np.log10(SWEEP_LRS)
    losses = 2.3 - 1.8 / (1 + 10 ** (-2 * (x + 2))) + 10 ** (2 * (x + 0.2 * slot))
    losses[-2:] = np.nan
    return losses


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(make_url(f"sqlite:///{tmp_path / 'studies.db'}"))
    Base.metadata.create_all(engine)
    with transaction(engine) as session:
        session.add(study_row())
        session.flush()
        work = list(rows())
        session.add_all(work)
        session.flush()
        for row in work[:2]:
            for step, loss in enumerate(sweep_losses(row.slot)):
                finite = bool(np.isfinite(loss))
                session.add(
                    PointRecord(
                        work_id=row.id,
                        step=step,
                        lr=float(SWEEP_LRS[step]),
                        loss=float(loss) if finite else None,
                        finite=finite,
                    )
                )
    yield engine
    engine.dispose()


@pytest.fixture
def result(engine: Engine) -> StudyResult:
    return load_result(engine, NAME)


class Document(HTMLParser):
    """What a page would load, and its text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action"):
                self.loads.append(value or "")
            if name == "style":
                self.loads += re.findall(r"url\((.*?)\)", value or "")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.loads += re.findall(r"url\((.*?)\)|@import", data)
        elif self.inside != "script":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def one_line(text: str) -> str:
    return " ".join(text.split())


# the page


def test_the_page_loads_nothing_from_anywhere(engine: Engine, result: StudyResult) -> None:
    html = page(engine, result)
    assert [url for url in Document(html).loads if not url.startswith(("data:", "#"))] == []
    assert "default-src 'none'" in html
    assert html.count("Plotly.newPlot(") >= 4


def test_the_page_holds_the_verdict_the_call_and_the_sealed_test_scores(
    engine: Engine, result: StudyResult
) -> None:
    text = Document(page(engine, result)).text
    assert one_line(result.verdict()) in text
    assert one_line("\n".join(call_lines(result)[1:])) in text
    assert "TestChip (11 runs)" in text
    assert "sealed" not in text
    third = replace(result.winner, slot=2, test=None)
    more = replace(result, candidates=(*result.candidates, third))
    assert Document(page(engine, more)).text.count("sealed") == 1


def test_the_page_says_how_sure_the_edge_is_across_sweeps(
    engine: Engine, result: StudyResult
) -> None:
    assert result.range_test.interval is not None
    low, high = (f"{lr:.3g}" for lr in result.range_test.interval)
    text = Document(page(engine, result)).text
    assert "median of n = 2 sweeps" in text
    assert f"t interval of log10(edge) {low} to {high}." in text
    assert "Drift with the number of steps: not measured." in text


def test_a_study_name_is_shown_as_text_never_as_markup(
    engine: Engine, result: StudyResult
) -> None:
    html = page(engine, result)
    assert f"study {NAME}: which max_lr, pct_start, div_factor?" in Document(html).text
    assert NAME not in html


def test_the_page_names_a_diverged_configuration_with_its_step_and_rate(
    engine: Engine, result: StudyResult
) -> None:
    text = Document(page(engine, result)).text
    assert f"at step {DIVERGED_STEP}, lr 0.31" in text
    assert "1 of 3 diverged" in text


def test_a_configuration_that_was_given_up_has_no_numbers(
    engine: Engine, result: StudyResult
) -> None:
    with transaction(engine) as session:
        session.add(run_row("search", 3, state="failed", outcome=None, failure="memory"))
    assert "3 memory 4" in Document(page(engine, result)).text


def test_a_baseline_that_won_is_called_the_answer(engine: Engine, result: StudyResult) -> None:
    won = replace(result, winner=result.baseline, comparison=None)
    text = Document(page(engine, won)).text
    assert "The baseline is the answer" in text
    assert "this is the baseline" in text
    assert [line.name for line in schedule_figure(won).data] == ["baseline (winner)", "slot 1"]


# where it goes


def test_a_page_lies_beside_the_sqlite_file_it_was_made_from() -> None:
    assert default_path(make_url("sqlite:////a/b.db"), "digits") == Path("/a/b-digits.html")


def test_the_folders_of_a_page_are_made_and_no_draft_stays(
    engine: Engine, result: StudyResult, tmp_path: Path
) -> None:
    path = tmp_path / "some" / "folder" / "page.html"
    write_report(engine, result, path)
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert list(path.parent.iterdir()) == [path]


def test_a_page_that_cannot_be_written_is_a_usage_error_with_path_and_reason(
    engine: Engine, result: StudyResult, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "page.html"
    with pytest.raises(
        UsageError, match=rf"{re.escape(str(path))}: (Not a directory|File exists)"
    ):
        write_report(engine, result, path)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UsageError, match=re.escape(f"{folder}: Is a directory")):
        write_report(engine, result, folder)
    assert not list(tmp_path.glob(".*draft"))


def test_a_full_disk_leaves_the_old_page_and_no_draft(
    engine: Engine, result: StudyResult, tmp_path: Path
) -> None:
    path = tmp_path / "pages" / "page.html"
    path.parent.mkdir()
    path.write_text("the old page", encoding="utf-8")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(UsageError, match="File too large"):
            write_report(engine, result, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text(encoding="utf-8") == "the old page"
    assert list(path.parent.iterdir()) == [path]


KILLED_MIDWAY = """
import resource, signal, sys
from pathlib import Path
from sqlalchemy import make_url
from search.report import write_report
from search.result import load_result
from studies.database import open_engine
engine = open_engine(make_url(sys.argv[1]))
result = load_result(engine, sys.argv[2])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the write that passes 1 MiB kills
write_report(engine, result, Path(sys.argv[3]))
"""


def test_a_write_killed_midway_leaves_the_old_page(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("the old page", encoding="utf-8")
    paths = [str(Path(search.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_MIDWAY, str(engine.url), NAME, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    assert ended.returncode == -signal.SIGXFSZ
    assert path.read_text(encoding="utf-8") == "the old page"


# the figures


def test_importing_the_figures_imports_neither_plotly_nor_torch() -> None:
    script = (
        "import sys, search.figures; print({'plotly', 'torch', 'matplotlib'} & {*sys.modules})"
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
    single = Candidate(2, result.winner.params, 0.9, (0.9,), None)
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
    assert measured.interval is not None
    assert f"{measured.interval[0]:.3g} to {measured.interval[1]:.3g} (n = 2 sweeps)" in "".join(
        shape.name for shape in figure.layout.shapes
    )
    assert figure.layout.xaxis.type == "log"
    assert "0.00001" in figure.layout.xaxis.ticktext
    assert len(figure.layout.shapes) == 4
    low, high = figure.layout.yaxis.range
    assert low < 0.6
    assert 2.3 < high < 3 < np.nanmax(sweep_losses(0))


def test_a_sweep_that_is_never_finite_still_gives_a_figure() -> None:
    plan = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=120)
    broken = tuple(Point(step, lr, float("nan")) for step, lr in enumerate(plan.lrs()))
    figure = range_test_figure(concluded(plan, (broken,), None, seconds=0.0))
    assert "n = 0 of 1 sweep" in figure.data[-1].name


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
    figure = search_figure(catalog.trials(engine, NAME), result)
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
    trials = [{**t, "outcome": "diverged"} for t in catalog.trials(engine, NAME)]
    assert len(search_figure(trials, result).data[1].x) == 3


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
    assert names == ["slot 1 (winner)", "baseline", "slot 6", "slot 7", "slot 8"]


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
    noise = confirmation.Noise(0.25**0.5 * result.screens[0].spread, 4, "neighbours")
    above, within = importance_figure(replace(result, search_noise=noise)).data
    assert (above.y, above.x) == (("max_lr",), (70.0,))
    assert set(within.y) == {"pct_start", "div_factor"}
    assert "not more than" in within.name


def test_the_screening_figure_follows_each_configuration_over_the_lengths(
    engine: Engine, result: StudyResult
) -> None:
    full = catalog.trials(engine, NAME)
    short = [{**t, "slot": t["slot"] + n, "length": 2} for n in (0, 3) for t in full]
    two = replace(result, screens=(replace(result.screens[0], epochs=2), *result.screens))
    figure = screening_figure([*full, *short], two)
    stopped, promoted, baseline, winner = figure.data
    assert stopped.name == "not promoted (3)"
    assert promoted.name == "promoted to 4 epochs (1)"
    assert list(promoted.x) == [0, 1, None]
    assert promoted.marker.symbol[:2] == ("x", "x")  # slot 2 diverged
    assert list(winner.y) == [98.0, 98.0, None]
    assert baseline.name == "baseline"
    assert figure.layout.xaxis.ticktext == ("2 epochs<br>3 cycles", "4 epochs<br>3 cycles")


def test_a_drawn_schedule_is_thinned_but_keeps_its_ends_and_its_peak() -> None:
    plan = OneCycle(max_lr=0.2, total_steps=2_000, pct_start=0.377)
    steps, rates = zip(*plan.samples(100), strict=True)
    lrs = plan.lrs()
    assert len(steps) <= 101
    assert (rates[0], max(rates), rates[-1]) == (lrs[0], max(lrs), lrs[-1])
    assert all(lrs[step] == rate for step, rate in zip(steps, rates, strict=True))


def test_no_figure_ships_plotlys_default_template(result: StudyResult) -> None:
    assert len(schedule_figure(result).layout.template.to_plotly_json()) == 0
