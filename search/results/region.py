"""The optimum as a region: what cycles within noise of the best one have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.queue.rows import params_of
from search.stages.statistics import tie_group
from studies.answer import Noise
from studies.params import Value, span_text, spanned
from studies.states import Direction
from studies.tables import WorkRow


@dataclass(frozen=True, slots=True)
class Region:
    """The optimum as far as n = 1 seed tells: all cycles within noise of the best one.

    `slots` are the tie group (search.stages.statistics.tie_group) of `n_cycles`; `spans` holds by
    name what its parameters span: lowest and highest, or for `choices` every value met, in order.
    """

    slots: tuple[int, ...]
    n_cycles: int
    spans: Mapping[str, tuple[Value, ...]]
    choices: tuple[str, ...] = ()

    @property
    def max_lr(self) -> tuple[float, float]:
        """The lowest and the highest max_lr of the group."""
        low, high = self.spans["max_lr"]
        return float(low), float(high)

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {span_text(name, span, choices=name in self.choices)}"
            for name, span in self.spans.items()
        )


def region_of(
    cycles: Sequence[WorkRow], noise: Noise, direction: Direction, choices: tuple[str, ...] = ()
) -> Region:
    """Return the region of finished cycles; `choices`: the parameters that are no range."""
    scores = {w.slot: w.score for w in cycles if w.score is not None}
    slots = tie_group(scores, noise, direction=direction)
    members = set(slots)  # a list would make this quadratic at thousands of cycles
    tied = [p for w in cycles if w.slot in members and (p := params_of(w)) is not None]
    spans = {
        name: spanned(name, [params[name] for params in tied], choices=name in choices)
        for name in tied[0]
    }
    return Region(tuple(slots), len(scores), spans, choices)
