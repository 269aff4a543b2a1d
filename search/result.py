"""What came out of a study: read from the database, for the terminal, the report and programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from search import range_test
from search.confirmation import (
    Comparison,
    Direction,
    Estimate,
    Noise,
    estimate,
    noise_of_replicates,
    tie_group,
)
from search.errors import NoResultError
from search.metric import Metric
from search.rows import done_rows, params_of
from search.screening import BASELINE_SLOT
from search.space import Params
from search.spent import StageSpent, spent
from studies.database import reading
from studies.tables import StudyRow, WorkRow
from trainers.judgement import Proposal
from trainers.onecycle import OneCycle


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
class Region:
    """The optimum as far as n = 1 seed tells: all full cycles within noise of the best one.

    `slots` are the tie group (search.confirmation.tie_group) of `n_cycles`, the ranges its own.
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


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The answer of a finished study, with what it rests on.

    `batch_size` and `steps_per_epoch` are the winner's. `range_test` is what the sweeps at the
    baseline's batch size say; `range_tests`, by batch size, those of each that was searched.
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
        n = self.winner.validation.n
        if self.comparison is None:
            return (
                f"The baseline is the answer: no finalist had a better mean validation score "
                f"over {n} fresh seeds. torch's defaults at the proposed max_lr were as good."
            )
        difference, metric = self.comparison.difference, self.metric
        text = (
            f"Winner minus baseline on the test split: "
            f"{metric.difference(difference.mean, sign='+')}, 95 % interval "
            f"[{metric.signed(difference.low)}, {metric.signed(difference.high)}], "
            f"{difference.n} paired seeds."
        )
        if self.comparison.shown:
            better = (difference.mean > 0) == (self.direction == "maximize")
            if better:
                return f"The winner is better. {text}"
            return f"The baseline is better after all: take it. {text}"
        return (
            f"No difference is shown. {text} With {difference.n} seeds a true difference of "
            f"{metric.difference(self.comparison.detectable)} would have shown 4 times out of 5."
        )

    def at_bound(self) -> str | None:
        """Return what to do when the winner's max_lr lies at a bound of the bracket."""
        low, high = self.bracket
        value = self.winner.params.max_lr
        if low * 1.1 < value < high / 1.1:
            return None
        side = "lower" if value <= low * 1.1 else "upper"
        return (
            f"The best max_lr lies at the {side} bound of the bracket. A new study measures a new "
            f"one: python -m search.run --study {self.spec} --name {self.name}-2 --seed 1"
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
        if row.stage == "failed":
            reason = (row.result or {}).get("reason")
            raise NoResultError(f"study {name!r} ended without a result: {reason}")
        if row.stage != "finished" or row.result is None:
            raise NoResultError(f"study {name!r} is not finished: it is in its {row.stage}")
        return _result(session, row, row.result)


def _result(session: Session, row: StudyRow, result: dict[str, Any]) -> StudyResult:
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
    proposals = _proposals(session, row)
    winner = next(c for c in candidates if c.slot == result["winner"])
    size = winner.params.batch_size
    steps_per_epoch = row.steps_per_epoch
    if size is not None:
        steps_per_epoch = int((row.batch_sizes or {})[str(size)]["steps_per_epoch"])
    return StudyResult(
        name=row.name,
        spec=row.spec,
        direction=row.direction,
        metric=Metric(row.metric),
        range_test=proposals[row.batch_size],
        range_tests=proposals if row.batch_sizes else {},
        epochs=row.lengths[-1],
        steps_per_epoch=steps_per_epoch,
        batch_size=row.batch_size if size is None else size,
        n_trials=screens[0].n_cycles,
        n_diverged=screens[0].n_diverged,
        screens=screens,
        candidates=candidates,
        winner=winner,
        comparison=comparisons[-1] if result.get("compared", comparisons) else None,
        n_comparisons=len(comparisons),
        importances=result.get("importances", {}),
        noise=noise,
        search_noise=None if found is None else Noise(**found),
        region=_region(full, noise, direction),
        schedules={
            int(slot): [(int(step), float(lr)) for step, lr in points]
            for slot, points in result["schedules"].items()
        },
        spent=tuple(spent(session, row)),
    )


def _proposals(session: Session, row: StudyRow) -> dict[int, Proposal]:
    """Return what the sweeps say by batch size, the baseline's first."""
    sizes = range_test.batch_sizes(row)
    found = {n: range_test.measured(session, row, batch_size=n).proposal for n in sizes}
    return {n: said for n, said in found.items() if said is not None}


def _region(full: Sequence[WorkRow], noise: Noise, direction: Direction) -> Region:
    scores = {w.slot: w.score for w in full if w.score is not None}
    slots = tie_group(scores, noise, direction=direction)
    tied = [p for w in full if w.slot in slots and (p := params_of(w)) is not None]

    def reach(name: str) -> tuple[float, float]:
        values = [getattr(params, name) for params in tied]
        return min(values), max(values)

    decays = [p.weight_decay for p in tied if p.weight_decay is not None]
    sizes = {p.batch_size for p in tied if p.batch_size is not None}
    return Region(
        slots=tuple(slots),
        n_cycles=len(scores),
        max_lr=reach("max_lr"),
        pct_start=reach("pct_start"),
        div_factor=reach("div_factor"),
        weight_decay=(min(decays), max(decays)) if decays else None,
        batch_sizes=tuple(sorted(sizes)) or None,
    )


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


def _comparison(values: dict[str, Any]) -> Comparison:
    return Comparison(Estimate(**values["difference"]), values["detectable"])


def _deviation(values: Sequence[float]) -> float:
    from statistics import stdev

    return stdev(values) if len(values) > 1 else 0.0
