"""The final models of one start: what came out, and what it says of the next training."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.final.chosen import Chosen
from search.results.metric import Metric
from search.stages.statistics import estimate
from studies.answer import Estimate
from trainers.final import Facts, TrainedOn


@dataclass(frozen=True, slots=True)
class FinalModel:
    """One set of weights; `is_new` is False where an earlier start had written it."""

    path: Path
    facts: Facts
    is_new: bool


@dataclass(frozen=True, slots=True)
class FinalModels:
    """All models of one configuration that were asked for, one for each seed.

    `searched_steps` is the length of this cycle in the search; `loading` are the lines of Python
    that load the first of them.
    """

    study: str
    chosen: Chosen
    trained_on: TrainedOn
    searched_steps: int
    models: tuple[FinalModel, ...]
    loading: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores has to know."""
        return tuple(self.models[0].facts.notes)

    @property
    def metric(self) -> Metric:
        """The study's metric."""
        scores = (score for model in self.models for score in model.facts.scores.values())
        return Metric.of(self.models[0].facts.metric, scores)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the weights were scored on."""
        return tuple(self.models[0].facts.scores)

    def scores(self, split: str) -> Sequence[float]:
        """Return the score of each model on a split."""
        return [model.facts.scores[split] for model in self.models]

    def mean(self, split: str) -> Estimate:
        """Return the mean score over the seeds, with its interval."""
        return estimate(self.scores(split))

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain JSON values; an interval needs two seeds."""
        several = len(self.models) > 1
        return {
            "study": self.study,
            "slot": self.chosen.slot,
            "chosen": self.chosen.why,
            "params": dict(self.chosen.params),
            "trained_on": self.trained_on,
            "metric": self.metric.name,
            "mean": {split: asdict(self.mean(split)) for split in self.splits if several},
            "models": [
                {"path": str(model.path), "new": model.is_new, **asdict(model.facts)}
                for model in self.models
            ],
            "notes": list(self.notes),
            "loading": list(self.loading),
        }
