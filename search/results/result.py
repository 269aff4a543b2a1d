"""What came out of a study: read from the database, for the terminal, the report and programs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, stdev
from typing import Any, ClassVar

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from search.errors import NoResultError
from search.params import Params
from search.queue.rows import params_of
from search.results.failures import first_failure
from search.results.metric import Metric
from search.results.region import Region, region_of
from search.results.short import short_text
from search.results.spent import StageSpent, spent
from search.results.trials import Trial, trials_of
from search.stages import range_test
from search.stages.rounds import by_candidate, last_round
from search.stages.search import BASELINE_SLOT, cycles_of
from search.stages.statistics import compare, estimate, finalists, noise_of_replicates
from search.starting.target import RANGE_TEST
from studies.answer import Answer, Comparison, Estimate, Noise, Split
from studies.database import reading
from studies.protocol import trained_on
from studies.states import BROKEN, Direction, Stage
from studies.tables import StudyRow, WorkRow
from trainers.groups import Driven
from trainers.onecycle import OneCycle
from trainers.shown import Shown
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
class StudyResult(Shown):
    """The answer of a finished study, with what it rests on.

    `batch_size`, `steps_per_epoch` and `setting` are the winner's. `proposal` is what the sweeps
    at the baseline's setting say; `proposals`, by setting, those of each that has a range test.
    `choices` are the parameters that are no range, None where that is not known; `fixed` those of
    them that were held at one value. `n_unlearned` of the search's cycles had finite losses and no
    usable score; `trained_on` is 'images' or 'samples'. `spread` is the standard deviation of the
    scores over the search's `n_trials` cycles.
    `driven` is what is known of the winner's optimizer.
    `comparison` is winner minus baseline on the test split, None where the baseline won or nothing
    was scored there; `challenge` the best finalist minus baseline on the validation split.
    `measured` is the range test step by step, `trials` every cycle of the search.
    A notebook shows it; plot() takes "confirmation", "search", "range_test", "schedule" or
    "importance".
    """

    name: str
    spec: str
    direction: Direction
    metric: Metric
    parameters: tuple[str, ...]
    proposal: Proposal
    proposals: dict[str, Proposal]
    epochs: int
    steps_per_epoch: int
    batch_size: int
    setting: str | None
    moving: tuple[str, ...]
    n_trials: int
    n_diverged: int
    n_unlearned: int
    spread: float
    candidates: tuple[Candidate, ...]
    winner: Candidate
    driven: Driven | None
    comparison: Comparison | None
    challenge: Comparison | None
    n_comparisons: int
    importances: Mapping[str, float]
    noise: Noise
    search_noise: Noise | None
    choices: tuple[str, ...] | None
    fixed: tuple[str, ...]
    region: Region
    schedules: Mapping[int, tuple[tuple[int, float], ...]]
    spent: tuple[StageSpent, ...]
    trained_on: str
    # Not compared: a loss that is NaN equals nothing, and all that is concluded stands above.
    measured: RangeTestResult = field(compare=False)
    trials: tuple[Trial, ...] = field(compare=False)
    shown_by: ClassVar[str] = "search.views.notebook.study"

    def __repr__(self) -> str:
        return short_text(self)

    @property
    def bracket(self) -> tuple[float, float]:
        """The range of max_lr that was searched, at the winner's setting."""
        proposal = self.proposals.get(self.setting or "", self.proposal)
        return proposal.low, proposal.high

    @property
    def noise_floor(self) -> float | None:
        """How much of the variance over the configurations is a seed's."""
        if self.search_noise is None or not self.spread:
            return None
        # Both are estimates: the noise may come out above the spread.
        return min(1.0, self.search_noise.deviation**2 / self.spread**2)

    @property
    def baseline(self) -> Candidate:
        """Torch's default 1cycle at the proposal."""
        return next(c for c in self.candidates if c.is_baseline)

    @property
    def recommended(self) -> Candidate:
        """The configuration that the verdict recommends: the winner, unless it lost the test."""
        if self.comparison is None or not self.comparison.shown:
            return self.winner
        better = (self.comparison.difference.mean > 0) == (self.direction == "maximize")
        return self.winner if better else self.baseline

    @property
    def has_test(self) -> bool:
        """Whether anything was scored on a test split; a training may have none."""
        return any(candidate.test is not None for candidate in self.candidates)

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
        margin = "" if challenge is None else self.metric.estimate(challenge.difference)
        if self.winner.is_baseline:
            text = (
                "The baseline is the answer: no finalist had a better mean validation score "
                f"over {n} fresh seeds."
            )
            if not margin:
                return text
            return f"{text} Best finalist minus baseline on validation: {margin}."
        return (
            f"The winner had the best mean validation score over {n} fresh seeds, and nothing was "
            f"scored on a test split. Winner minus baseline on validation: {margin}; choosing the "
            "best makes that look greater than it is."
        )

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        # Without the rows of tables, which have files of their own.
        document = asdict(replace(self, trials=(), measured=self.measured.without_points()))
        del document["trials"], document["measured"]
        document["metric"] = self.metric.name
        document["winner"] = self.winner.slot
        document["verdict"] = self.verdict()
        document["noise_floor"] = self.noise_floor
        # The names that programs read since the first version.
        document["range_test"] = document.pop("proposal")
        document["optimizer"] = document.pop("driven")
        document["range_tests"] = document.pop("proposals")
        document["region"] = {
            "slots": self.region.slots,
            "n_cycles": self.region.n_cycles,
            **self.region.spans,
        }
        plan = self.plan
        document["onecycle_lr"] = {
            **plan.keywords(self.driven),
            "total_steps": plan.total_steps,
        }
        for candidate, shown in zip(self.candidates, document["candidates"], strict=True):
            shown["params"] = dict(candidate.params)
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
    answer = _answer_of(session, row)
    cycles = cycles_of(session, row)
    confirmed = last_round(session, row)
    scores = {work.slot: work.score for work in cycles if work.score is not None}
    candidates = tuple(_candidates(confirmed, scores, answer))
    noise = noise_of_replicates({c.slot: c.scores for c in candidates})
    winner = next(c for c in candidates if c.slot == answer.winner)
    size = winner.params.batch_size
    assert measured.proposal is not None
    return StudyResult(
        name=row.name,
        spec=row.spec,
        direction=row.direction,
        metric=Metric(row.metric),
        parameters=tuple(winner.params),
        proposal=measured.proposal,
        proposals=_proposals(row, measured),
        epochs=row.epochs,
        steps_per_epoch=steps_per_epoch_of(row, winner.params),
        batch_size=row.batch_size if size is None else size,
        setting=row.setting_of(winner.params),
        moving=row.moving,
        n_trials=len(cycles),
        n_diverged=sum(work.outcome == "diverged" for work in cycles),
        n_unlearned=sum(work.outcome in BROKEN[1:] for work in cycles),
        spread=stdev(scores.values()) if len(scores) > 1 else 0.0,
        candidates=candidates,
        winner=winner,
        driven=next((w.driven for w in confirmed if w.candidate == answer.winner), None),
        comparison=_compared(answer, "test"),
        challenge=_compared(answer, "validation")
        or _challenge(confirmed, answer.winner, row.direction),
        n_comparisons=sum(each.split == "test" for each in answer.comparisons),
        importances=answer.importances or {},
        noise=noise,
        search_noise=answer.search_noise,
        choices=answer.choices,
        fixed=answer.fixed,
        region=region_of(cycles, noise, row.direction, answer.choices or ()),
        schedules=answer.schedules,
        spent=tuple(spent(session, row)),
        trained_on=trained_on(row.declared),
        measured=measured,
        trials=tuple(trials_of(session, row)),
    )


