"""What to write instead: values that torch accepts, and that heal what the lint found."""

import math
from dataclasses import replace

from trainers.calls.schedule import Schedule, Steps

# torch's defaults end a cycle at max_lr / (25 * 1e4).
_USUAL_END = 250_000
# Below max_lr times this stands what was copied from libraries whose final_div_factor divides
# max_lr itself.
LOW_END = 1e-6
# The shortest cycle that an advice names; a warm-up or an anneal has at least 2 steps.
_SHORT_CYCLE, LEAST_PHASE = 10, 2
# Steps are products of floats: 5 / 7 * 7 may be 1e-15 more than 5.
ROUNDING = 1e-9


def written(**values: float | bool) -> str:
    """Return an advice as code; what stands in it is accepted by torch and heals the finding."""
    return f"Write {', '.join(f'{name}={value!r}' for name, value in values.items())}"


def sound_shape(s: Schedule) -> dict[str, float]:
    """Return what gives a cycle room for each of its phases: pct_start, and steps if need be.

    torch's pct_start where that is enough, else the least warm-up.
    """
    total = s.total_steps
    if has_room(total, 0.3, three_phase=s.three_phase):
        return {"pct_start": 0.3}
    least = up(LEAST_PHASE / total)
    if has_room(total, least, three_phase=s.three_phase):
        return {"pct_start": least}
    warm_up = s.pct_start * _SHORT_CYCLE
    kept = (
        isinstance(warm_up, float)  # torch takes no pct_start=1
        and warm_up.is_integer()
        and has_room(_SHORT_CYCLE, s.pct_start, three_phase=s.three_phase)
    )
    return {"total_steps": _SHORT_CYCLE} | ({} if kept else {"pct_start": 0.3})


def reshaped(s: Schedule, steps: Steps | None) -> str:
    """Return how to write a cycle with room for its phases, or to train longer."""
    shape = sound_shape(s)
    if "total_steps" in shape and steps is not None and steps.taken is not None:
        return _longer(steps.taken)
    return written(**shape)


def _longer(taken: int) -> str:
    steps = "1 step has" if taken == 1 else f"{taken:,} steps have"
    return f"Train longer: {steps} no room for a cycle, {_SHORT_CYCLE} have"


def has_room(total: int, pct_start: float, *, three_phase: bool) -> bool:
    """Whether warm-up and last phase have their least number of steps."""
    warm_up = pct_start * total
    left = total + 1 - 2 * warm_up if three_phase else total - warm_up
    return min(warm_up, left) >= LEAST_PHASE - ROUNDING


def meant_end(s: Schedule) -> str:
    """Return what makes final_div_factor count from max_lr, or torch's own last rate."""
    meant = s.final_div_factor / s.div_factor
    if meant > 1 and s.final_div_factor <= 1 / LOW_END:
        advice = written(final_div_factor=_down(meant, digits=6))
        return f"For max_lr / {s.final_div_factor:,.6g} write {advice.removeprefix('Write ')}"
    usual = _USUAL_END / s.div_factor
    if usual > 1:
        return written(final_div_factor=_down(usual, digits=6))
    return written(div_factor=25, final_div_factor=10_000)


def as_taken(s: Schedule, steps: Steps, taken: int) -> str:
    """Return how to plan the steps that are taken; fewer of them may need another warm-up."""
    shape: dict[str, float] = {}
    if not has_room(taken, s.pct_start, three_phase=s.three_phase):
        shape = sound_shape(replace(s, total_steps=taken))
    if "total_steps" in shape:
        return _longer(taken)
    why = f" ({steps.explained_epoch()})" if steps.loader_steps is not None else ""
    if steps.total_steps is not None or steps.loader_steps is None:
        return f"{written(total_steps=taken, **shape)}{why}"
    return f"{written(steps_per_epoch=steps.loader_steps, **shape)}{why}"


def up(value: float) -> float:
    """Round up to two digits."""
    scale = 10.0 ** (1 - math.floor(math.log10(value)))
    return float(f"{math.ceil(value * scale - ROUNDING) / scale:.2g}")


def _down(value: float, *, digits: int) -> float:
    """Round down to so many digits: a divisor that is rounded up may end the cycle too low."""
    scale = 10.0 ** (digits - 1 - math.floor(math.log10(value)))
    return float(f"{math.floor(value * scale + ROUNDING) / scale:.{digits}g}")
