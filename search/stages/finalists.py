"""Who races in a confirmation, and what the search says of them."""

from collections.abc import Collection, Iterable, Mapping

from search.queue.rows import params_of
from search.stages.expected import expected_scores
from search.stages.race import Racers
from search.stages.search import BASELINE_SLOT
from search.stages.space import Ranges
from search.stages.statistics import finalists, noise_of_neighbours
from studies.answer import Noise
from studies.definition import Study
from studies.states import BROKEN
from studies.tables import StudyRow, WorkRow


def finalists_of(row: StudyRow, study: Study, works: Mapping[int, WorkRow]) -> list[int]:
    """Return the finalists beside the baseline; the winner of a round before is the first."""
    expected = _expected(row, study, works)
    before = BASELINE_SLOT if row.answer is None else row.answer.winner
    kept = [] if before == BASELINE_SLOT else [before]
    others = {slot: v for slot, v in expected.items() if slot not in (BASELINE_SLOT, *kept)}
    n = max(1, study.confirmation.n_finalists - len(kept))
    return kept + finalists(others, n=n, direction=study.direction)


def racers_of(
    row: StudyRow, study: Study, works: Mapping[int, WorkRow], *, slots: Collection[int]
) -> Racers:
    """Return what the search says of candidates, the baseline first; greater is better."""
    import numpy as np

    expected = _expected(row, study, works)
    noise = search_noise(row, study, works.values())
    deviation = unit_of(row) / 2 if noise is None else noise.deviation
    # Fewer than four single scores were not smoothed (search.stages.expected).
    certain = 0.5 if len(expected) >= 4 else 4.0
    sign = sign_of(row)
    return Racers(
        slots=tuple(slots),
        mean=np.array([sign * expected[slot] for slot in slots]),
        covariance=np.eye(len(slots)) * (certain * deviation) ** 2,
        deviation=deviation,
    )


def sign_of(row: StudyRow) -> float:
    """Return 1 where a greater score is better, -1 where a smaller one is."""
    return 1.0 if row.direction == "maximize" else -1.0


def unit_of(row: StudyRow) -> float:
    """Return what one point is in the metric of a study."""
    return 0.01


def _expected(row: StudyRow, study: Study, works: Mapping[int, WorkRow]) -> dict[int, float]:
    scores = {slot: w.score for slot, w in works.items() if w.score is not None}
    return expected_scores(
        scores, positions(row, study, works.values()), direction=study.direction
    )


def search_noise(row: StudyRow, study: Study, works: Iterable[WorkRow]) -> Noise | None:
    """Return the noise of a seed from the cycles that did not diverge."""
    whole = [w for w in works if w.outcome not in BROKEN]
    scores = {w.slot: w.score for w in whole if w.score is not None}
    return noise_of_neighbours(scores, positions(row, study, whole))


def positions(
    row: StudyRow, study: Study, works: Iterable[WorkRow]
) -> dict[int, tuple[float, ...]]:
    """Return slot -> place in the unit cube of the study's space."""
    ranges = Ranges.of(row, study)
    return {w.slot: ranges.position(p) for w in works if (p := params_of(w)) is not None}
