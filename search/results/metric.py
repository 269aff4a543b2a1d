"""How scores are shown: accuracies in percent and points, anything else as it is."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from search.stages.statistics import estimate
from studies.answer import Estimate
from studies.tables import StudyRow


@dataclass(frozen=True, slots=True)
class Metric:
    """A study's metric by name, and how its numbers are written; `of_100`: its accuracies are
    counted up to 100 already."""

    name: str
    of_100: bool = False

    @classmethod
    def of(cls, name: str, scores: Iterable[float | None]) -> "Metric":
        """Return a metric of which these are scores; accuracies above 1 are counted up to 100."""
        return cls(name, of_100=any(score is not None and score > 1 for score in scores))

    @classmethod
    def of_study(cls, row: StudyRow, scores: Iterable[float | None]) -> "Metric":
        """Return the metric of a stored study with these scores."""
        return cls.of(row.metric, [row.diverged_value, *scores])

    @property
    def factor(self) -> float:
        """What a stored score is multiplied by to be shown."""
        return 100.0 if self.name == "accuracy" and not self.of_100 else 1.0

    @property
    def unit(self) -> str:
        """The unit of a shown score, with the space before it."""
        return " %" if self.name == "accuracy" else ""

    @property
    def highest(self) -> float:
        """The highest shown score that there can be."""
        return 100.0 if self.name == "accuracy" else math.inf

    @property
    def title(self) -> str:
        """The metric with its unit, for headings and axes."""
        return "accuracy in %" if self.name == "accuracy" else self.name

    def value(self, score: float) -> str:
        """Return a score without its unit."""
        return self._digits(score)

    def interval(self, scores: Sequence[float]) -> str:
        """Return 'mean ± half of the 95 % interval' without the unit; of one score itself."""
        estimated = estimate(scores)
        if estimated.n < 2:
            return self._digits(estimated.mean)
        return f"{self._digits(estimated.mean)} ± {self._digits(estimated.half_width)}"

    def signed(self, difference: float) -> str:
        """Return a difference with its sign, without its unit.

        One below 0.005 points has a third digit: an interval that lies above 0 must not touch it.
        """
        if self.name == "accuracy" and 0.0005 <= abs(self.factor * difference) < 0.005:
            return f"{self.factor * difference:+.3f}"
        return self._digits(difference, sign="+")

    def difference(self, size: float, *, sign: str = "") -> str:
        """Return a difference, or a deviation, with its unit (of accuracies: points)."""
        points = " points" if self.name == "accuracy" else ""
        return f"{self._digits(size, sign=sign)}{points}"

    def estimate(self, paired: Estimate) -> str:
        """Return a difference of paired scores with its unit, its interval and its n."""
        return (
            f"{self.difference(paired.mean, sign='+')}, 95 % interval "
            f"[{self.signed(paired.low)}, {self.signed(paired.high)}], n = {paired.n} paired seeds"
        )

    def _digits(self, score: float, *, sign: str = "") -> str:
        if self.name == "accuracy":
            return f"{self.factor * score:{sign}.2f}"
        return f"{score:{sign}.4g}"
