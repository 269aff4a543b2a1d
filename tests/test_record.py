"""A recording does what is missing, in an order of which any beginning is of use."""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.perform import Job, header_of, perform
from benchmarks.plan import Design, Work, configurations, first_sweeps, in_order
from benchmarks.record import Recording, RunAll, main
from benchmarks.records import CycleRecord, Journal, Record, SweepRecord
from benchmarks.tasks import CIFAR_RESIDUAL, STUDIES
from studies.definition import RangeTest, Screening, Study
from studies.digits import STUDY as DIGITS
from trainers.device import Site
from trainers.errors import UserError
from trainers.sweeps.judgement import Judgement, judge

TINY = Design(n_configurations=4, n_seeds=2, epochs=(1, 2), n_sweeps=6, n_long_sweeps=2)
HEADER = {"task": "a task", "torch": "2.9", "device": "a CPU"}


def study(name: str) -> Study:
    return Study(
        name=name,
        task=DIGITS.task,
        screening=Screening(n_trials=4, epochs=10),
        diverged_value=0.1,
        range_test=RangeTest(n_sweeps=3, n_steps=50),
    )


PAIR = (study("one"), study("two"))


def looked_up(job: Job) -> Record:
    if job.params is None:
        return SweepRecord(
            work=job.work,
            start_lr=1e-5,
            end_lr=10.0,
            losses=(2.3, 1.5, math.nan),
            judgement=Judgement("rebounded", 0.1 * (job.work.number + 1), None),
            outcome="completed",
            diverged_step=None,
            n_images=100,
            seconds=0.5,
            cpu_seconds=0.4,
        )
    return CycleRecord(
        work=job.work,
        params=job.params,
        score=0.5,
        test_score=0.4,
        validation=(0.3, 0.5),
        outcome="completed",
        diverged_step=None,
        n_images=100,
        seconds=0.5,
        cpu_seconds=0.4,
    )


def all_of(jobs: Sequence[Job]) -> Iterator[Record]:
    return map(looked_up, jobs)


class Killed(Exception):
    pass


def killed_after(n: int) -> RunAll:
    left = iter(range(n))

    def run_all(jobs: Sequence[Job]) -> Iterator[Record]:
        for job in jobs:
            if next(left, None) is None:
                raise Killed
            yield looked_up(job)

    return run_all


def record(folder: Path, run_all: RunAll = all_of, header: dict[str, str] = HEADER) -> Recording:
    recording = Recording(folder, PAIR, TINY)
    recording.run(run_all, lambda _: header)
    return recording


def test_a_recording_ends_with_every_run_once(tmp_path: Path) -> None:
    recording = record(tmp_path)
    plan = recording.plan()
    assert len(plan) == len(set(plan)) == 2 * (6 + 2 + 4 * 2 * 2)
    assert all(map(recording.is_done, plan))
    assert len({work.run_seed() for work in plan}) == len(plan)
    lines = (tmp_path / "one.cycles.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4 * 2 * 2


def test_the_first_sweeps_come_first_and_then_the_studies_take_turns() -> None:
    order = list(in_order(PAIR, TINY))
    assert not set(order) & {work for study in PAIR for work in first_sweeps(study)}
    turns = [(work.number, work.task) for work in order if work.kind == "cycle"]
    assert turns == sorted(turns)
    halfway = sum(work.kind == "sweep" for work in order[: len(order) // 2])
    assert halfway in (4, 5)  # of 10


@pytest.mark.parametrize("n_before", [2, 3, 9])
def test_a_killed_recording_goes_on_with_what_is_missing(tmp_path: Path, n_before: int) -> None:
    with pytest.raises(Killed):
        record(tmp_path, killed_after(n_before))
    done = Recording(tmp_path, PAIR, TINY).plan()[:n_before]
    again: list[Work] = []

    def watched(jobs: Sequence[Job]) -> Iterator[Record]:
        again.extend(job.work for job in jobs)
        return all_of(jobs)

    recording = record(tmp_path, watched)
    assert set(again) == set(recording.plan()) - set(done)
    assert len(again) == len(set(again))


def test_a_torn_last_line_is_dropped_and_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = record(tmp_path).journals["one", "cycle"].records
    path = tmp_path / "one.cycles.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert len(Journal(path).records) == len(whole) - 1
    with caplog.at_level(logging.WARNING):
        assert record(tmp_path).journals["one", "cycle"].records == whole
    assert "torn last line" in caplog.text
    assert Journal(path).records == whole


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    record(tmp_path)
    path = tmp_path / "two.cycles.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:30], *lines[3:], ""]))
    with pytest.raises(UserError, match=r"two\.cycles\.jsonl, line 3"):
        Journal(path)


def test_records_made_otherwise_are_not_mixed(tmp_path: Path) -> None:
    record(tmp_path)
    record(tmp_path, header=HEADER | {"device": "another CPU"})
    headers = (tmp_path / "one.sweeps.jsonl").read_text().count('"header"')
    assert headers == 2
    with pytest.raises(UserError, match=r"with torch '2\.9', this start has '2\.10'"):
        record(tmp_path, header=HEADER | {"torch": "2.10"})


def test_even_configurations_are_wide_and_odd_ones_near_the_centre() -> None:
    drawn = configurations(CIFAR_RESIDUAL, Design(), 0.01)
    assert drawn == configurations(CIFAR_RESIDUAL, Design(), 0.01)
    wide, near = ([p.max_lr for p in half] for half in (drawn[::2], drawn[1::2]))
    assert 1e-4 < min(wide) < 3e-4
    assert 3 < max(wide) < 10
    assert 0.01 / 8 < min(near) < 0.0015
    assert 0.07 < max(near) < 0.08
    assert [p.max_lr for p in configurations(CIFAR_RESIDUAL, Design(), 0.1)][::2] == wide


def test_runs_are_the_products_own_and_survive_the_file(tmp_path: Path) -> None:
    site = Site(device="cpu", data=None, cache=tmp_path)
    digits = study("digits")
    params = configurations(digits, TINY, 0.3)[1]
    sweep = perform(Job(digits, Work(task="digits", kind="sweep", number=0, length=60)), site)
    cycle = Work(task="digits", kind="cycle", number=1, length=2, seed=1)
    trained = perform(Job(digits, cycle, params), site)
    assert isinstance(sweep, SweepRecord)
    assert isinstance(trained, CycleRecord)
    assert len(sweep.losses) == 60
    assert judge(sweep.curve()) == sweep.judgement
    assert trained.score == trained.validation[-1]
    assert trained.test_score is not None
    assert trained.n_images == cycle.n_images(digits)
    journal = Journal(tmp_path / "kept.jsonl")
    journal.open(header_of(digits, site))
    journal.add(sweep)
    journal.add(trained)
    assert Journal(journal.path).records == {sweep.work: sweep, cycle: trained}


def test_a_dry_run_counts_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dry-run", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for name in STUDIES:
        assert f"{name}: 96 sweeps, 768 cycles" in printed
    assert "0 of 864 runs recorded" in printed
    assert not list(tmp_path.iterdir())
