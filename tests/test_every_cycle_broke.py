"""Studies in which every cycle broke end without a result; absurd scores break nothing."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.conftest import Ended
from tests.rows import query

Main = Callable[..., Ended]

BROKEN = """
from dataclasses import replace

from tests.table_study import STUDY as TABLE, STEPS_PER_EPOCH, Table
from trainers.task import OwnLoop


class Loop(Table):
    def fit(self, run):
        result = super().fit(run)
        if result.score is None:
            return result
        score = {score}
        sealed = None if run.sealed_split is None else score
        return replace(result, score=score, sealed_score=sealed)


STUDY = replace(
    TABLE,
    name="broken",
    task=OwnLoop(factory=Loop, batch_size=10, steps_per_epoch=STEPS_PER_EPOCH),
    direction={direction!r},
    diverged_value={diverged_value},
)
"""
NAN, HUGE = "float('nan')", "1e300"


def study_of(
    folder: Path, score: str, *, direction: str = "maximize", diverged_value: float = 0.1
) -> tuple[str, ...]:
    """Write a study whose cycles have that score (an expression); return a command's flags."""
    file = folder / "broken.py"
    file.write_text(BROKEN.format(score=score, direction=direction, diverged_value=diverged_value))
    return ("--study", str(file), "--storage", f"sqlite:///{folder}/a.db", "--workers", "1")


@pytest.mark.parametrize(
    ("score", "direction", "diverged_value"),
    [
        (NAN, "maximize", 0.1),
        ("0.05", "maximize", 0.1),
        ("0.1", "maximize", 0.1),
        (HUGE, "maximize", 0.1),
        (HUGE, "minimize", 10.0),
        ("-" + HUGE, "minimize", 10.0),
        ("11.0", "minimize", 10.0),
    ],
)
def test_a_study_in_which_every_cycle_broke_ends_with_code_1_and_says_why(
    tmp_path: Path, main_here: Main, score: str, direction: str, diverged_value: float
) -> None:
    flags = study_of(tmp_path, score, direction=direction, diverged_value=diverged_value)
    ended = main_here("run", *flags, "--trials", "4", "--json")
    assert ended.code == 1
    assert ended.out == ""
    last = ended.err.splitlines()[-1]
    no_number = score in (NAN, HUGE, "-" + HUGE)
    why = "the score was no number in 4"
    if not no_number:
        why = f"the score was no better than diverged_value ({diverged_value:g}) in 4"
    assert "'broken' ended without a result: " in last
    assert f"none of its 4 cycles has a usable score: {why}" in last
    assert "diverged " not in last
    assert "Traceback" not in ended.err
    url = make_url(f"sqlite:///{tmp_path}/a.db")
    searched = query(url, "SELECT DISTINCT outcome, score FROM work WHERE stage = 'search'")
    assert searched == [("score no number" if no_number else "did not learn", diverged_value)]
    assert query(url, "SELECT count(*) FROM work WHERE stage = 'confirmation'") == [(0,)]


def test_what_ended_so_stays_ended_and_every_command_says_the_same(
    tmp_path: Path, main_here: Main
) -> None:
    flags = study_of(tmp_path, NAN)
    stored = ("--study", "broken", "--storage", flags[3])
    assert main_here("run", *flags, "--trials", "4").code == 1
    url = make_url(flags[3])
    claims = query(url, "SELECT sum(token) FROM work")
    reason = "none of its 4 cycles has a usable score: "
    for command in (("run", *flags), ("report", *stored), ("export", *stored)):
        ended = main_here(*command)
        assert (ended.code, reason in ended.err) == (1, True), command
    assert query(url, "SELECT sum(token) FROM work") == claims, "nothing is trained again"
    status = json.loads(main_here("status", *stored, "--json").out)
    assert (status["stage"], status["reason"].startswith(reason)) == ("failed", True)
    assert "failed: none of its 4 cycles has a usable score" in main_here("status", *stored).out
    more = main_here("run", *flags, "--trials", "+2")
    assert more.code == 2
    assert "ended without a result" in more.err


def test_a_python_caller_gets_the_reason(tmp_path: Path) -> None:
    from search.api import run
    from search.errors import NoResultError

    flags = study_of(tmp_path, NAN)
    with pytest.raises(NoResultError, match="none of its 4 cycles has a usable score"):
        run(flags[1], storage=flags[3], trials=4)


def not_a_number(name: str) -> float:
    raise AssertionError(f"{name} in a document of JSON")


@pytest.mark.parametrize(
    ("absurd", "direction"),
    [
        (HUGE, "maximize"),
        ("-" + HUGE, "minimize"),
        (NAN, "maximize"),
        ("float('inf')", "minimize"),
    ],
)
def test_absurd_scores_of_some_cycles_are_divergences_and_break_no_report(
    tmp_path: Path, main_here: Main, absurd: str, direction: str
) -> None:
    # Configurations of a search share a seed, so that the rate must have a say.
    score = f"{absurd} if (int(1e6 * run.plan.max_lr) + run.seed) % 3 == 0 else result.score"
    worst = 0.1 if direction == "maximize" else 10.0
    flags = study_of(tmp_path, score, direction=direction, diverged_value=worst)
    ended = main_here("run", *flags, "--json")
    assert ended.code == 0, ended.err
    answer = json.loads(ended.out, parse_constant=not_a_number)
    assert 0 < answer["n_unlearned"] < answer["n_trials"]
    assert answer["n_diverged"] == 0
    shown = [s for c in answer["candidates"] for s in [*c["scores"], *(c["test"] or [])]]
    assert all(abs(each) <= 10 for each in shown)
    assert answer["spread"] < 10
    shares = answer["importances"] or {}
    assert all(math.isfinite(share) for share in shares.values())
    stored = ("--study", "broken", "--storage", flags[3])
    page = tmp_path / "page.html"
    for flag in ((), ("--markdown",), ("--html", str(page))):
        report = main_here("report", *stored, *flag)
        assert report.code == 0, report.err
        assert "e+" not in report.out, "no absurd number is shown"
    assert "1e+300" not in page.read_text()


def test_the_greatest_scores_that_count_break_no_report(tmp_path: Path, main_here: Main) -> None:
    score = "1e99 * result.score"
    flags = study_of(tmp_path, score, diverged_value=-1e100)
    ended = main_here("run", *flags, "--json")
    assert ended.code == 0, ended.err
    answer = json.loads(ended.out, parse_constant=not_a_number)
    assert answer["n_diverged"] == 0
    assert 1e97 < answer["spread"] < 1e99
    assert main_here("report", "--study", "broken", "--storage", flags[3]).code == 0
