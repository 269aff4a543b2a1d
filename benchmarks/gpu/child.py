"""One measurement in a process of its own: what fails in it, CUDA's state too, ends with it.

    python -m benchmarks.gpu.child '{"job": "step", "variant": "as it is", ...}'

It prints one JSON line. Where `waits` is true it first prints "ready" after its warm-up, and goes
on once a line arrives on stdin, so that several begin their clocks together.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.setting import SEED, Setting

if TYPE_CHECKING:
    from benchmarks.gpu.steps import Speed
    from trainers.loop import Classifier


def step(setting: Setting, variant: str, seconds: float, go: Callable[[], None]) -> dict[str, Any]:
    """Measure the training step in one form."""
    from benchmarks.gpu.loader import plain_loop
    from benchmarks.gpu.steps import GraphedStep, Step, ours, timed

    classifier = setting.classifier()
    made: dict[str, Callable[[Classifier], Step]] = {
        "bare": Step,
        "compiled": partial(Step, compiled="default"),
        "compiled, reduce-overhead": partial(Step, compiled="reduce-overhead"),
        "CUDA graph": GraphedStep,
    }
    measured: dict[str, Callable[[Classifier, float, Callable[[], None]], Speed]] = {
        "as it is": ours,
        "cuDNN autotuned": partial(ours, tuned=True),
        "plain DataLoader": plain_loop,
    }
    if variant in measured:
        facts = measured[variant](classifier, seconds, go).facts()
    else:
        facts = timed(classifier, partial(made[variant], classifier), seconds, go).facts()
    if setting.device == "cuda":
        facts["peak_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return facts


def repeat(setting: Setting, epochs: int) -> dict[str, Any]:
    """Train one seed twice in this process, as it is and with autotuned convolutions."""
    from benchmarks.gpu.steps import autotuned, plan_of
    from trainers.loop import Fit
    from trainers.run import Run

    classifier = setting.classifier()

    def trained(tuned: bool) -> dict[str, Any]:
        run = Run(plan=plan_of(classifier, epochs), seed=SEED)
        if tuned:
            torch.manual_seed(SEED)
            with autotuned():
                score = Fit(classifier, run).to_the_end().score
        else:
            score = classifier.fit(run).score
        losses = repr([point.loss for point in run.points])
        return {"score": score, "losses": hashlib.sha256(losses.encode()).hexdigest()[:12]}

    return {
        name: [trained(tuned) for _ in range(2)]
        for name, tuned in {"as it is": False, "cuDNN autotuned": True}.items()
    }


def _ready() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def main() -> None:
    """Do the one job of the command line."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    setting = Setting(device=asked["device"], data=Path(asked["data"]), cache=Path(asked["cache"]))
    if setting.device == "cpu":
        torch.set_num_threads(1)  # as the product's own loop
    if asked["job"] == "peak":
        from benchmarks.gpu.peak import peak

        facts = peak(setting, asked["seconds"])
    elif asked["job"] == "repeat":
        facts = repeat(setting, asked["epochs"])
    else:
        go = _ready if asked.get("waits") else lambda: None
        facts = step(setting, asked["variant"], asked["seconds"], go)
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
