"""Stage 2: which configurations are trained, and when their search is over."""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.rows import search_rows
from search.stages.first import first_choices
from search.stages.space import Ranges
from studies.definition import Screening
from studies.states import BROKEN, RunOutcome, RunState, Stage
from studies.tables import StudyRow, WorkRow
from trainers.seeding import seed_for

BASELINE_SLOT = 0
"""The first slot is torch's default 1cycle at the proposal."""


def work_of(row: StudyRow, slots: Sequence[int]) -> list[WorkRow]:
    """Return the rows of work of these configurations."""
    return [
        WorkRow(study_id=row.id, stage=Stage.SEARCH, round=0, epochs=row.epochs, slot=slot)
        for slot in slots
    ]


def given(
    slot: int,
    *,
    screening: Screening,
    study_seed: int,
    ranges: Ranges,
) -> Params | None:
    """Return the configuration of a slot that needs no results, None where the sampler proposes.

    These are the first choices, of which the baseline is the first, and the points of a scrambled
    Sobol sequence (scipy.stats.qmc).
    """
    first = first_choices(ranges)
    if slot < len(first):
        return first[slot]
    number = slot - len(first)
    if screening.sampler != "qmc" and number >= screening.n_initial:
        return None
    return space_filling(number, study_seed=study_seed, ranges=ranges)


def space_filling(number: int, *, study_seed: int, ranges: Ranges) -> Params:
    """Return a configuration of the study's scrambled Sobol sequence; the first has number 0."""
    return ranges.candidates(number + 1, seed=seed_for(study_seed, "sobol"))[-1]


def cycles_of(session: Session, row: StudyRow) -> list[WorkRow]:
    """Return the finished cycles of the search by slot."""
    done = search_rows(row).where(WorkRow.state == RunState.DONE)
    return list(session.scalars(done.order_by(WorkRow.slot)))


def next_slot(session: Session, row: StudyRow) -> int:
    """Return the slot of a configuration that is added: after those there are, or are to come."""
    last = session.scalar(
        select(func.max(WorkRow.slot)).where(
            WorkRow.study_id == row.id, WorkRow.stage == Stage.SEARCH
        )
    )
    return row.n_trials if last is None else last + 1


def conclude(session: Session, row: StudyRow) -> str | None:
    """Return why the search leads to no confirmation, None where it does."""
    cycles = cycles_of(session, row)
    if not any(work.slot == BASELINE_SLOT and work.score is not None for work in cycles):
        return "the baseline was given up, so nothing can be compared with it"
    if all(work.outcome in BROKEN for work in cycles):
        return none_of_use(cycles, row)
    return None


def none_of_use(cycles: Sequence[WorkRow], row: StudyRow) -> str:
    """Return the reason of a study in which no cycle has a usable score: what went wrong in how
    many of them.
    """
    assert row.diverged_value is not None  # measured before the first cycle
    counts = Counter(work.outcome for work in cycles)
    words: dict[RunOutcome, str] = {
        "diverged": "a loss was not finite",
        "score no number": "the score was no number",
        "did not learn": f"the score was no better than diverged_value ({row.diverged_value:g})",
    }
    causes = (f"{text} in {counts[outcome]}" for outcome, text in words.items() if counts[outcome])
    tried = "the range test's proposal"
    if row.edge is None and row.bracket_low is not None:
        tried = f"the range of max_lr, {row.bracket_low:.3g} to {row.bracket_high:.3g}"
    return (
        f"none of its {len(cycles)} cycles has a usable score: {', '.join(causes)}; look at the "
        f"loss and the score of one cycle, and at {tried}"
    )
