"""What came out of a study: read from the database, for the terminal, the report and programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from search.errors import NoResultError
from search.params import Params
from search.queue.rows import done_rows, params_of
from search.results.metric import Metric
from search.results.region import Region, region_of
from search.results.spent import StageSpent, spent
from search.stages import range_test
from search.stages.screening import BASELINE_SLOT
from search.stages.statistics import (
    Comparison,
    Direction,
    Estimate,
    Noise,
    compare,
    estimate,
    finalists,
    noise_of_replicates,
)
from studies.database import reading
from studies.tables import StudyRow, WorkRow
from trainers.onecycle import OneCycle
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import RangeTestResult


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration that was confirmed: its slot in the search, and fresh scores by seed."""

    slot: int
    params: Params
    search_score: float
    scores: tuple[float, ...]
    test: tuple[float, ...] | None

    @property
    def is_baseline(self) -> bool:
        """Whether this is torch's default 1cycle at the proposal."""
        return self.slot == BASELINE_SLOT

    @property
    def validation(self) -> Estimate:
        """Mean validation score over the fresh seeds, with its interval."""
        return estimate(self.scores)


@dataclass(frozen=True, slots=True)
class Screen:
    """The finished cycles of one length of the search, n = 1 seed each."""

    epochs: int
    n_cycles: int
    n_diverged: int
    spread: float


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The answer of a finished study, with what it rests on.

    `batch_size` and `steps_per_epoch` are the winner's. `range_test` is what the sweeps at the
    baseline's batch size say; `range_tests`, by batch size, those of each that was searched.
    `comparison` is winner minus baseline on the test split, None where the baseline won or nothing
    was scored there; `challenge` the best finalist minus baseline on the validation split.
    """

    name: str
    spec: str
    direction: str
    metric: Metric
    range_test: Proposal
    range_tests: dict[int, Proposal]
    epochs: int
    steps_per_epoch: int
    batch_size: int
    n_trials: int
    n_diverged: int
    screens: tuple[Screen, ...]
    candidates: tuple[Candidate, ...]
    winner: Candidate
    comparison: Comparison | None
    challenge: Comparison | None
    n_comparisons: int
    importances: dict[str, float]
    noise: Noise
    search_noise: Noise | None
    region: Region
    schedules: dict[int, list[tuple[int, float]]]
    spent: tuple[StageSpent, ...]

    @property
    def bracket(self) -> tuple[float, float]:
        """The range of max_lr that was searched, at the winner's batch size."""
        said = self.range_tests.get(self.batch_size, self.range_test)
        return said.low, said.high

    @property
    def noise_floor(self) -> float | None:
        """How much of the variance over the configurations of the lowest length is a seed's."""
        spread = self.screens[0].spread
        if self.search_noise is None or not spread:
            return None
        return min(1.0, self.search_noise.deviation**2 / spread**2)

    @property
    def baseline(self) -> Candidate:
        """Torch's default 1cycle at the proposal."""
        return next(c for c in self.candidates if c.is_baseline)

    def ranked(self) -> list[Candidate]:
        """Return the candidates, best mean validation score first."""
        best_first = -1 if self.direction == "maximize" else 1
        return sorted(self.candidates, key=lambda c: best_first * c.validation.mean)

    @property
    def plan(self) -> OneCycle:
        """The winner's cycle."""
        return self.winner.params.plan(self.epochs * self.steps_per_epoch)

    def verdict(self) -> str:
        """Return the answer to 'is it better than the default?' in one or two sentences."""
        if self.comparison is None:
            return self._verdict_on_validation()
        difference, metric = self.comparison.difference, self.metric
        text = f"Winner minus baseline on the test split: {metric.estimate(difference)}."
        if self.comparison.shown:
            better = (difference.mean > 0) == (self.direction == "maximize")
            if better:
                return f"The winner is better. {text}"
            return f"The baseline is better after all: take it. {text}"
        return (
            f"No difference is shown. {text} With {difference.n} seeds a true difference of "
            f"{metric.difference(self.comparison.detectable)} would have shown 4 times out of 5."
        )

    def _verdict_on_validation(self) -> str:
        n, challenge = self.winner.validation.n, self.challenge
        said = "" if challenge is None else self.metric.estimate(challenge.difference)
        if self.winner.is_baseline:
            text = (
                "The baseline is the answer: no finalist had a better mean validation score "
                f"over {n} fresh seeds."
            )
            return f"{text} Best finalist minus baseline on validation: {said}." if said else text
        return (
            f"The winner had the best mean validation score over {n} fresh seeds, and nothing was "
            f"scored on a test split. Winner minus baseline on validation: {said}; choosing the "
            "best makes that look greater than it is."
        )

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        document = asdict(self)
        document["metric"] = self.metric.name
        document["winner"] = self.winner.slot
        document["verdict"] = self.verdict()
        document["noise_floor"] = self.noise_floor
        plan = self.plan
        document["onecycle_lr"] = {
            "max_lr": plan.max_lr,
            "pct_start": plan.pct_start,
            "div_factor": plan.div_factor,
            "final_div_factor": plan.final_div_factor,
            "total_steps": plan.total_steps,
        }
        for candidate, shown in zip(self.candidates, document["candidates"], strict=True):
            shown["params"] = candidate.params.searched()
        return document


