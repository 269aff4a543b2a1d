"""The range test's benchmark resumes where it ended; its tables follow from its files alone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks.optimum import fit, interval
from benchmarks.perform import Job, perform
from benchmarks.plan import Tool, Work
from benchmarks.range_report import report
from benchmarks.range_test import Experiment, main
from benchmarks.records import CycleRecord, Record, SuggestionRecord, SweepRecord
from benchmarks.settings import N_SWEEPS, SETTINGS, Setting, number_of, rate_of
from tests.conftest import ROOT
from trainers.device import Site
from trainers.errors import UserError
from trainers.sweeps.judgement import EDGE_TO_MAX_LR, judge
from trainers.sweeps.sweep import LRCurve, Sweep

HEADER = {"task": "a task", "torch": "2.9", "device": "a CPU"}
TOP, HEIGHT, BEND = -1.5, 0.6, 0.1
SMALL = SETTINGS["cifar-small"]


def height(log_rate: float) -> float:
    return max(0.1, HEIGHT - BEND * (log_rate - TOP) ** 2)


def losses(n_steps: int, turn: float) -> tuple[float, ...]:
    """Flat, down from 1e-4, up again from `turn`."""
    lrs = Sweep(start_lr=1e-5, end_lr=10.0, total_steps=n_steps).lrs()
    logs = np.log10(lrs)
    down, up = np.clip(logs + 4, 0, 2), 3 * np.clip(logs - math.log10(turn), 0, None)
    return tuple(float(f"{loss:.5g}") for loss in 2.3 - 0.5 * down + up)


def looked_up(job: Job) -> Record:
    work = job.work
    if job.params is not None:
        score = height(math.log10(job.params.max_lr))
        return CycleRecord(
            work=work,
            params=job.params,
            score=score,
            test_score=score,
            validation=(score,),
            outcome="completed",
            diverged_step=None,
            n_images=100,
            seconds=0.5,
            cpu_seconds=0.4,
        )
    if work.kind == "sweep":
        measured = losses(work.length, turn=0.1)
        lrs = tuple(Sweep(start_lr=1e-5, end_lr=10.0, total_steps=work.length).lrs())
        return SweepRecord(
            work=work,
            start_lr=1e-5,
            end_lr=10.0,
            losses=measured,
            judgement=judge(LRCurve(lrs, measured)),
            outcome="completed",
            diverged_step=None,
            n_images=100,
            seconds=0.5,
            cpu_seconds=0.4,
        )
    broken = work.kind == "ignite"
    return SuggestionRecord(
        work=work,
        version="1.0",
        suggestions={} if broken else {"steepest": 10 ** (TOP - 1)},
        error="RuntimeError: too few points" if broken else None,
        n_steps=work.length,
        seconds=0.5,
        cpu_seconds=0.4,
    )


class Killed(Exception):
    pass


def do(experiment: Experiment, n_at_most: int | None = None) -> list[Work]:
    """Run with results that are looked up; return what was done, killed after `n_at_most`."""
    done: list[Work] = []

    def run_all(jobs: Sequence[Job]) -> Iterator[Record]:
        for job in jobs:
            if n_at_most is not None and len(done) >= n_at_most:
                raise Killed
            done.append(job.work)
            yield looked_up(job)

    experiment.run(run_all, lambda _: HEADER)
    return done


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("complete")
    do(Experiment(folder))
    return folder


@pytest.fixture(scope="module")
def text(complete: Path) -> str:
    return report(Experiment(complete)).markdown()


def rows(text: str, title: str) -> list[dict[str, str]]:
    """Return one table of a report, a dictionary by column for each row."""
    section = text.split(f"\n## {title}")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in body]


def row(table: list[dict[str, str]], **cells: str) -> dict[str, str]:
    (found,) = [r for r in table if cells.items() <= r.items()]
    return found


def test_a_killed_start_resumes_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        do(Experiment(tmp_path), n_at_most=400)
    rest = do(Experiment(tmp_path))
    assert len(rest) == len(set(rest)) > 0
    files = [Experiment(tmp_path).journals[key].records for key in Experiment(tmp_path).journals]
    assert sum(map(len, files)) == 400 + len(rest)
    assert do(Experiment(tmp_path)) == []


def test_the_last_two_settings_wait_for_the_grids_of_the_first_four(tmp_path: Path) -> None:
    jobs = Experiment(tmp_path).missing_jobs()
    assert {job.work.task for job in jobs} == {"cifar-small", "adamw", "residual", "no-norm"}


def test_repetitions_share_no_sweep_and_each_has_one_of_twice_the_steps() -> None:
    works, slow = SMALL.sweeps(200), SMALL.long_sweeps()
    assert len(set(works)) == 8 * N_SWEEPS
    assert [work.number // N_SWEEPS for work in slow] == list(range(8))
    assert {work.length for work in slow} == {400}


def test_the_best_rates_are_trained_again_with_seeds_that_did_not_choose_them(
    complete: Path,
) -> None:
    experiment, setting = Experiment(complete), SETTINGS["adamw"]
    best = experiment.best(setting)
    assert best == [-180, -150, -120]  # around the top
    fresh = setting.fresh(best)
    assert not set(fresh) & set(setting.grid())
    assert all(experiment.record(work) is not None for work in fresh)


def test_a_rate_survives_its_number() -> None:
    assert [number_of(rate_of(number)) for number in (-330, -7, 0, 60)] == [-330, -7, 0, 60]


def test_the_fit_finds_the_top_of_a_parabola() -> None:
    scores = {10**at: [height(at)] * 3 for at in np.arange(-3.0, 0.1, 0.3)}
    optimum = fit(scores)
    assert optimum.at == pytest.approx(TOP, abs=1e-9)
    assert optimum.score == pytest.approx(HEIGHT)
    assert interval(scores) == pytest.approx((TOP, TOP))


def test_the_fit_leaves_out_what_lies_beyond_a_cliff() -> None:
    scores = {10**at: [height(at)] for at in np.arange(-3.0, -0.8, 0.3)}
    assert fit({**scores, 0.3: [0.1], 1.0: [0.1]}).at == pytest.approx(TOP, abs=1e-9)


def test_more_seeds_weigh_more() -> None:
    scores = {0.01: [0.60], 0.02: [0.61], 0.04: [0.60], 0.08: [0.59]}
    trusted = {**scores, 0.08: [0.59] * 100}
    equal, weighted = (abs(fit(of).score_at(math.log10(0.08)) - 0.59) for of in (scores, trusted))
    assert weighted < equal / 2


def test_regret_is_that_of_the_parabola_near_the_optimum_and_of_the_lines_far_from_it() -> None:
    scores = {10**at: [height(at)] for at in (-4.0, -3.0, -2.0, -1.5, -1.0, -0.5)}
    optimum = fit(scores)
    assert optimum.regret(-1.25) == pytest.approx(BEND * 0.25**2)
    assert optimum.regret(-3.5) == pytest.approx(HEIGHT - (height(-4) + height(-3)) / 2)
    low, high = optimum.within(0.01)
    reach = math.sqrt(0.01 / BEND)
    assert (low, high) == pytest.approx((TOP - reach, TOP + reach), abs=0.01)


def test_a_suggestion_below_all_cycles_has_at_least_the_regret_of_the_lowest() -> None:
    optimum = fit({10**at: [height(at)] for at in (-3.0, -2.0, -1.5, -1.0)})
    assert not optimum.is_measured(-5.0)
    assert optimum.regret(-5.0) == pytest.approx(HEIGHT - height(-3.0))


def test_the_report_follows_from_the_files_alone(text: str) -> None:
    optimum = row(rows(text, "Where the optimum is"), setting="adamw", epochs="4")
    assert float(optimum["optimum"]) == pytest.approx(10**TOP, rel=0.05)
    suggestions = rows(text, "Ours beside other tools")
    theirs = row(suggestions, setting="cifar-small", steps="100", source="fastai steepest")
    assert (theirs["n"], theirs["sd log10"], theirs["cost, steps"]) == ("8", "0.00", "100")
    expected = HEIGHT - np.interp(TOP - 1, (-2.7, -2.1), (height(-2.7), height(-2.1)))
    assert float(theirs["median regret"]) == pytest.approx(100 * expected, abs=0.1)
    ours = row(suggestions, setting="adamw", steps="200", source="ours, K = 5")
    assert ours["cost, steps"] == str(N_SWEEPS * 200 + 400)
    across = rows(text, "Every source across the settings")
    assert row(across, source="fastai steepest")["settings below 1 point"] == "0 of 7"
    checks = rows(text, "Cycles trained at the suggestions")
    assert row(checks, setting="adamw", max_lr="0.00316")["trained"] == "50.0 %"


def test_a_changed_rule_changes_the_brackets(
    complete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Experiment(complete).proposals(SMALL, 200)
    halved = {name: share / 2 for name, share in EDGE_TO_MAX_LR.items()}
    monkeypatch.setattr("trainers.sweeps.judgement.EDGE_TO_MAX_LR", halved)
    after = Experiment(complete).proposals(SMALL, 200)
    assert len(before) == 8
    ratios = [b.max_lr / a.max_lr for b, a in zip(before, after, strict=True) if a and b]
    assert ratios == pytest.approx([2.0] * 8)


def test_a_tool_that_fails_is_shown_as_failed(text: str) -> None:
    failed = row(rows(text, "Tools that failed"), setting="no-norm", steps="100", source="ignite")
    assert failed["n"] == "4, 4 failed"
    assert failed["error"] == "RuntimeError: too few points"
    assert (
        row(rows(text, "Ours beside other tools"), setting="no-norm", source="ignite")["median"]
        == "-"
    )


@pytest.mark.parametrize("tool", get_args(Tool))
def test_a_tool_is_asked_as_its_users_ask_it(tool: Tool, tmp_path: Path) -> None:
    pytest.importorskip(tool.replace("-", "_"))
    work = Work(task="digits", kind=tool, number=0, length=60)
    site = Site(device="cpu", data=None, cache=tmp_path)
    said = perform(Job(SETTINGS["digits"].study, work), site)
    assert isinstance(said, SuggestionRecord)
    assert said.error is None
    assert 40 <= said.n_steps <= 61
    assert all(rate is not None and 1e-9 < rate < 10 for rate in said.suggestions.values())


def test_an_empty_folder_has_a_report(tmp_path: Path) -> None:
    text = report(Experiment(tmp_path)).markdown()
    assert text.count("Nothing is recorded yet.") == 7
    assert text.endswith("None did.\n")


def test_the_page_of_long_tables_is_what_the_recorded_files_say(tmp_path: Path) -> None:
    kept = tmp_path / "page.md"
    assert main(["--report", "--write", str(kept)]) == 0
    assert (ROOT / "docs/benchmarks/range-test.md").read_text() == kept.read_text()


def test_a_page_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--out", str(tmp_path), "--report", "--write", str(tmp_path / "nowhere" / "page.md")]
    assert main(asked) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_page_without_a_report_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--write", "page.md"])
    assert "--write needs --report" in capsys.readouterr().err


def test_a_sweep_that_passes_for_a_suggestion_is_refused(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path)
    job = Job(SMALL.study, SMALL.sweeps(100)[0])
    ours = looked_up(job)
    mislabelled = replace(ours, work=replace(ours.work, kind="fastai"))
    experiment.journals["cifar-small", "suggestions"].add(mislabelled)
    with pytest.raises(UserError, match="not a record"):
        Experiment(tmp_path)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_a_grid_has_eight_rates_beside_the_far_ones(setting: Setting) -> None:
    assert len(setting.rates) >= 8
    assert not set(setting.rates) & set(setting.far_rates)
