"""The benchmark for GPUs, where there is none: it runs, says what it skipped, and what failed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import children
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.children import FailedError, measured
from benchmarks.gpu.images import generate, pack, unpack
from benchmarks.gpu.page import page
from benchmarks.gpu.parts import step
from benchmarks.gpu.setting import Setting
from benchmarks.lines import append
from tests.conftest import ROOT
from trainers.errors import DataError


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--minutes", "0"], "argument --minutes: must lie between 0.5 and 1440, got 0"),
        (["--minutes", "nan"], "argument --minutes: must lie between 0.5 and 1440, got nan"),
        (["--minutes", "soon"], "argument --minutes: invalid"),
        (["--device", "tpu"], "device 'tpu' is not known"),
        (["--only", "all"], "argument --only: invalid choice: 'all'"),
        (["--data", "/nowhere", "--device", "cpu"], "--data /nowhere: there is no such folder"),
        (["--out", "/dev/null/x", "--device", "cpu"], "--out /dev/null/x: cannot be written"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["pack", "/nowhere", "x"], "/nowhere must hold train/<class>/*"),
        (["pack"], "the following arguments are required: folder, file"),
        (["page", "/nowhere"], "/nowhere/gpu.jsonl is not there"),
    ],
)
def test_a_bad_argument_is_told_in_one_line(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    assert code == 2
    assert said.err.startswith("error: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_figures_of_an_earlier_run_are_not_mixed_with_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gpu.jsonl").write_text("{}\n")
    assert main(["--out", str(tmp_path), "--device", "cpu"]) == 2
    assert "holds figures already; give a new folder" in capsys.readouterr().err
    assert (tmp_path / "gpu.jsonl").read_text() == "{}\n"


def test_a_start_that_was_refused_leaves_nothing_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["--out", str(tmp_path), "--device", "cpu", "--data", "/nowhere"]) == 2
        assert "--data /nowhere: there is no such folder or file" in capsys.readouterr().err


def test_a_packed_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = generate(tmp_path / "images", n_train=200, n_test=20)
    size_mb = pack(folder, tmp_path / "images.tar.xz")
    back = unpack(tmp_path / "images.tar.xz", tmp_path / "back")
    files = {each.relative_to(folder): each.read_bytes() for each in folder.rglob("*.jpg")}
    assert len(files) == 220
    assert {each.relative_to(back): each.read_bytes() for each in back.rglob("*.jpg")} == files
    assert size_mb * 1e6 < sum(map(len, files.values())), "their tables are stored once"
    pack(folder, tmp_path / "again.tar.xz")
    packed = [(tmp_path / name).read_bytes() for name in ("images.tar.xz", "again.tar.xz")]
    assert packed[0] == packed[1]


def test_another_file_is_no_packed_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("text")
    with pytest.raises(DataError, match="no file that `pack` made"):
        unpack(tmp_path / "x", tmp_path / "into")


def rows() -> list[dict[str, Any]]:
    spread = {"slowest": 900, "fastest": 1100, "rounds": 3, "warm_up_s": 1.5}
    return [
        {"part": "machine", "name": "GPU X", "device": "cuda", "images": "cifar.tar.xz"},
        {
            "part": "peak",
            "name": "matrix multiplication",
            "tflops": {"bf16": 2.0, "fp32": 1.0},
            "matrix": 8192,
            "precision": "bf16",
            "gflop_per_image": 2.0,
        },
        {"part": "step", "name": "as it is", "images_per_s": 100, **spread},
        {"part": "step", "name": "CUDA graph", "failed": "RuntimeError: no"},
        {"part": "step", "name": "as it is, MPS", "skipped": "needs CUDA"},
        {"part": "repeat", "name": "as it is", "runs": 4, "epochs": 2, "same_losses": True}
        | {"scores": [0.5, 0.5]},
    ]


def test_the_page_shows_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    lines = tmp_path / "gpu.jsonl"
    for row in rows():
        append(lines, row)
    with lines.open("a") as file:
        file.write('{"part": "stu')  # cut off
    text = page(lines)
    assert "| as it is | 100 | 900 to 1,100 (3) | - | 10.0% | 1.5 |" in text
    assert "- CUDA graph: failed: RuntimeError: no" in text
    assert "- as it is, MPS: skipped: needs CUDA" in text
    assert "| as it is | 4 | 2 | yes | 0.5, 0.5 |" in text
    assert text.rstrip().endswith("Nothing is recorded yet.")


def bench(tmp_path: Path, minutes: float = 10) -> Bench:
    from time import monotonic

    setting = Setting(device="cpu", data=tmp_path / "nowhere", cache=tmp_path)
    return Bench(setting=setting, out=tmp_path, work=tmp_path, ends_at=monotonic() + 60 * minutes)


def kept(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "gpu.jsonl").read_text().splitlines()]


def test_what_does_not_run_here_is_skipped_and_without_time_nothing_begins(
    tmp_path: Path,
) -> None:
    step(bench(tmp_path, minutes=0), 0)
    said = {row["name"]: row.get("failed") or row.get("skipped") for row in kept(tmp_path)}
    assert said["as it is"] == said["plain DataLoader"] == "no time was left"
    assert said["CUDA graph"] == said["cuDNN autotuned"] == "needs CUDA"
    assert said["as it is, several processes and MPS"] == "needs CUDA"


def test_a_child_that_fails_or_takes_too_long_says_so(tmp_path: Path) -> None:
    ask = bench(tmp_path).ask("step", variant="as it is", seconds=1)
    with pytest.raises(FailedError, match=r"nowhere.*\(exit 1\)"):
        measured([ask], limit_s=120)
    with pytest.raises(FailedError, match="its time was over"):
        measured([ask, ask], limit_s=0.01)


def test_mps_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(FailedError, match="nvidia-cuda-mps-control is not installed"),
        children.shared_by_mps(tmp_path),
    ):
        pass


@pytest.mark.slow
def test_it_runs_to_its_end_on_a_cpu(tmp_path: Path) -> None:
    # It ends when it is done; its shares are those of an hour, for the machine may be busy.
    flags = ("--minutes", "60", "--device", "cpu", "--out", str(tmp_path / "out"))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *flags],
        cwd=ROOT,
        env={**os.environ, "ONECYCLE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = kept(tmp_path / "out")
    assert [row for row in rows if "failed" in row] == []
    by_name = {(row["part"], row["name"]): row for row in rows}
    for name in ("as it is", "bare", "plain DataLoader"):
        assert by_name["step", name]["images_per_s"] > 0
    assert by_name["repeat", "as it is"]["runs"] == 4, "the last line of a name"
    assert by_name["repeat", "as it is"]["same_losses"]
    assert by_name["peak", "matrix multiplication"]["gflop_per_image"] > 0
    assert by_name["study", "cifar-tiny"]["training images"] > 0
    assert (tmp_path / "out" / "cifar.html").is_file()
    assert (tmp_path / "out" / "gpu.md").read_text() == done.stdout[:-1]
    assert "The images are generated" in done.stdout
