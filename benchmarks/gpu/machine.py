"""Versions and hardware."""

import platform
import subprocess
import time
from importlib.metadata import version

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.setting import n_cores
from trainers.data import open_splits
from trainers.device import device_name


def machine(bench: Bench, images: str) -> None:
    """Name versions and hardware."""
    import torch

    kind = bench.setting.device
    bench.add(
        "machine",
        device_name(kind),
        {
            "device": kind,
            "images": images,
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "cudnn": torch.backends.cudnn.version() if kind == "cuda" else None,
            "driver": _driver() if kind == "cuda" else None,
            "python": platform.python_version(),
            "cpu": device_name("cpu"),
            "cores": n_cores(),
            "task": repr(bench.setting.task),
        },
    )


def decode(bench: Bench) -> None:
    """Decode the images once, so that no measurement has that in its time."""
    begin, setting = time.perf_counter(), bench.setting
    open_splits(setting.task.data, folder=setting.data, cache=setting.cache)
    bench.add("data", "decoded", {"seconds": round(time.perf_counter() - begin, 1)})


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
