"""A configuration that was confirmed: what it is, how it was trained, what it scored."""

from dataclasses import dataclass

from search.params import Params
from search.stages.search import BASELINE_SLOT
from search.stages.statistics import estimate
from studies.answer import Estimate
from trainers.groups import Driven


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration that was confirmed: its slot in the search, and fresh scores by seed.

    `batch_size`, `steps_per_epoch` and `setting` are those of its cycles; `driven` is what is
    known of its optimizer.
    """

    slot: int
    params: Params
    search_score: float
    scores: tuple[float, ...]
    test: tuple[float, ...] | None
    batch_size: int
    steps_per_epoch: int
    setting: str | None
    driven: Driven | None

    @property
    def is_baseline(self) -> bool:
        """Whether this is torch's default 1cycle at the proposal."""
        return self.slot == BASELINE_SLOT

    @property
    def name(self) -> str:
        """What it is called: 'baseline' or 'slot 7'."""
        return "baseline" if self.is_baseline else f"slot {self.slot}"

    @property
    def validation(self) -> Estimate:
        """Mean validation score over the fresh seeds, with its interval."""
        return estimate(self.scores)
