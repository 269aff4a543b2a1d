"""What is written of a run that ended, and what an exception says about an attempt."""

import re
import sys

from search.queue.work import Ended
from studies.definition import Study
from studies.limits import MOST_SCORE
from studies.states import FailureKind
from trainers.calls.audit import AuditError
from trainers.errors import DataError, UserError
from trainers.groups import Driven
from trainers.run import Run, RunResult


def ended_of(run: Run, result: RunResult, *, study: Study, judged: bool, device: str) -> Ended:
    """Return how a run ended; `judged`: a cycle, which has a score.

    Raises AuditError for a cycle that completed without one.
    """
    assert study.diverged_value is not None
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
        driven=_driven(run),
    )


def _driven(run: Run) -> Driven | None:
    """Return what is known of the optimizer of a run; its rates at least, where it took steps."""
    if run.plan.driven:
        return run.plan.driven[-1]
    if not run.points or not run.points[0].lr:
        return None
    first = run.points[0]
    ratios = (1.0, *(lr / first.lr for lr in first.other_lrs))
    return Driven(name=None, adaptive=None, has_momentum=None, lr_ratios=ratios)


def _is_worthless(score: float | None, study: Study) -> bool:
    """Whether a score is no number, or worse than that of a cycle that broke."""
    if score is None:
        return False
    # Not `>`: nothing compares with NaN, which must count as worthless.
    if not abs(score) <= MOST_SCORE:
        return True
    assert study.diverged_value is not None
    gain = score - study.diverged_value
    return gain < 0 if study.direction == "maximize" else gain > 0


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
