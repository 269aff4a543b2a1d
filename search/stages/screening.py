"""Stage 2: which configurations are trained, at which cycle length."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from search.params import Params
from search.stages.space import Ranges
from search.stages.statistics import Direction, finalists
from studies.definition import Screening
from studies.tables import StudyRow, WorkRow
from trainers.seeding import seed_for

BASELINE_SLOT = 0
"""The first slot is torch's default 1cycle at the proposal."""


def work_of(study: StudyRow, slots: Sequence[int]) -> list[WorkRow]:
    """Return the rows of work of these configurations at the shortest length."""
    return [
        WorkRow(study_id=study.id, stage="search", round=0, length=study.lengths[0], slot=slot)
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

    These are the baseline and the points of a scrambled Sobol sequence (scipy.stats.qmc).
    """
    if slot == BASELINE_SLOT:
        return ranges.baseline()
    if screening.sampler != "qmc" and slot > screening.n_initial:
        return None
    from scipy.stats import qmc

    number = slot - 1
    # scipy calls it rng since 1.15, and still takes the old name.
    sobol = qmc.Sobol(ranges.n_dimensions, scramble=True, seed=seed_for(study_seed, "sobol"))
    return ranges.at(sobol.random_base2(number.bit_length())[number].tolist())


@dataclass(frozen=True, slots=True)
class Standing:
    """One cycle of the search: `score` is None while it is open, and where it was given up."""

    slot: int
    length: int
    ended: bool
    score: float | None


def promote(
    standings: Collection[Standing],
    *,
    screening: Screening,
    n_trials: int,
    direction: Direction,
) -> tuple[int, int] | None:
    """Return slot and length of the next cycle at a greater length, None where there is none yet.

    A length takes ceil(share x number ended at the length before), the best first, up to its
    quota: nobody waits for the last cycle of a length, and few early results promote few. The
    baseline goes first and its place is kept. The shortest length with room comes first.
    """
    lengths, counts = screening.lengths, screening.counts(n_trials)
    for index, share in enumerate(screening.shares):
        before = {s.slot: s for s in standings if s.length == lengths[index]}
        there = {s.slot for s in standings if s.length == lengths[index + 1]}
        n_ended = sum(s.ended for s in before.values())
        room = min(counts[index + 1], screening.kept(share, n_ended)) - len(there)
        scores = {
            slot: s.score
            for slot, s in before.items()
            if s.ended and s.score is not None and slot not in there
        }
        if BASELINE_SLOT in scores and len(there) < counts[index + 1]:
            return BASELINE_SLOT, lengths[index + 1]
        keeps_a_place = any(s.slot == BASELINE_SLOT and not s.ended for s in before.values())
        if room > keeps_a_place and scores:
            return finalists(scores, n=1, direction=direction)[0], lengths[index + 1]
    return None
