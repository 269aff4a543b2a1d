"""The runs of one round of the confirmation as they are stored: of the race, and in pairs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.queue.rows import done_rows
from search.stages.search import BASELINE_SLOT
from studies.states import BROKEN, RunState, Stage
from studies.tables import StudyRow, WorkRow

FIRST_SLOT = 1
"""Of a round. Versions that opened all runs of a round at once began with 0."""
PAIRS_FROM = 100
"""The first replicate of a pair: those of the race lie below, so no seed both chooses and
tests."""


Pair = tuple[WorkRow, WorkRow]
"""A run of the pick, and the baseline's with the same seed."""


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """The runs of one round, in the order in which they were opened."""

    number: int
    works: tuple[WorkRow, ...] = ()

    @property
    def is_of_before(self) -> bool:
        """Whether an earlier version opened it, all at once."""
        return any(work.slot < FIRST_SLOT for work in self.works)

    @property
    def next_slot(self) -> int:
        """The slot of the next run."""
        return FIRST_SLOT + len(self.works)

    @property
    def race(self) -> list[WorkRow]:
        """The runs of the race."""
        return [w for w in self.works if w.replicate is not None and w.replicate < PAIRS_FROM]

    def n_raced(self, slot: int) -> int:
        """Return how many runs of the race a candidate was given."""
        return sum(work.candidate == slot for work in self.race)

    def pairs(self, pick: int | None = None) -> list[Pair]:
        """Return the pairs of a pick, or all, in the order in which they were opened."""
        by_replicate: dict[int, dict[bool, WorkRow]] = {}
        for work in self.works:
            if work.replicate is not None and work.replicate >= PAIRS_FROM:
                is_baseline = work.candidate == BASELINE_SLOT
                by_replicate.setdefault(work.replicate, {})[is_baseline] = work
        pairs = [(two[False], two[True]) for _, two in sorted(by_replicate.items())]
        return [two for two in pairs if pick in (None, two[0].candidate)]

    @property
    def out_of_the_race(self) -> set[int]:
        """The candidates of which a run of the race was given up, or broke; never the baseline."""
        return {
            work.candidate
            for work in self.race
            if work.candidate not in (None, BASELINE_SLOT)
            and (work.state == RunState.FAILED or work.outcome in BROKEN)
        }

    @property
    def has_lost_baseline(self) -> bool:
        """Whether the baseline's runs are given up one after the other."""
        own = [work for work in self.works if work.candidate == BASELINE_SLOT]
        return len(done(own)) < 2 <= sum(work.state == RunState.FAILED for work in own)


def newest_round(session: Session, row: StudyRow) -> Round:
    """Return the round that was opened last; there is one."""
    works = session.scalars(
        select(WorkRow)
        .where(WorkRow.study_id == row.id, WorkRow.stage == Stage.CONFIRMATION)
        .order_by(WorkRow.round, WorkRow.slot)
    ).all()
    return Round(works[-1].round, tuple(w for w in works if w.round == works[-1].round))


def next_round(session: Session, row: StudyRow) -> Round:
    """Return a round without runs."""
    last = session.scalar(
        select(func.max(WorkRow.round)).where(
            WorkRow.study_id == row.id, WorkRow.stage == Stage.CONFIRMATION
        )
    )
    return Round(0 if last is None else last + 1)


def last_round(session: Session, row: StudyRow) -> list[WorkRow]:
    """Return the finished cycles of the newest round that has any."""
    finished = done_rows(session, row.id, Stage.CONFIRMATION)
    return [work for work in finished if work.round == finished[-1].round]


def done(works: Iterable[WorkRow]) -> list[WorkRow]:
    """Return the runs that have finished with a score."""
    return [w for w in works if w.state == RunState.DONE and w.score is not None]


def whole_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs of which both runs have finished."""
    return [two for two in pairs if len(done(two)) == 2]


def by_candidate(rows: Iterable[WorkRow], column: str) -> dict[int, dict[int, float]]:
    """Return candidate -> replicate -> value of that column."""
    values: dict[int, dict[int, float]] = {}
    for row in rows:
        value = getattr(row, column)
        if row.candidate is not None and row.replicate is not None and value is not None:
            values.setdefault(row.candidate, {})[row.replicate] = value
    return values
