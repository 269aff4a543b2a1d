"""What is written of a run that ended, and what an exception says about an attempt."""

import math
import re
import sys

from search.queue.work import Ended
from studies.definition import Study
from studies.limits import MOST_SCORE
from studies.states import BROKEN, FailureKind, RunOutcome
from trainers.calls.audit import AuditError
from trainers.errors import DataError, UserError
from trainers.groups import Driven
from trainers.run import Run, RunResult


def ended_of(
    run: Run,
    result: RunResult,
    *,
    study: Study,
    judged: bool,
    device: str,
    seconds: float,
    resumed: bool = False,
) -> Ended:
    """Return how a run ended; `judged`: a cycle, which has a score.

    `seconds` are those that fit() took here. What a loop counts itself is taken for a run that was
    `resumed`, of which an earlier worker had a part. Images that a loop does not count are those
    of its steps. Raises AuditError for a cycle that completed without a score.
    """
    outcome = _outcome(run, result, study=study, judged=judged)
    score, sealed = (result.score, result.sealed_score) if judged else (None, None)
    if outcome in BROKEN and judged:
        score = study.diverged_value
        sealed = score if run.sealed_split is not None else None
    elif sealed is not None and not _is_measured(sealed, study):
        sealed = study.diverged_value
    if resumed and seconds < result.seconds < math.inf:
        seconds = result.seconds
    batch_size = study.task.batch_size if run.batch_size is None else run.batch_size
    return Ended(
        outcome=outcome,
        score=None if score is None else float(score),
        sealed_score=None if sealed is None else float(sealed),
        n_steps=result.n_steps,
        n_images=result.n_images or result.n_steps * batch_size,
        seconds=seconds,
        device=device,
        diverged=run.diverged_at,
        points=() if judged else run.points,
        driven=_driven(run),
    )


def _outcome(run: Run, result: RunResult, *, study: Study, judged: bool) -> RunOutcome:
    if run.diverged():
        return "diverged"
    if not judged:
        return "completed"
    if result.score is None:
        raise AuditError("the loop completed a cycle without a score")
    # Not `>`: nothing compares with NaN.
    if not abs(result.score) <= MOST_SCORE:
        return "score no number"
    return "completed" if _is_measured(result.score, study) else "did not learn"


def _driven(run: Run) -> Driven | None:
    """Return what is known of the optimizer of a run; its rates at least, where it took steps."""
    if run.plan.driven:
        return run.plan.driven[-1]
    if not run.points or not run.points[0].lr:
        return None
    first = run.points[0]
    ratios = (1.0, *(lr / first.lr for lr in first.other_lrs))
    return Driven(name=None, adaptive=None, has_momentum=None, lr_ratios=ratios)


def _is_measured(score: float, study: Study) -> bool:
    """Whether a score is a number, and better than that of a cycle that broke."""
    assert study.diverged_value is not None
    gain = score - study.diverged_value
    return abs(score) <= MOST_SCORE and (gain > 0 if study.direction == "maximize" else gain < 0)


# torch raises a plain RuntimeError, told by its words only.
_KILLED_LOADER = re.compile(r"DataLoader worker .* killed by signal")


def failure_kind(error: Exception) -> FailureKind | None:
    """Return which kind of failure an exception is; it says nothing about the configuration.

    None for what the user must fix, unless that is the data. torch raises OutOfMemoryError for
    GPUs, and a RuntimeError of its CPU allocator.
    """
    from PIL import UnidentifiedImageError

    torch = sys.modules.get("torch")  # what was never imported has raised nothing
    memory = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    if isinstance(error, memory) or "CPUAllocator" in str(error):
        return FailureKind.MEMORY
    # Before the bases: DataError is a UserError, and Pillow's error an OSError.
    if isinstance(error, (DataError, UnidentifiedImageError)):
        return FailureKind.DATA
    if isinstance(error, UserError):
        return None
    if isinstance(error, OSError) or _KILLED_LOADER.search(str(error)):
        return FailureKind.INFRASTRUCTURE
    return FailureKind.BUG
