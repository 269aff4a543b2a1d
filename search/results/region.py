"""The optimum as a region: what cycles within noise of the best one have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.queue.rows import params_of
from search.stages.statistics import Direction, Noise, tie_group
from studies.tables import WorkRow


@dataclass(frozen=True, slots=True)
class Region:
    """The optimum as far as n = 1 seed tells: all full cycles within noise of the best one.

    `slots` are the tie group (search.stages.statistics.tie_group) of `n_cycles`, the ranges its
    own.
    """

    slots: tuple[int, ...]
    n_cycles: int
    max_lr: tuple[float, float]
    pct_start: tuple[float, float]
    div_factor: tuple[float, float]
    weight_decay: tuple[float, float] | None = None
    batch_sizes: tuple[int, ...] | None = None

    def __str__(self) -> str:
        words = [
            "max_lr {:.3g} to {:.3g}".format(*self.max_lr),
            "pct_start {:.2f} to {:.2f}".format(*self.pct_start),
            "div_factor {:.3g} to {:.3g}".format(*self.div_factor),
        ]
        if self.weight_decay is not None:
            words.append("weight_decay {:.3g} to {:.3g}".format(*self.weight_decay))
        if self.batch_sizes is not None:
            words.append("batch_size " + " or ".join(map(str, self.batch_sizes)))
        return ", ".join(words)


def region_of(full: Sequence[WorkRow], noise: Noise, direction: Direction) -> Region:
    """Return the region of finished cycles of the full length."""
    scores = {w.slot: w.score for w in full if w.score is not None}
    slots = tie_group(scores, noise, direction=direction)
    tied = [p for w in full if w.slot in slots and (p := params_of(w)) is not None]

    def reach(name: str) -> tuple[float, float]:
        values = [getattr(params, name) for params in tied]
        return min(values), max(values)

    sizes = {p.batch_size for p in tied if p.batch_size is not None}
    return Region(
        slots=tuple(slots),
        n_cycles=len(scores),
        max_lr=reach("max_lr"),
        pct_start=reach("pct_start"),
        div_factor=reach("div_factor"),
        weight_decay=reach("weight_decay") if tied[0].weight_decay is not None else None,
        batch_sizes=tuple(sorted(sizes)) or None,
    )
