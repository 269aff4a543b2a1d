"""The parts of the benchmark: each writes its figures as it has them, and stops no other."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.bench import START_S, Bench
from benchmarks.gpu.children import Facts, FailedError, measured, shared_by_mps
from benchmarks.gpu.whole import study

_CUDA_ONLY = ("cuDNN autotuned", "CUDA graph", "compiled", "compiled, reduce-overhead")
# The cheap ones first: a part whose time is over has then lost the least.
VARIANTS = ("as it is", "plain DataLoader", "bare", *_CUDA_ONLY)
PROCESSES = (1, 2, 3, 4)
# torch.compile took 12 to 36 s on a CPU; a child that hangs ends so.
_MOST_S = 90.0
_REPEAT_EPOCHS = {"cuda": 3}


def peak(bench: Bench, seconds: float) -> None:
    """Measure what the device can do at most."""
    with bench.trying("peak", "matrix multiplication"):
        ask = bench.ask("peak", seconds=min(_measured_s(bench) / 2, seconds / 4))
        [facts] = measured([ask], limit_s=min(seconds + 2 * START_S, bench.left_s))
        bench.add("peak", "matrix multiplication", facts)


def step(bench: Bench, seconds: float) -> None:
    """Measure the step: in each form alone, then as it is in several processes."""
    ends_at = time.monotonic() + seconds
    on_gpu = bench.setting.device == "cuda"
    n_left = len(VARIANTS) + 2 * len(PROCESSES) - 1 if on_gpu else 4

    def once(name: str, variant: str, n: int, **more: Any) -> None:
        """Measure in `n` processes at once, in an even share of what is left."""
        nonlocal n_left
        left_s = min(ends_at - time.monotonic(), bench.left_s)
        each_s = max(0.5, min(_measured_s(bench), left_s / max(1, n_left) - START_S))
        n_left -= 1
        with bench.trying("step", name):
            if left_s < START_S / 4:
                raise FailedError("no time was left")
            asks = [bench.ask("step", variant=variant, seconds=each_s)] * n
            rows = measured(asks, limit_s=min(_MOST_S, left_s), **more)
            bench.add("step", name, _together(rows))

    for variant in VARIANTS:
        if variant in _CUDA_ONLY and not on_gpu:
            bench.add("step", variant, {"skipped": "needs CUDA"})
        else:
            once(variant, variant, 1)
    for n in PROCESSES[1:]:
        if on_gpu:
            once(f"as it is, {n} processes", "as it is", n)
    name = "as it is, MPS"
    if not on_gpu:
        bench.add("step", "as it is, several processes and MPS", {"skipped": "needs CUDA"})
        return
    with bench.trying("step", name), shared_by_mps(bench.work / "mps") as env:
        for n in PROCESSES:
            once(f"{name}, {n} process{'es' if n > 1 else ''}", "as it is", n, env=env)


def _measured_s(bench: Bench) -> float:
    """Return the seconds of one measurement where time is no matter."""
    return 10.0 if bench.setting.device == "cuda" else 1.0


def _together(rows: list[Facts]) -> Facts:
    """Return the figures of one process, or the sum of what several did in the same time."""
    if len(rows) == 1:
        return rows[0]
    overall = sum(row["overall_images_per_s"] for row in rows)
    return {"processes": len(rows), "overall_images_per_s": overall, "each": rows}


def repeat(bench: Bench, seconds: float) -> None:
    """Train one seed twice in each of two processes: are scores and losses the same?"""
    epochs = _REPEAT_EPOCHS.get(bench.setting.device, 2)
    runs: dict[str, list[Facts]] = {}
    with bench.trying("repeat", "the same seed"):
        ends_at = time.monotonic() + min(seconds + 2 * START_S, bench.left_s)
        for _ in range(2):
            left_s = ends_at - time.monotonic()
            [facts] = measured([bench.ask("repeat", epochs=epochs)], limit_s=left_s)
            for name, trained in facts.items():
                runs.setdefault(name, []).extend(trained)
            for name, trained in runs.items():
                bench.add("repeat", name, _compared(trained, epochs))


def _compared(runs: list[Facts], epochs: int) -> Facts:
    return {
        "epochs": epochs,
        "runs": len(runs),
        "same_losses": len({run["losses"] for run in runs}) == 1,
        "scores": [run["score"] for run in runs],
    }


PARTS: dict[str, tuple[Callable[[Bench, float], None], float]] = {
    "peak": (peak, 0.04),
    "step": (step, 0.35),
    "repeat": (repeat, 0.1),
    "study": (study, 1.0),
}
"""Each with the share of the minutes that it may take; the study takes what is left."""
