"""What our loop costs a step beside the same training as a bare loop, in time and in memory.

    python -m benchmarks.training --measure 12                        n rounds, a minute
    python -m benchmarks.training --write docs/benchmarks/training.md from what was recorded

Both train the same net with the same optimizer, loader and schedule. In time they take turns in
one process, each first in every other round; processor time, so that other programs do not count,
without the evaluation. In memory each has a process of its own. Set OMP_NUM_THREADS=1: our loop
trains on one thread, and so does the bare one.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.commands import Flags, at_least, ended
from search.stages.statistics import estimate
from trainers.device import Site, device_name
from trainers.onecycle import OneCycle
from trainers.run import Run
from trainers.training import Training

RECORDED = Path(__file__).parent / "recorded" / "training.json"
STEPS, BATCH, SEED = 100, 64, 0


def net(width: int = 14) -> nn.Module:
    """Return a net of 4 convolutions: about 10 ms a step on one core."""
    layers: list[nn.Module] = []
    for channels in (3, width, width, width):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """Return SGD with momentum, as anybody writes it."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy."""
    return functional.cross_entropy(model(batch[0]), batch[1])


def data(n: int) -> TensorDataset:
    """Return noise of the shape of small images."""
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(n, 3, 12, 12, generator=generator)
    return TensorDataset(images, torch.randint(10, (n,), generator=generator))


TRAIN = data(STEPS * BATCH)
TRAINING = Training(
    model=net,
    optimizer=optimizer_of,
    data={"train": TRAIN, "validation": data(BATCH)},
    batch_size=BATCH,
    loss=loss_of,
    score="accuracy",
)
PLAN = OneCycle(max_lr=0.1, total_steps=STEPS)


def bare() -> float:
    """Train as anybody writes it; return seconds of the processor per step."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model = net()
    optimizer = optimizer_of(model)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=STEPS)
    loader = DataLoader(TRAIN, batch_size=BATCH, shuffle=True, drop_last=True)
    losses, clock = [], []
    for step, batch in enumerate(loader):
        clock.append(time.process_time())
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step + 1 < STEPS:
            scheduler.step()
    return (clock[-1] - clock[0]) / (STEPS - 1)


def ours() -> float:
    """Train by our loop; return seconds of the processor per step."""
    loop = TRAINING.trainer(Site(device="cpu", data=None, cache=Path("unused")))
    clock: list[float] = []

    def asked() -> bool:
        clock.append(time.process_time())  # before each step
        return False

    loop.fit(Run(plan=PLAN, seed=SEED, stop_asked=asked))
    return (clock[-1] - clock[0]) / (STEPS - 1)


LOOPS: dict[str, Callable[[], float]] = {"bare": bare, "ours": ours}


def peak_mib(name: str) -> list[float]:
    """Return the peak memory of a process that trains once by one of the loops, and how much of
    it came with the training.
    """
    command = [sys.executable, "-m", "benchmarks.training", "--peak", name]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(number) for number in ended.stdout.split()]


def _peak() -> float:
    # Not ru_maxrss, which a process inherits from the one that starts it (getrusage(2)).
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(rounds: int) -> None:
    """Let the two take turns, and keep what came out."""
    times: dict[str, list[float]] = {name: [] for name in LOOPS}
    for loop in LOOPS.values():
        loop()  # what is loaded and allocated once
    for number in range(rounds):
        for name in sorted(LOOPS, reverse=bool(number % 2)):
            times[name].append(1e3 * LOOPS[name]())
    peaks = {name: [peak_mib(name) for _ in range(3)] for name in LOOPS}
    RECORDED.write_text(
        json.dumps(
            {
                "versions": f"torch {torch.__version__.partition('+')[0]}, "
                f"Python {platform.python_version()}, {device_name('cpu')}, one thread, "
                f"{os.cpu_count()} cores",
                "ms": {name: [round(t, 4) for t in each] for name, each in times.items()},
                "peak_mib": {
                    name: [[round(p, 2) for p in both] for both in each]
                    for name, each in peaks.items()
                },
            },
            indent=1,
        )
        + "\n"
    )


def page() -> str:
    """Return the table of what was recorded."""
    kept = json.loads(RECORDED.read_text())
    ms = kept["ms"]
    peaks = {n: [peak for peak, _ in each] for n, each in kept["peak_mib"].items()}
    grown = {n: [more for _, more in each] for n, each in kept["peak_mib"].items()}
    ratios = [a / b for a, b in zip(ms["ours"], ms["bare"], strict=True)]
    ratio = estimate(ratios)
    rows = [
        f"| {name} | {statistics.median(ms[name]):.2f} | {min(ms[name]):.2f} | "
        f"{statistics.median(peaks[name]):.0f} | {statistics.median(grown[name]):.1f} |"
        for name in ("bare", "ours")
    ]
    memory = statistics.median(peaks["ours"]) / statistics.median(peaks["bare"])
    return "\n".join(
        [
            "# Our loop beside a bare one",
            "",
            "Written by `python -m benchmarks.training --write docs/benchmarks/training.md`; "
            "not edited by hand.",
            "",
            f"A net of 4 convolutions in batches of {BATCH}, {STEPS} steps a turn; the two take "
            f"turns. {kept['versions']}.",
            "",
            "| loop | processor time of a step in ms, median | fastest | peak memory in MiB | "
            "of it by the training |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"Time, ours over bare: median {statistics.median(ratios):.3f}, mean "
            f"{ratio.mean:.3f}, 95 % t interval [{ratio.low:.3f}, {ratio.high:.3f}], "
            f"n = {ratio.n} turns. Memory: {memory:.3f} (median of "
            f"{len(peaks['ours'])} processes each).",
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or write the page; return the exit code."""
    flags = Flags("training", __doc__)
    flags.add_argument("--measure", type=at_least(1), metavar="ROUNDS")
    flags.add_argument("--write", type=Path, metavar="PAGE")
    flags.add_argument("--peak", choices=LOOPS)
    return ended(partial(_measured, flags.parse_args(argv)))


def _measured(asked: argparse.Namespace) -> None:
    if asked.peak:
        before = _peak()
        LOOPS[asked.peak]()
        print(_peak(), _peak() - before)
        return
    if asked.measure:
        measure(asked.measure)
    if asked.write:
        asked.write.write_text(page())
    else:
        print(page())


if __name__ == "__main__":
    sys.exit(main())
