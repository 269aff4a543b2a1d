"""What any workload must have stored of how its cycles learned."""

import pytest

from search.results.result import StudyResult
from trainers.curve import N_WINDOWS


def check_learned(result: StudyResult, *, validation_loss: bool = True) -> None:
    """Check that every cycle has its whole curve: by step, and by epoch with what is computed."""
    n_confirmed = sum(len(candidate.scores) for candidate in result.candidates)
    assert len(result.learned) == result.n_trials + n_confirmed
    for run in result.learned:
        total = run.total_steps if run.diverged_step is None else run.diverged_step + 1
        assert run.steps[-1].step == total
        assert len(run.steps) <= N_WINDOWS
        n_epochs = total // run.steps_per_epoch
        assert [e.step for e in run.epochs][:n_epochs] == [
            run.steps_per_epoch * n for n in range(1, n_epochs + 1)
        ]
        assert all(e.train_loss is not None and e.score is not None for e in run.epochs)
        assert {e.validation_loss is not None for e in run.epochs} <= {validation_loss}
        if run.outcome != "completed":
            continue
        assert run.epochs[-1].score == pytest.approx(run.score), "the last epoch is the score"
        # Two ways to the same: the loop's own mean of its last epoch, and that of its steps.
        begins = [0, *(window.step for window in run.steps)]
        last = [
            (window.step - begin, window.train_loss or 0.0)
            for begin, window in zip(begins, run.steps, strict=False)
            if begin >= total - run.steps_per_epoch
        ]
        mean = sum(n * loss for n, loss in last) / sum(n for n, _ in last)
        assert run.epochs[-1].train_loss == pytest.approx(mean, rel=0.05)
