"""Stage 2: which configurations are trained, at which cycle length."""

from studies.tables import StudyRow, WorkRow

BASELINE_SLOT = 0
"""The first slot is torch's default 1cycle at the proposal."""


def work_of(study: StudyRow, *, epochs: int) -> list[WorkRow]:
    """Return the rows of work of the search: one per configuration."""
    return [
        WorkRow(study_id=study.id, stage="search", round=0, length=epochs, slot=slot)
        for slot in range(study.n_trials)
    ]
