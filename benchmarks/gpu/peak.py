"""What the device can do at most: a matrix multiplication, and what an image costs the net."""

import time
from typing import Any

import torch

from benchmarks.gpu.setting import Setting
from trainers.device import synchronize

_SIZE = {"cuda": 8192, "mps": 2048, "cpu": 512}
_TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def peak(setting: Setting, seconds: float) -> dict[str, Any]:
    """Return TFLOP/s of the best multiplication in each precision, and of an image's FLOPs."""
    classifier = setting.classifier()
    rates = {name: _tflops(setting.device, dtype, seconds / 2) for name, dtype in _TYPES.items()}
    return {
        "tflops": {name: round(rate, 3) for name, rate in rates.items()},
        "matrix": _SIZE[setting.device],
        "precision": classifier.precision,
        "gflop_per_image": round(_flops_per_image(classifier) / 1e9, 4),
    }


def _tflops(kind: Any, dtype: torch.dtype, seconds: float) -> float:
    n = _SIZE[kind]
    a, b = (torch.randn(n, n, device=kind, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize(kind)
    best, begin = 0.0, time.perf_counter()
    while not best or time.perf_counter() - begin < seconds:
        started = time.perf_counter()
        for _ in range(10):
            a @ b
        synchronize(kind)
        best = max(best, 10 * 2 * n**3 / (time.perf_counter() - started))
    return best / 1e12


def _flops_per_image(classifier: Any) -> float:
    """Return the FLOPs of forward and backward pass, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    from trainers.factories import load_factory

    model = load_factory(classifier.task.model)().to(classifier.device)
    images, labels = classifier.batch(0, 0, batch_size=8)
    with FlopCounterMode(display=False) as counter:
        classifier.loss(model(images), labels).backward()
    return float(counter.get_total_flops()) / len(labels)