def load_result(engine: Engine, name: str) -> StudyResult:
    """Return the answer of a finished study; raise NoResultError for one that has none."""
    with reading(engine) as session:
        row = session.scalars(select(StudyRow).where(StudyRow.name == name)).one()
        return result_of(session, row, range_test.measured_at_all(session, row))


def result_of(session: Session, row: StudyRow, measured: RangeTestResult) -> StudyResult:
    """Return the answer of a finished study, given what its sweeps `measured` at all sizes.

    Raises NoResultError for one that has none.
    """
    if row.stage == "failed":
        reason = (row.result or {}).get("reason")
        raise NoResultError(f"study {row.name!r} ended without a result: {reason}")
    if row.stage != "finished" or row.result is None:
        raise NoResultError(f"study {row.name!r} is not finished: it is in its {row.stage}")
    result = row.result
    search = done_rows(session, row.id, "search")
    confirmed = done_rows(session, row.id, "confirmation")
    confirmed = [w for w in confirmed if w.round == confirmed[-1].round]
    full = [w for w in search if w.length == row.lengths[-1]]
    screens = tuple(
        _screen(length, [w for w in search if w.length == length]) for length in row.lengths
    )
    search_scores = {w.slot: w.score for w in full if w.score is not None}
    candidates = tuple(_candidates(confirmed, search_scores, result["test"]))
    comparisons = [_comparison(values) for values in result["comparisons"]]
    noise = noise_of_replicates({c.slot: c.scores for c in candidates})
    found = result.get("search_noise")
    direction: Direction = "maximize" if row.direction == "maximize" else "minimize"
    winner = next(c for c in candidates if c.slot == result["winner"])
    size = winner.params.batch_size
    steps_per_epoch = row.steps_per_epoch
    if size is not None:
        steps_per_epoch = int((row.batch_sizes or {})[str(size)]["steps_per_epoch"])
    said = measured.proposal
    assert said is not None
    return StudyResult(
        name=row.name,
        spec=row.spec,
        direction=row.direction,
        metric=Metric(row.metric),
        range_test=said,
        range_tests=_proposals(row, measured),
        epochs=row.lengths[-1],
        steps_per_epoch=steps_per_epoch,
        batch_size=row.batch_size if size is None else size,
        n_trials=screens[0].n_cycles,
        n_diverged=screens[0].n_diverged,
        screens=screens,
        candidates=candidates,
        winner=winner,
        comparison=comparisons[-1] if result.get("compared", comparisons) else None,
        challenge=_challenge(confirmed, result["winner"], direction),
        n_comparisons=len(comparisons),
        importances=result.get("importances", {}),
        noise=noise,
        search_noise=None if found is None else Noise(**found),
        region=region_of(full, noise, direction),
        schedules={
            int(slot): [(int(step), float(lr)) for step, lr in points]
            for slot, points in result["schedules"].items()
        },
        spent=tuple(spent(session, row)),
    )


def _proposals(row: StudyRow, measured: RangeTestResult) -> dict[int, Proposal]:
    """Return what the sweeps say by batch size, the baseline's first; none where not searched."""
    if not row.batch_sizes:
        return {}
    found = {row.batch_size: measured, **measured.others}
    return {n: each.proposal for n, each in found.items() if each.proposal is not None}


def _screen(epochs: int, works: Sequence[WorkRow]) -> Screen:
    return Screen(
        epochs=epochs,
        n_cycles=len(works),
        n_diverged=sum(w.outcome == "diverged" for w in works),
        spread=_deviation([w.score for w in works if w.score is not None]),
    )


def _candidates(
    confirmed: list[WorkRow], search_scores: dict[int, float], test: dict[str, list[float]]
) -> list[Candidate]:
    found = []
    for slot in dict.fromkeys(w.candidate for w in confirmed):
        rows = [w for w in confirmed if w.candidate == slot]
        params = params_of(rows[0])
        assert slot is not None
        assert params is not None
        sealed = test.get(str(slot))
        found.append(
            Candidate(
                slot=slot,
                params=params,
                search_score=search_scores[slot],
                scores=tuple(w.score for w in rows if w.score is not None),
                test=None if sealed is None else tuple(sealed),
            )
        )
    return found


def _challenge(
    confirmed: Sequence[WorkRow], winner: int, direction: Direction
) -> Comparison | None:
    """Return the best finalist minus the baseline on validation, over the seeds they share."""
    scores: dict[int, dict[int, float]] = {}
    for w in confirmed:
        if w.candidate is not None and w.replicate is not None and w.score is not None:
            scores.setdefault(w.candidate, {})[w.replicate] = w.score
    others = {s: fmean(by.values()) for s, by in scores.items() if s != BASELINE_SLOT}
    best = finalists(others, n=1, direction=direction) if winner == BASELINE_SLOT else [winner]
    if not best:
        return None
    challenger, baseline = scores[best[0]], scores[BASELINE_SLOT]
    shared = sorted(set(challenger) & set(baseline))
    if len(shared) < 2:
        return None
    return compare([challenger[s] for s in shared], [baseline[s] for s in shared])


def _comparison(values: dict[str, Any]) -> Comparison:
    return Comparison(Estimate(**values["difference"]), values["detectable"])


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
