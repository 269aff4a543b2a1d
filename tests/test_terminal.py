"""What a person sees: tables that fit, no control characters in files, bars on a terminal."""

import contextlib
import dataclasses
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from search.params import Params
from search.results.trials import Trial
from search.starting import catalog
from search.starting.opening import opened
from search.views.findings import Findings, findings
from search.views.terminal.answer import print_findings, print_studies
from search.views.terminal.trials import print_trials
from studies.params import CYCLE
from studies.states import RunState, Stage
from tests.conftest import ROOT, TABLE_STUDY, Ended, Finished

OUTSIDE_CI = {name: value for name, value in os.environ.items() if name != "CI"}
HEADINGS = ["configuration", *CYCLE, "seeds", "validation", "test"]


@pytest.fixture
def found(finished: Finished) -> Findings:
    with opened(finished.storage) as engine:
        return findings(engine, catalog.find(engine, "table"))


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def table_of(text: str) -> list[str]:
    """Return the lines of the result table: title, heading, rule and rows."""
    _, lines = text.split("\n\n")[:2]
    return lines.splitlines()


def means_of(table: list[str]) -> list[float]:
    """Return the mean validation score of each row; one seed has no interval."""
    rows = [line for line in table[3:] if not line.startswith("(answer)")]  # of a folded name
    return [float(re.sub(r" ± \S+", "", line).split()[-2]) for line in rows]


def assert_plain(text: str) -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\x9b]", text), ascii(text)


def test_a_run_into_a_file_prints_plain_lines_only(finished: Finished) -> None:
    assert_plain(finished.first.out)
    assert_plain(finished.first.err)
    lines = finished.first.err.splitlines()
    assert lines[0] == f"database: {finished.storage}"
    assert lines[1].startswith("study table: 1 worker(s) on ")
    for stage, n in (("range test", 2), ("search", 12), ("confirmation", None)):
        ended = [line for line in lines if line.startswith(f"{stage} ")]
        assert {line.split()[-1] for line in ended} == {"left"}
        assert n is None or len(ended) == n


def test_every_run_is_told_once(finished: Finished) -> None:
    told = re.findall(r"^(\w+) \d+/\d+ · slot (\d+) · ", finished.first.err, re.MULTILINE)
    assert len(told) == len(set(told))
    last = [line for line in finished.first.err.splitlines() if " · slot " in line][-1]
    assert re.match(r"confirmation (\d+)/\1 ", last)


