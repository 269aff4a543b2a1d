"""Where a run happens: the device, its precision, and what makes it repeat exactly."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs

from trainers.errors import DeviceError

if TYPE_CHECKING:
    import torch

DeviceKind = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]


def cache_folder() -> Path:
    """Return the folder of what can be rebuilt: ONECYCLE_CACHE, else the platform's."""
    named = os.environ.get("ONECYCLE_CACHE")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("onecycle")


def checkpoint_folder(cache: Path) -> Path:
    """Return the folder of checkpoints: ONECYCLE_CHECKPOINTS, else `checkpoints` in the cache.

    It may lie on shared storage: a run then resumes on another host where it stopped.
    """
    named = os.environ.get("ONECYCLE_CHECKPOINTS")
    return Path(named).expanduser() if named else cache / "checkpoints"


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """One place to train: a device, the user's data folder (if any) and the cache folder.

    `precision` is what the study resolved when it was made; None where that is still to do.
    """

    device: DeviceKind
    data: Path | None
    cache: Path
    precision: Precision | None = None


def resolve_device(asked: str) -> DeviceKind:
    """Return the device kind for 'cpu', 'cuda', 'mps' or 'auto' (the fastest one there is).

    Raises DeviceError for a kind that this build of torch or this machine does not have.
    """
    if asked == "cpu":
        return "cpu"  # every torch has it, and a trainer without torch need not load it
    import torch

    # In the order in which 'auto' prefers them.
    present: dict[DeviceKind, bool] = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    here = [kind for kind, there in present.items() if there]
    for kind in here:
        if asked in (kind, "auto"):
            return kind
    problem = "is not there" if asked in present else "is not known"
    raise DeviceError(
        f"device {asked!r} {problem} (torch {torch.__version__}); here: auto, {', '.join(here)}"
    )


def device_name(kind: DeviceKind) -> str:
    """Return the device as its maker calls it."""
    if kind == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    return "Apple GPU" if kind == "mps" else _cpu_name()


def _cpu_name() -> str:
    """Return the processor's name: Linux tells it in /proc/cpuinfo, others by platform."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor()) or "CPU"


def native_precision(kind: DeviceKind) -> Precision:
    """Return bf16 where the device multiplies it in hardware, else fp32 (always on mps).

    On such a CPU bf16 autocast with channels_last was measured 1.9-2.6 times as fast as fp32.
    """
    import torch

    if kind == "cuda":
        # torch counts emulation as support by default, which GPUs before Ampere (8.0) need.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    has = torch.cpu.get_capabilities()
    native = kind == "cpu" and bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return "bf16" if native else "fp32"


@contextmanager
def reproducible(seed: int, kind: DeviceKind) -> Iterator["torch.device"]:
    """Seed torch for one run, on one CPU thread; the caller's generators are put back after it.

    One thread, because sums are taken in another order on another number of threads.
    """
    import torch

    # Named: without a list fork_rng() saves every GPU's generator, and warns where there are many.
    devices = [torch.cuda.current_device()] if kind == "cuda" else []
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.set_num_threads(1 if kind == "cpu" else threads)
        try:
            # benchmark=True picks kernels by their time, so that two runs may take different ones
            # (https://docs.pytorch.org/docs/stable/notes/randomness.html).
            with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
                yield torch.device(kind)
        finally:
            torch.set_num_threads(threads)


def sent(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """Return a tensor on `device`; one of the CPU goes to a CUDA GPU without a wait for it."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    # From pageable memory CUDA first finishes all that it was given; from pinned memory the copy
    # queues like any other work, and torch keeps that memory until it is done (torch's notes on
    # CUDA semantics, "Use pinned memory buffers").
    return tensor.pin_memory().to(device, non_blocking=True)


def synchronize(kind: DeviceKind) -> None:
    """Wait until the device has done what it was given, so that a clock can be read."""
    import torch

    if kind == "cuda":
        torch.cuda.synchronize()
    elif kind == "mps":
        torch.mps.synchronize()
