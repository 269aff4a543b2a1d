"""What came out of a study: read from the database, for the terminal, the report and programs."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import stdev
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from search.errors import NoResultError
from search.queue.rows import params_of
from search.results.candidate import Candidate
from search.results.curves import RunCurve, curves_of
from search.results.failures import first_failure
from search.results.importance import untold_reason
from search.results.metric import Metric
from search.results.region import Region, region_of
from search.results.short import short_text
from search.results.spent import StageSpent, spent
from search.results.trials import Trial, trials_of
from search.results.verdict import verdict_text
from search.stages import range_test
from search.stages.rounds import last_round
from search.stages.search import cycles_of
from search.stages.statistics import noise_of_replicates
from search.stages.verdict import Verdict, challenge_of, verdict_of
from search.starting.target import RANGE_TEST
from studies.answer import Answer, Comparison, Expected, Noise, OneMoreHour, SearchEnd, Split
from studies.database import reading
from studies.protocol import trained_on
from studies.states import BROKEN, Direction, Stage
from studies.tables import StudyRow, WorkRow
from trainers.groups import Driven
from trainers.onecycle import OneCycle
from trainers.shown import Shown
from trainers.sweeps.judgement import Proposal
from trainers.sweeps.result import RangeTestResult

if TYPE_CHECKING:
    from pandas import DataFrame

WORTH = 0.25
"""Of the margin of the chance: 0.05 of 0.2 points. A smaller gain is nothing to speak of."""


MOST_CURVES = 2_000
"""Of the best cycles of a search a result holds the curves; `onecycle trials --curves` has all."""


@dataclass(frozen=True, slots=True)
class StudyResult(Shown):
    """The answer of a finished study, with what it rests on.

    `winner` won by validation; what the verdict says to take is `recommended`, and `batch_size`,
    `steps_per_epoch`, `setting`, `driven` and `plan` are that one's. `proposal` is what the sweeps
    at the baseline's setting say; `proposals`, by setting, those of each that has a range test.
    `choices` are the parameters that are no range, None where that is not known; `fixed` those of
    them that were held at one value. `n_unlearned` of the search's cycles had finite losses and no
    usable score; `trained_on` is 'images' or 'samples'. `spread` is the standard deviation of the
    scores over the search's `n_trials` cycles.
    `comparison` is winner minus baseline on the test split, None where the baseline won or nothing
    was scored there; `challenge` the best finalist minus baseline on the validation split.
    `chance` is the probability that `recommended` is within `margin` of the best of the space, in
    the metric's own unit, `other_chance` that of the other one of winner and baseline; None, as
    `one_more_hour` and `expected`, where it was not computed. `search_end`: why the search ended
    before its last configuration, None where it did not.
    `importances` are Optuna's; None, as `expected.effects` are empty, where they say nothing:
    `no_importances` then says why.
    `measured` is the range test step by step, `trials` every cycle of the search, `learned` the
    curves of its MOST_CURVES best and of every cycle of the confirmation.
    A notebook shows it; plot() takes "confirmation", "search", "curves", "range_test", "schedule"
    or "importance".
    """

    name: str
    spec: str
    direction: Direction
    metric: Metric
    parameters: tuple[str, ...]
    proposal: Proposal
    proposals: dict[str, Proposal]
    epochs: int
    moving: tuple[str, ...]
    n_trials: int
    n_diverged: int
    n_unlearned: int
    spread: float
    candidates: tuple[Candidate, ...]
    winner: Candidate
    comparison: Comparison | None
    challenge: Comparison | None
    n_comparisons: int
    n_raced: int | None
    importances: Mapping[str, float] | None
    no_importances: str
    explained_by: str
    expected: Expected | None
    noise: Noise
    search_noise: Noise | None
    choices: tuple[str, ...] | None
    fixed: tuple[str, ...]
    region: Region
    schedules: Mapping[int, tuple[tuple[int, float], ...]]
    spent: tuple[StageSpent, ...]
    trained_on: str
    chance: float | None
    other_chance: float | None
    margin: float | None
    one_more_hour: OneMoreHour | None
    search_end: SearchEnd | None
    # Not compared: a loss that is NaN equals nothing, and all that is concluded stands above.
    measured: RangeTestResult = field(compare=False)
    trials: tuple[Trial, ...] = field(compare=False)
    learned: tuple[RunCurve, ...] = field(compare=False, default=())
    shown_by: ClassVar[str] = "search.views.notebook.study"

    def __repr__(self) -> str:
        return short_text(self)

    def bracket_of(self, candidate: Candidate) -> tuple[float, float]:
        """Return the range of max_lr that was searched at a candidate's setting."""
        proposal = self.proposals.get(candidate.setting or "", self.proposal)
        return proposal.low, proposal.high

    @property
    def noise_floor(self) -> float | None:
        """How much of the variance over the configurations is a seed's."""
        if self.search_noise is None or not self.spread:
            return None
        # Both are estimates: the noise may come out above the spread.
        return min(1.0, self.search_noise.deviation**2 / self.spread**2)

    @property
    def shares(self) -> Mapping[str, float]:
        """The importances that every view tells first: those of the expected score, Optuna's of
        a study from before; none where there is `no_importances`."""
        if self.expected is not None:
            return self.expected.effects
        return self.importances or {}

    @property
    def baseline(self) -> Candidate:
        """Torch's default 1cycle at the proposal."""
        return next(c for c in self.candidates if c.is_baseline)

    @property
    def challenger(self) -> Candidate | None:
        """What the baseline was compared with: the winner, else the best finalist beside it."""
        if not self.winner.is_baseline:
            return self.winner
        return next((c for c in self.ranked() if not c.is_baseline), None)

    @property
    def shown(self) -> Comparison | None:
        """Challenger minus baseline: on the test split where that was read, else on validation."""
        return self.challenge if self.comparison is None else self.comparison

    @property
    def has_comparison(self) -> bool:
        """Whether challenger and baseline were compared on the test split."""
        return self.comparison is not None

    @property
    def outcome(self) -> Verdict:
        """What the comparison says."""
        return verdict_of(self.winner.slot, self.shown, direction=self.direction)

    @property
    def recommended(self) -> Candidate:
        """The answer: the pick where it is shown to be better, else the baseline."""
        return self.winner if self.outcome.takes_pick else self.baseline

    @property
    def alternative(self) -> Candidate | None:
        """The other one of challenger and baseline; None where there is no challenger."""
        return self.baseline if self.outcome.takes_pick else self.challenger

    @property
    def is_worth_an_hour(self) -> bool:
        """Whether one more hour is expected to gain as much as a search goes on for."""
        if self.one_more_hour is None or self.margin is None:
            return False
        return self.one_more_hour.gain >= WORTH * self.margin

    @property
    def has_test(self) -> bool:
        """Whether anything was scored on a test split; a training may have none."""
        return any(candidate.test is not None for candidate in self.candidates)

    def ranked(self) -> list[Candidate]:
        """Return the candidates, best mean validation score first."""
        best_first = -1 if self.direction == "maximize" else 1
        return sorted(self.candidates, key=lambda c: best_first * c.validation.mean)

    @property
    def batch_size(self) -> int:
        """The batch size of the answer."""
        return self.recommended.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """The steps of an epoch under the answer."""
        return self.recommended.steps_per_epoch

    @property
    def setting(self) -> str | None:
        """The setting of the answer, None where there is but one."""
        return self.recommended.setting

    @property
    def driven(self) -> Driven | None:
        """What is known of the answer's optimizer."""
        return self.recommended.driven

    @property
    def plan(self) -> OneCycle:
        """The answer's cycle."""
        return self.recommended.params.plan(self.epochs * self.steps_per_epoch)

    def curves(self) -> "DataFrame":
        """Return the learning curves as a DataFrame: a row for each epoch and window of steps.

        Raises UsageError where pandas is not installed.
        """
        table: Any = self._view().curves(self)
        return table

    def verdict(self) -> str:
        """Return what to take in one sentence, then what that rests on."""
        return verdict_text(self)

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        # Without the rows of tables, which have files of their own.
        bare = replace(self, trials=(), learned=(), measured=self.measured.without_points())
        document = asdict(bare)
        del document["trials"], document["learned"], document["measured"]
        document["metric"] = self.metric.name
        # By slot. `winner` won by validation: the name that programs read since the first version.
        document["winner"] = self.winner.slot
        document["recommended"] = self.recommended.slot
        document["alternative"] = None if self.alternative is None else self.alternative.slot
        document["verdict"] = self.verdict()
        document["batch_size"] = self.batch_size
        document["steps_per_epoch"] = self.steps_per_epoch
        document["setting"] = self.setting
        document["noise_floor"] = self.noise_floor
        if self.no_importances and self.expected is not None:
            document["expected"]["effects"] = None
        # The names that programs read since the first version.
        document["range_test"] = document.pop("proposal")
        document["optimizer"] = None if self.driven is None else asdict(self.driven)
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
            shown["optimizer"] = shown.pop("driven")
        return document


