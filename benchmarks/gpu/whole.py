"""The whole study, by the product's own command: range test, search, confirmation, report."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.gpu.bench import START_S, Bench
from benchmarks.gpu.children import Facts, FailedError
from benchmarks.gpu.setting import ROOT
from search.errors import EXIT_FINISHED, EXIT_GIVEN_BACK

# A whole study of fewer seconds has hardly begun.
_LEAST_S = 5.0


def study(bench: Bench, seconds: float) -> None:
    """Search it, with the workers that the product takes by itself, and keep what came out.

    Where the time is over first, what is done by then is kept.
    """
    setting = bench.setting
    named = "cifar" if setting.device == "cuda" else "benchmarks/gpu/tiny.py"
    storage = ("--storage", f"sqlite:///{bench.work}/studies.db")
    with bench.trying("study", setting.study.name):
        limit_s = min(seconds, bench.left_s)
        train_s = limit_s - START_S  # to start, and to write the report
        if train_s < _LEAST_S:
            raise FailedError("no time was left")
        begin = time.perf_counter()
        done = _product(
            bench,
            *("run", "--study", named, "--data", str(setting.data), "--device", setting.device),
            *("--timeout-min", f"{train_s / 60:.3f}", "--report", str(bench.out / "cifar.html")),
            *(*storage, "--json"),
            limit_s=limit_s,
        )
        taken_s = round(time.perf_counter() - begin, 1)
        if done.code == EXIT_FINISHED:
            facts = _answer(json.loads(done.out), taken_s)
        elif done.code in (EXIT_GIVEN_BACK, None):
            status = ("status", "--study", setting.study.name, *storage, "--json")
            facts = _so_far(json.loads(_product(bench, *status, limit_s=60).out))
        else:
            raise FailedError(f"exit {done.code}: {_last(done.err.splitlines())}")
        bench.add("study", setting.study.name, {"seconds": taken_s, **facts})


def _answer(document: Facts, taken_s: float) -> Facts:
    by_slot = {candidate["slot"]: candidate for candidate in document["candidates"]}
    answer, spent = by_slot[document["recommended"]], document["spent"]
    n_images = sum(stage["n_images"] for stage in spent)
    return {
        "stages": _text(
            f"{stage['name']}: {stage['n_runs']} runs, {stage['seconds']:.1f} s" for stage in spent
        ),
        "training images": n_images,
        "images_per_s from command to answer": round(n_images / taken_s),
        "answer": _text(f"{name}={_short(value)}" for name, value in answer["params"].items()),
        "validation": _mean(answer["scores"]),
        "test": _mean(answer["test"] or ()),
        "verdict": document["verdict"],
    }


def _so_far(document: Facts) -> Facts:
    best = document["best"]
    return {
        "cut off": "its time was over",
        "stages": _text(f"{s['name']}: {s['done']} of {s['total']}" for s in document["stages"]),
        "training images": document["images_done"],
        "best score so far": None if best is None else best["score"],
    }


def _text(parts: Iterable[str]) -> str:
    return "; ".join(parts)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _mean(scores: Sequence[float]) -> str | None:
    return f"{statistics.fmean(scores):.4f} (n = {len(scores)})" if scores else None


def _last(lines: Sequence[str]) -> str:
    return next((line for line in reversed(lines) if line.strip()), "")


@dataclass(frozen=True)
class _Ended:
    """How a command of the product ended; `code` is None where its time was over."""

    code: int | None
    out: str
    err: str


def _product(bench: Bench, *arguments: str, limit_s: float) -> _Ended:
    process = subprocess.Popen(
        [sys.executable, "-m", "search", *arguments],
        cwd=ROOT,
        env={**os.environ, "ONECYCLE_CACHE": str(bench.setting.cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit_s)
        return _Ended(process.returncode, out, err)
    except subprocess.TimeoutExpired:
        return _Ended(None, "", "")
    finally:
        # Its workers, too, which would train on.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