def _answer_of(session: Session, row: StudyRow) -> Answer:
    if row.stage == Stage.FAILED:
        raise NoResultError(
            f"study {row.name!r} ended without a result: {row.reason}",
            details=first_failure(session, row),
        )
    if row.budget == RANGE_TEST and row.stage == Stage.SEARCH:
        raise NoResultError(
            f"study {row.name!r} has had its range test alone: `onecycle export` and `onecycle "
            "report` print its first choice, unconfirmed, and `onecycle run` goes on to the search"
        )
    if row.stage != Stage.FINISHED or row.answer is None:
        raise NoResultError(f"study {row.name!r} is not finished: it is in its {row.stage.words}")
    return row.answer


def steps_per_epoch_of(row: StudyRow, params: Params) -> int:
    """Return the optimizer steps of an epoch at a configuration's batch size."""
    setting = row.setting_of(params)
    if setting is None:
        return row.steps_per_epoch
    return int((row.batch_sizes or {})[setting]["steps_per_epoch"])


def _proposals(row: StudyRow, measured: RangeTestResult) -> dict[str, Proposal]:
    """Return what the sweeps say by setting, the baseline's first; none where there is but one."""
    if not row.settings or range_test.has_own_range(row):
        return {}
    every = {next(iter(row.settings)): measured, **measured.others}
    return {n: each.proposal for n, each in every.items() if each.proposal is not None}


def _candidates(
    confirmed: list[WorkRow], search_scores: Mapping[int, float], answer: Answer
) -> Iterator[Candidate]:
    for slot in dict.fromkeys(w.candidate for w in confirmed):
        works = [w for w in confirmed if w.candidate == slot]
        params = params_of(works[0])
        assert slot is not None
        assert params is not None
        yield Candidate(
            slot=slot,
            params=params,
            search_score=search_scores[slot],
            scores=tuple(w.score for w in works if w.score is not None),
            test=answer.test.get(slot),
        )


def _compared(answer: Answer, split: Split) -> Comparison | None:
    """Return what this round compared on a split, None where it did not."""
    last = answer.comparisons[-1] if answer.compared else None
    return last if last is not None and last.split == split else None


def _challenge(
    confirmed: Sequence[WorkRow], winner: int, direction: Direction
) -> Comparison | None:
    """Return the best finalist minus the baseline on validation, over the seeds they share."""
    scores = by_candidate(confirmed, "score")
    others = {s: fmean(by.values()) for s, by in scores.items() if s != BASELINE_SLOT}
    best = finalists(others, n=1, direction=direction) if winner == BASELINE_SLOT else [winner]
    if not best:
        return None
    challenger, baseline = scores[best[0]], scores[BASELINE_SLOT]
    shared = sorted(set(challenger) & set(baseline))
    # One pair has no interval.
    if len(shared) < 2:
        return None
    return compare([challenger[s] for s in shared], [baseline[s] for s in shared])