def load_result(engine: Engine, name: str) -> StudyResult:
    """Return the answer of a finished study; raise NoResultError for one that has none."""
    with reading(engine) as session:
        row = session.scalars(select(StudyRow).where(StudyRow.name == name)).one()
        result = result_of(session, row, range_test.measured_at_all(session, row))
        return with_curves(session, row, result)


def result_of(session: Session, row: StudyRow, measured: RangeTestResult) -> StudyResult:
    """Return the answer of a finished study, given what its sweeps `measured` at all sizes.

    Without the curves, which a look at a study does not need. Raises NoResultError for one that
    has none.
    """
    answer = _answer_of(session, row)
    cycles = cycles_of(session, row)
    confirmed = last_round(session, row)
    scores = {work.slot: work.score for work in cycles if work.score is not None}
    candidates = tuple(_candidates(row, confirmed, scores, answer))
    noise = noise_of_replicates({c.slot: c.scores for c in candidates})
    winner = next(c for c in candidates if c.slot == answer.winner)
    assert measured.proposal is not None
    untold = untold_reason(
        n=sum(work.score is not None and work.outcome not in BROKEN for work in cycles),
        n_searched=sum(name not in answer.fixed for name in winner.params),
        computed=answer.importances is not None,
    )
    expected = answer.expected
    return StudyResult(
        name=row.name,
        spec=row.spec,
        direction=row.direction,
        metric=Metric.of_study(row, scores.values()),
        parameters=tuple(winner.params),
        proposal=measured.proposal,
        proposals=_proposals(row, measured),
        epochs=row.epochs,
        moving=row.moving,
        n_trials=len(cycles),
        n_diverged=sum(work.outcome == "diverged" for work in cycles),
        n_unlearned=sum(work.outcome in BROKEN[1:] for work in cycles),
        spread=stdev(scores.values()) if len(scores) > 1 else 0.0,
        candidates=candidates,
        winner=winner,
        comparison=_compared(answer, "test"),
        challenge=_compared(answer, "validation")
        or challenge_of(confirmed, answer.winner, row.direction),
        n_raced=answer.n_raced,
        n_comparisons=sum(each.split == "test" for each in answer.comparisons),
        importances=None if untold else answer.importances,
        no_importances=untold,
        explained_by=answer.explained_by,
        expected=replace(expected, effects={}) if expected and untold else expected,
        noise=noise,
        search_noise=answer.search_noise,
        choices=answer.choices,
        fixed=answer.fixed,
        region=region_of(cycles, noise, row.direction, answer.choices or ()),
        schedules=answer.schedules,
        spent=tuple(spent(session, row)),
        trained_on=trained_on(row.declared),
        chance=answer.chance,
        other_chance=answer.other_chance,
        margin=answer.margin,
        one_more_hour=answer.one_more_hour,
        search_end=answer.search_end,
        measured=measured,
        trials=tuple(trials_of(session, row)),
    )


def with_curves(session: Session, row: StudyRow, result: StudyResult) -> StudyResult:
    """Return a result with the curves of its cycles, of the search MOST_CURVES at most."""
    learned = curves_of(session, row, n_best=MOST_CURVES)
    return replace(result, learned=tuple(learned))


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


def _proposals(row: StudyRow, measured: RangeTestResult) -> dict[str, Proposal]:
    """Return what the sweeps say by setting, the baseline's first; none where there is but one."""
    if not row.settings or range_test.has_own_range(row):
        return {}
    every = {next(iter(row.settings)): measured, **measured.others}
    return {n: each.proposal for n, each in every.items() if each.proposal is not None}


def _candidates(
    row: StudyRow,
    confirmed: list[WorkRow],
    search_scores: Mapping[int, float],
    answer: Answer,
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
            batch_size=params.batch_size or row.batch_size,
            steps_per_epoch=row.steps_per_epoch_of(params),
            setting=row.setting_of(params),
            driven=works[0].driven,
        )


def _compared(answer: Answer, split: Split) -> Comparison | None:
    """Return what this round compared on a split, None where it did not."""
    last = answer.comparisons[-1] if answer.compared else None
    return last if last is not None and last.split == split else None
