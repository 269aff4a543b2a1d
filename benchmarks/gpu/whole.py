"""The whole study, by the product's own command."""

import json
import os
import subprocess
import sys
import time

from benchmarks.gpu.bench import START_S, Bench
from benchmarks.gpu.children import Facts, FailedError
from benchmarks.gpu.setting import ROOT


def study(bench: Bench, seconds: float) -> None:
    """Search the whole study by the product's own command, and read its answer."""
    setting, database = bench.setting, f"sqlite:///{bench.work.absolute()}/studies.db"
    named = "cifar" if setting.device == "cuda" else "benchmarks/gpu/tiny.py"
    limit_s = min(seconds, bench.left_s)
    places = ["--storage", database]
    command = [
        *("run", "--study", named, "--data", str(setting.data), "--device", setting.device),
        *places,
        *("--timeout-min", f"{max(0.05, (limit_s - START_S) / 60):.3f}"),
        *("--report", str(bench.out / "cifar.html"), "--json"),
    ]
    with bench.trying("study", named):
        begin = time.perf_counter()
        done = _product(bench, command, limit_s + START_S)
        facts: Facts = {"exit": done.returncode, "seconds": time.perf_counter() - begin}
        if done.returncode == 0:
            facts |= _answer(json.loads(done.stdout))
        elif done.returncode == 75:
            facts["cut off"] = "its time was over; what it had is in trials"
        else:
            lines = done.stderr.strip().splitlines()
            raise FailedError(f"exit {done.returncode}: {lines[-1] if lines else ''}")
        bench.add("study", setting.study.name, facts)


def _answer(document: Facts) -> Facts:
    recommended = next(c for c in document["candidates"] if c["slot"] == document["recommended"])
    return {
        "verdict": document["verdict"],
        "recommended": recommended,
    }


def _product(
    bench: Bench, arguments: list[str], limit_s: float
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            [sys.executable, "-m", "search", *arguments],
            cwd=ROOT,
            env={**os.environ, "ONECYCLE_CACHE": str(bench.setting.cache)},
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FailedError("its time was over") from None