def test_the_answer_in_words(found: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    print_findings(found, Path("page.html"), json=False)
    out = capsys.readouterr().out
    assert_plain(out)
    assert found.result.verdict() in out
    assert out.count("Take ") == 1
    assert "12 configurations at 4 epochs of which 0 diverged" in out
    assert "of its 95 % interval over fresh seeds" in out
    assert "noise of a seed: sd " in out
    assert re.search(r"^range test +2 +1,200 ", out, re.MULTILINE)
    assert "here 4 epochs x 10 batches of 10 samples = 40." in out
    assert out.splitlines()[-1] == "report: page.html"


def test_the_call_to_paste_is_python_and_torchs_own(
    found: Findings, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    print_findings(found, Path("page.html"), json=False)
    out = capsys.readouterr().out
    source = out[out.index("scheduler = torch") : out.index("# total_steps")]
    names = {
        "torch": torch,
        "optimizer": torch.optim.SGD([torch.zeros(1)], lr=1.0, momentum=0.9),
        "epochs": 4,
        "train_loader": range(10),
    }
    exec(source, names)
    scheduler, rates = names["scheduler"], []
    assert isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR)
    for step in range(40):
        rates.append(scheduler.get_last_lr()[0])
        names["optimizer"].step()  # type: ignore[attr-defined]
        if step < 39:
            scheduler.step()
    assert rates == pytest.approx(found.result.plan.lrs(), rel=1e-4)  # the call is printed rounded
    assert rates[-1] == pytest.approx(found.result.recommended.params.max_lr / 250_000, rel=1e-4)


def test_the_table_of_a_result_fits_eighty_columns(
    found: Findings, capsys: pytest.CaptureFixture[str]
) -> None:
    print_findings(found, Path("page.html"), json=False)
    table = table_of(capsys.readouterr().out)
    assert table[1].split() == HEADINGS
    assert len(means_of(table)) == len(found.result.candidates)
    assert max(map(len, table)) <= 80
    assert "…" not in "".join(table)
    assert sum("(answer)" in line for line in table) == 1
    assert sum(line.startswith("baseline") for line in table) == 1
    assert means_of(table) == sorted(means_of(table), reverse=True)


def test_the_widest_values_still_fit(found: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    wide = tuple(
        dataclasses.replace(
            candidate,
            slot=candidate.slot and 1000 + candidate.slot,
            scores=(1.0, 0.0, 1.0),
            test=(1.0, 0.0, 1.0),
            params=Params(**{**candidate.params, "max_lr": 1.234e-05, "div_factor": 12.345}),
        )
        for candidate in found.result.candidates
    )
    winner = next(c for c in wide if c.slot)
    widest = dataclasses.replace(found.result, name="n" * 200, candidates=wide, winner=winner)
    print_findings(dataclasses.replace(found, result=widest), Path("page.html"), json=False)
    table = "\n".join(table_of(capsys.readouterr().out))
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table
    assert table.count("66.67 ± 143.42") == 6
    assert table.count("1.23e-05") == 3


def test_of_losses_the_lowest_stands_first(
    found: Findings, capsys: pytest.CaptureFixture[str]
) -> None:
    lowest = dataclasses.replace(found.result, direction="minimize")
    print_findings(dataclasses.replace(found, result=lowest), Path("p.html"), json=False)
    table = table_of(capsys.readouterr().out)
    means = means_of(table)
    assert means == sorted(means)
    assert len(set(means)) > 1


def test_trials_are_a_table_that_fits(finished: Finished, main_here: Callable[..., Ended]) -> None:
    ended = main_here("trials", "--study", "table", "--storage", finished.storage)
    assert ended.code == 0
    assert_plain(ended.out)
    lines = ended.out.splitlines()
    assert len(lines) == 2 + 12
    assert lines[0].split()[:5] == ["slot", "epochs", "state", "outcome", "score"]
    assert max(map(len, lines)) <= 80
    assert "…" not in ended.out
    assert [line.split()[:4] for line in lines[2:]] == [
        [str(slot), "4", "done", "completed"] for slot in range(12)
    ]


def test_trials_that_have_not_run_have_empty_cells(capsys: pytest.CaptureFixture[str]) -> None:
    empty: dict[str, Any] = dict.fromkeys(Trial.__slots__)
    row = Trial(**{**empty, "slot": 3, "epochs": 4, "state": RunState.WAITING})
    print_trials([row], csv=False)
    assert capsys.readouterr().out.splitlines()[2].split() == ["3", "4", "waiting"]


def test_long_names_of_studies_are_kept_whole(capsys: pytest.CaptureFixture[str]) -> None:
    name = "".join(chr(ord("a") + n % 26) for n in range(200))
    print_studies([(name, Stage.CONFIRMATION, 12, 12, datetime(2026, 1, 2, 3, 4))])
    out = capsys.readouterr().out
    assert_plain(out)
    assert max(map(len, out.splitlines())) <= 80
    first = [line.split(" ")[0] for line in out.splitlines()[2:]]
    assert "".join(first) == name
    assert "12/12" in out
    assert "2026-01-02 03:04" in out


def test_without_a_terminal_no_colour_is_forced_upon_a_file(
    finished: Finished, onecycle: Callable[..., Ended]
) -> None:
    report = ("report", "--study", "table", "--storage", finished.storage)
    ended = onecycle(*report, FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert ended.code == 0
    assert_plain(ended.out)
    assert_plain(ended.err)


def run_in_a_terminal(folder: Path, *flags: str, **environment: str) -> tuple[str, str]:
    """Return what a short search writes to a terminal of 80 x 24, and to stdout, which is none."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    run = ("run", "--study", str(TABLE_STUDY), "--storage", f"sqlite:///{folder}/a.db")
    process = subprocess.Popen(
        [sys.executable, "-m", "search", *run, "--workers", "1", "--trials", "1", *flags],
        cwd=ROOT,
        env={**OUTSIDE_CI, "TERM": "xterm-256color", "TABLE_SLEEP_S": "0.005", **environment},
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.close(terminal)
    seen = b""
    with contextlib.suppress(OSError):  # the end of a terminal that nobody holds any more
        while part := os.read(controller, 65536):
            seen += part
    os.close(controller)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, seen.decode()
    return seen.decode(), out


@pytest.mark.slow
def test_a_terminal_shows_bars_and_runs_and_the_answer_stays_on_stdout(tmp_path: Path) -> None:
    seen, out = run_in_a_terminal(tmp_path, NO_COLOR="1")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert "\x1b[1A" in seen, "the picture is drawn again in its place"
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", seen), "NO_COLOR"
    for words in ("best so far 0.", "running", " left"):
        assert words in shown
    for stage, n in (("range test", 2), ("search", 1), ("confirmation", 2)):
        assert re.search(rf"{stage} +\S+ +{n}/{n}\s", shown)
    assert re.search(r"[\d,]+ samples/s · .+ left", shown)
    assert "Traceback" not in shown
    _, *lines = re.split(r"[\r\n]+", shown)  # the first names a database, wherever it lies
    assert max(map(len, lines)) <= 80
    assert_plain(out)
    assert table_of(out)[1].split() == HEADINGS
    assert (shown + out).count("Take ") == 1


@pytest.mark.slow
def test_a_terminal_that_nobody_looks_at_gets_a_line_per_event(tmp_path: Path) -> None:
    seen, _ = run_in_a_terminal(tmp_path, CI="true")
    lines = seen.replace("\r\n", "\n").splitlines()
    assert_plain("\n".join(lines))
    events = [line for line in lines if " · slot " in line]
    assert [line.split(" · ")[0] for line in events] == [
        "range test 1/2",
        "range test 2/2",  # the sweeps agree: no third and no slow one
        "search 1/1",
        "confirmation 1/2",  # without a finalist the baseline has no pairs
        "confirmation 2/2",
    ]
    assert all(re.search(r" · [\d,]+ samples/s · .+ left$", line) for line in events)
    assert sum(line.startswith("proposed max_lr 0.") for line in lines) == 1
