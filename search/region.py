"""The optimum as a region: what cycles within noise of the best one have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.confirmation import Direction, Noise, tie_group
from search.rows import params_of
from studies.tables import WorkRow


@dataclass(frozen=True, slots=True)
class Region:
    """The optimum as far as n = 1 seed tells: all full cycles within noise of the best one.

    `slots` are the tie group (search.confirmation.tie_group) of `n_cycles`, the ranges its own.
    """

    slots: tuple[int, ...]
    n_cycles: int
    max_lr: tuple[float, float]
    pct_start: tuple[float, float]
    div_factor: tuple[float, float]

    def __str__(self) -> str:
        return (
            "max_lr {:.3g} to {:.3g}, ".format(*self.max_lr)
            + "pct_start {:.2f} to {:.2f}, ".format(*self.pct_start)
            + "div_factor {:.3g} to {:.3g}".format(*self.div_factor)
        )


def region_of(full: Sequence[WorkRow], noise: Noise, direction: Direction) -> Region:
    """Return the region of finished cycles of the full length."""
    scores = {w.slot: w.score for w in full if w.score is not None}
    slots = tie_group(scores, noise, direction=direction)
    tied = [p for w in full if w.slot in slots and (p := params_of(w)) is not None]

    def reach(name: str) -> tuple[float, float]:
        values = [getattr(params, name) for params in tied]
        return min(values), max(values)

    return Region(
        tuple(slots), len(scores), reach("max_lr"), reach("pct_start"), reach("div_factor")
    )
