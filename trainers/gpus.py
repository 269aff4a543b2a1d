"""Which GPUs a process sees: those the user names, and one for each local worker."""

import os
import re

from trainers.errors import DeviceError

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def use_gpus(names: str) -> None:
    """Let this process and its children see only the GPUs of these indices, as in '0,1'.

    They count the GPUs in CUDA_VISIBLE_DEVICES where it is set, as by a cluster's scheduler; else
    those of the machine, in nvidia-smi's order. To be called before CUDA starts. Raises
    DeviceError for another form, an index beyond what is visible, or GPUs that torch does not see.
    """
    chosen = _indices(names)
    visible = os.environ.get(_VISIBLE)
    if visible is None:
        # CUDA's own order is the fastest first, nvidia-smi's is that of the PCI bus.
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ[_VISIBLE] = ",".join(_picked(names, chosen, visible))
    seen = _n_seen()
    if seen != len(chosen):
        import torch

        raise DeviceError(
            f"--gpus {names}: torch {torch.__version__} sees {seen} of these {len(chosen)} GPUs"
        )


def gpu_of(number: int) -> str:
    """Return CUDA_VISIBLE_DEVICES for local worker `number`: one of the visible GPUs in turn."""
    visible, seen = os.environ.get(_VISIBLE), _n_seen()
    assert seen > 0, "a worker on cuda, where torch sees no GPU"
    if visible is None:
        # More workers than GPUs share them: 16 on an H200 did 2.2 times what one did
        # (docs/log.md).
        return str(number % seen)
    return visible.split(",")[number % seen].strip()


def _indices(names: str) -> list[int]:
    if not re.fullmatch("[0-9]+(,[0-9]+)*", names):
        raise DeviceError(f"--gpus {names!r}: must be indices with commas between, as in 0 or 0,1")
    chosen = [int(name) for name in names.split(",")]
    if len(set(chosen)) < len(chosen):
        raise DeviceError(f"--gpus {names}: must name each GPU once")
    return chosen


def _picked(names: str, chosen: list[int], visible: str | None) -> list[str]:
    if visible is None:
        return [str(index) for index in chosen]
    given = [name.strip() for name in visible.split(",") if name.strip()]
    if max(chosen) >= len(given):
        allowed = f"indices 0 to {len(given) - 1}" if given else "no GPU"
        raise DeviceError(f"--gpus {names}: {_VISIBLE}={visible!r} leaves {allowed}")
    return [given[index] for index in chosen]


def _n_seen() -> int:
    """How many GPUs this process and its workers can use between them.

    CUDA shows a process only the first of several MIG instances; each worker may have its own.
    """
    import torch

    seen = torch.cuda.device_count()
    names = os.environ.get(_VISIBLE, "").split(",")
    return len(names) if seen == 1 and names[0].startswith("MIG-") else seen
