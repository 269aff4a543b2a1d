"""A table that counts every step it is asked for: what a search trains, in cycles."""

import math
from collections import Counter
from collections.abc import Sequence

from studies.definition import Study
from trainers.onecycle import OneCycle
from trainers.table import Table

_STRIDES = (1, 5, 7, 11)  # of no common divisor with the 12 and 6 sweeps of a recorded family


class Counted:
    """One repetition's view of a table.

    Its sweeps have seeds that follow from `seed` and their number alone: of a recorded family
    none is handed out twice, and all strategies of a repetition see the same ones.
    """

    def __init__(self, table: Table, study: Study, *, seed: int) -> None:
        self._table, self._study, self._seed = table, study, seed
        self._stride = _STRIDES[seed // 1_000 % len(_STRIDES)]
        self._n_swept: Counter[int] = Counter()
        self._of_cycles = self._of_sweeps = 0

    @property
    def cycles(self) -> float:
        """What was trained so far, in cycles of the study's length: sweeps and cycles."""
        return (self._of_cycles + self._of_sweeps) / self._study.cycle_steps

    @property
    def swept(self) -> float:
        """What sweeps took of it."""
        return self._of_sweeps / self._study.cycle_steps

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        """Return the scores of one cycle."""
        self._of_cycles += cycle.total_steps
        return self._table.scores(cycle, epochs=epochs, seed=seed)

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        """Return the losses of the next sweep of that many steps; they count until it breaks."""
        number = self._n_swept[len(lrs)]
        self._n_swept[len(lrs)] += 1
        losses = self._table.losses(lrs, seed=(self._seed + number * self._stride) % 2**31)
        broken = next((n for n, loss in enumerate(losses) if not math.isfinite(loss)), len(lrs))
        self._of_sweeps += min(broken + 1, len(lrs))
        return losses
