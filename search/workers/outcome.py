"""What is written of a run that ended: a cycle that broke is worth chance level."""

import math

from search.queue.work import Ended
from studies.definition import Study
from trainers.calls.audit import AuditError
from trainers.run import Run, RunResult


def ended_of(run: Run, result: RunResult, *, study: Study, judged: bool, device: str) -> Ended:
    """Return how a run ended; `judged`: a cycle, which has a score.

    Raises AuditError for a cycle that completed without one.
    """
    broke = run.diverged() or (judged and _is_worthless(result.score, study))
    score, sealed = (result.score, result.sealed_score) if judged else (None, None)
    if broke and judged:
        score = study.diverged_value
        sealed = score if run.sealed_split is not None else None
    elif _is_worthless(sealed, study):
        sealed = study.diverged_value
    if judged and score is None:
        raise AuditError("the loop completed a cycle without a score")
    return Ended(
        outcome="diverged" if broke else "completed",
        score=score,
        sealed_score=sealed,
        n_steps=result.n_steps,
        n_images=result.n_images,
        seconds=result.seconds,
        device=device,
        diverged=run.diverged_at,
        points=() if judged else run.points,
        readings=run.readings,
    )


def _is_worthless(score: float | None, study: Study) -> bool:
    """Whether a score is no number, or worse than that of a cycle that broke."""
    if score is None:
        return False
    gain = score - study.diverged_value
    worse = gain < 0 if study.direction == "maximize" else gain > 0
    return worse or not math.isfinite(score)
