"""What torch's objects say of themselves: the call behind a OneCycleLR, and what wraps what."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainers.calls.schedule import Schedule

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import OneCycleLR

# A wrapper, its list of schedulers, and one of these: deeper there is somebody's whole program.
_DEPTH = 3


def schedule_of(scheduler: "OneCycleLR", group: Mapping[str, Any]) -> Schedule:
    """Return the arguments that `scheduler` was made with, as its param group `group` has them.

    Divisors and pct_start are computed back, so they are rounded to 12 digits. Raises
    ScheduleError for arguments that are no numbers of a schedule.
    """
    phases = scheduler._schedule_phases
    total_steps = scheduler.total_steps
    peak, first, last = (float(group[name]) for name in ("max_lr", "initial_lr", "min_lr"))
    momenta = {
        name: float(group[name]) for name in ("base_momentum", "max_momentum") if name in group
    }
    return Schedule(
        max_lr=peak,
        total_steps=total_steps,
        pct_start=_short((phases[0]["end_step"] + 1) / total_steps),
        anneal_strategy="linear" if scheduler._anneal_func_type == "linear" else "cos",
        cycle_momentum=scheduler.cycle_momentum,
        div_factor=_ratio(peak, first),
        final_div_factor=_ratio(first, last),
        three_phase=len(phases) == 3,
        **momenta,
    )


def path_to(name: str, thing: object, wanted: Callable[[object], bool]) -> str | None:
    """Return how to write what is wanted within `thing`, as in 'scheduler._schedulers[1]'.

    The nearest one; None where there is none in its attributes, their lists and their attributes.
    """
    level = [(name, thing)]
    for _ in range(_DEPTH + 1):
        for path, part in level:
            if wanted(part):
                return path
        level = [inner for path, part in level for inner in _parts(path, part)]
    return None


def optimizers_of(optimizer: "Optimizer") -> list["Optimizer"]:
    """Return an optimizer and those that it wraps (as accelerate does), the outermost first."""
    from torch.optim import Optimizer

    there = [optimizer]
    for outer in there:  # which grows on the way
        for _, part in _parts("", outer):
            inner = [part, *(held for _, held in _parts("", part))] if _is_group(part) else [part]
            for one in inner:
                if isinstance(one, Optimizer) and not any(one is known for known in there):
                    there.append(one)
    return there


def runs_hooks(optimizer: object) -> bool:
    """Whether torch's hooks run at its steps: a wrapper may leave Optimizer.__init__ out."""
    return "_optimizer_step_pre_hooks" in getattr(optimizer, "__dict__", {})


def _is_group(thing: object) -> bool:
    return isinstance(thing, (list, tuple, dict))


def _parts(path: str, thing: object) -> Iterator[tuple[str, object]]:
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        yield from ((f"{path}[{number}]", part) for number, part in enumerate(thing))
    elif isinstance(thing, dict):
        yield from ((f"{path}[{name!r}]", part) for name, part in thing.items())
    for name, part in getattr(thing, "__dict__", {}).items():
        yield f"{path}.{name}", part


def _ratio(above: float, below: float) -> float:
    return _short(above / below) if below else float("inf")


def _short(value: float) -> float:
    return float(f"{value:.12g}")
