"""What a study ended with, as it is stored: an answer, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from studies.params import Value

Split = Literal["test", "validation"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` seeds with its interval (search.stages.statistics.CONFIDENCE)."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Noise:
    """The standard deviation of a score over seeds, and what it was estimated from.

    `replicates`: cycles of one configuration with several seeds; `neighbours`: configurations
    that lie close together, with one seed each; `surrogate`: its posterior mean, from both.
    """

    deviation: float
    freedom: int
    source: Literal["replicates", "neighbours", "surrogate"]


@dataclass(frozen=True, slots=True)
class Looks:
    """How a comparison went that was looked at as its pairs came (search.stages.sequential).

    `planned`: pairs at each look; `n` of these looks were had. `boundary`: standard errors that a
    difference had to exceed at the last one. `deviation`: of the difference of one pair, with its
    degrees of `freedom`. `futile`: it ended because more pairs would hardly have shown anything.
    """

    planned: tuple[int, ...]
    n: int
    boundary: float
    deviation: float
    freedom: int
    futile: bool

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Looks":
        """Return what asdict() wrote."""
        return cls(**{**stored, "planned": tuple(stored["planned"])})


@dataclass(frozen=True, slots=True)
class Comparison:
    """One configuration minus another, paired by seed.

    `detectable` is the true difference that n seeds of this spread would have shown with
    probability search.stages.statistics.POWER; where there were several `looks`, that many pairs
    of which there could have been. `looks` is None where the number of seeds was fixed.
    `split`: where its scores are from; validation where nothing was scored on a test split.
    """

    difference: Estimate
    detectable: float
    looks: Looks | None = None
    split: Split = "test"

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Comparison":
        """Return what asdict() wrote; before 0.3.0 without `looks` and `split`."""
        looks = stored.get("looks")
        return cls(
            Estimate(**stored["difference"]),
            stored["detectable"],
            None if looks is None else Looks.from_json(looks),
            stored.get("split", "test"),
        )

    @property
    def n_planned(self) -> int:
        """How many seeds `detectable` is about."""
        return self.difference.n if self.looks is None else self.looks.planned[-1]

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchEnd:
    """Where a search ended by itself: after `n_cycles` of `at_most`, those under way included.

    One more was expected to gain `gain`, in the unit of the metric. `unvisited` is the slot of a
    configuration that was added then, for it was expected to score better than all before it;
    None where there was none.
    """

    n_cycles: int
    at_most: int
    gain: float
    unvisited: int | None = None


@dataclass(frozen=True, slots=True)
class OneMoreHour:
    """What one more hour at most is expected to buy: so many cycles, their gain in the metric."""

    n_cycles: int
    gain: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What the surrogate expects of the whole range when a study ends.

    `effects`: by parameter, the share of the variance of the expected score that it explains
    alone. `near_best`: by parameter, what the configurations span that are expected to lie within
    the answer's `margin` of the best: lowest and highest, or every value of choices.
    """

    effects: Mapping[str, float]
    near_best: Mapping[str, tuple[Value, ...]]

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Expected":
        """Return what asdict() wrote."""
        spans = {name: tuple(span) for name, span in stored["near_best"].items()}
        return cls(dict(stored["effects"]), spans)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a confirmation concluded.

    `winner` is a slot of the search. `comparisons` are all that were made with the baseline, over
    all rounds; `compared` tells whether this round made the last of them. `test`: sealed scores by
    slot and seed. `schedules`: (step, rate) of each candidate, so that no page needs torch to
    draw them. `choices` names the parameters that are no range, `fixed` those of them that were
    held at one value; None where an earlier version kept no word of it. `importances` is None
    until somebody has computed them, by the method `explained_by`. `search_end`: None where all
    configurations were trained.

    `n_raced`: cycles of the race that chose the winner; None where every finalist was trained with
    every seed.

    `chance` is the probability that what the verdict recommends lies within `margin` of the best,
    in the metric's own unit, `other_chance` that of the other one of winner and baseline; None,
    like `one_more_hour`, where it was not computed.
    """

    winner: int
    comparisons: tuple[Comparison, ...]
    compared: bool
    test: Mapping[int, tuple[float, ...]]
    search_noise: Noise | None
    schedules: Mapping[int, tuple[tuple[int, float], ...]]
    versions: Mapping[str, str]
    choices: tuple[str, ...] | None = None
    fixed: tuple[str, ...] = ()
    importances: Mapping[str, float] | None = None
    n_raced: int | None = None
    search_end: SearchEnd | None = None
    chance: float | None = None
    other_chance: float | None = None
    margin: float | None = None
    one_more_hour: OneMoreHour | None = None
    expected: Expected | None = None
    explained_by: str = "fANOVA"

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain JSON values."""
        return {
            "winner": self.winner,
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "compared": self.compared,
            # JSON's keys are texts; from_json() turns them back.
            "test": {str(slot): list(scores) for slot, scores in self.test.items()},
            "search_noise": None if self.search_noise is None else asdict(self.search_noise),
            "schedules": {str(slot): list(points) for slot, points in self.schedules.items()},
            "versions": dict(self.versions),
            "choices": None if self.choices is None else list(self.choices),
            "fixed": list(self.fixed),
            "importances": None if self.importances is None else dict(self.importances),
            "n_raced": self.n_raced,
            "search_end": None if self.search_end is None else asdict(self.search_end),
            "chance": self.chance,
            "other_chance": self.other_chance,
            "margin": self.margin,
            "one_more_hour": None if self.one_more_hour is None else asdict(self.one_more_hour),
            "expected": None if self.expected is None else asdict(self.expected),
            "explained_by": self.explained_by,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Answer":
        """Return the answer that to_json() wrote, in this version or in an earlier one.

        Studies of before version 0.1.0 may lack `compared` (then each round compared),
        `search_noise`, `versions` and `importances`; those of before 0.2.0 `choices`, `fixed`
        and `n_raced`, and `search_end` where it is None; of before 0.3.0 what follows that.
        """
        comparisons = tuple(Comparison.from_json(each) for each in stored["comparisons"])
        noise, search_end = stored.get("search_noise"), stored.get("search_end")
        hour, expected = stored.get("one_more_hour"), stored.get("expected")
        return cls(
            winner=stored["winner"],
            comparisons=comparisons,
            compared=stored.get("compared", bool(comparisons)),
            test={int(slot): tuple(scores) for slot, scores in stored["test"].items()},
            search_noise=None if noise is None else Noise(**noise),
            schedules={
                int(slot): tuple((int(step), float(lr)) for step, lr in points)
                for slot, points in stored["schedules"].items()
            },
            versions=stored.get("versions", {}),
            choices=None if stored.get("choices") is None else tuple(stored["choices"]),
            fixed=tuple(stored.get("fixed", ())),
            importances=stored.get("importances"),
            n_raced=stored.get("n_raced"),
            search_end=None if search_end is None else SearchEnd(**search_end),
            chance=stored.get("chance"),
            other_chance=stored.get("other_chance"),
            margin=stored.get("margin"),
            one_more_hour=None if hour is None else OneMoreHour(**hour),
            expected=None if expected is None else Expected.from_json(expected),
            explained_by=stored.get("explained_by", "fANOVA"),
        )


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why a study ended without an answer."""

    reason: str


def ending_to_json(ending: Answer | NoAnswer) -> dict[str, Any]:
    """Return what a study ended with as plain JSON values."""
    return {"reason": ending.reason} if isinstance(ending, NoAnswer) else ending.to_json()


def ending_from_json(stored: Mapping[str, Any]) -> Answer | NoAnswer:
    """Return what ending_to_json() wrote."""
    return NoAnswer(stored["reason"]) if "reason" in stored else Answer.from_json(stored)
